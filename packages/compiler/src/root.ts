/**
 * The small programs in front of a chain's stages, as IR. The root is attached once and never changes, whatever becomes of the
 * chain behind it; at TC one that takes over metadata from XDP may follow, and while two chains stand behind one root, one that
 * tells by their tag which packets belong to which.
 */
import { Helper } from '@tailrace/bpf';
import { type HookModel, hookModels, SK_BUFF } from './hook-model.ts';
import {
  append,
  type BinaryOp,
  type Block,
  type CompareOp,
  createBlock,
  createGraph,
  createNode,
  createSlot,
  type Graph,
  type MemorySize,
  type Space,
  type StackSlot,
  setTerminator,
  type Value,
} from './ir.ts';
import type { Crossing, StatePlacement, TraceRoot } from './placement.ts';

/** The root of an XDP chain, and what may stand behind it. */
export interface XdpRootOptions {
  readonly hook?: 'xdp';
  readonly name: string;
  /** Map reference name of the array that it jumps through. */
  readonly array: string;
  /** The slot that it jumps to, default 0. */
  readonly slot?: number;
  readonly state?: Pick<StatePlacement, 'map'> & {
    /** Offset of the packet's length, u64: where it is told, behind a root that did not. */
    readonly length?: number;
    /** Offset of a u64 that counts packets which found their slot empty. */
    readonly misses: number;
    /** Marks packets that stages tell of. */
    readonly trace?: TraceRoot;
  };
}

/** The root of a TC chain, of either direction, and what may stand behind it. */
export interface TcRootOptions {
  readonly hook: 'tc';
  readonly name: string;
  /** Map reference name of the array that it jumps through. */
  readonly array: string;
  /** The slot that it jumps to, default 0. */
  readonly slot?: number;
  /** Packets that XDP put this tag in front of go to a slot of their own. */
  readonly tagged?: { readonly tag: number; readonly slot: number };
  readonly state?: Pick<StatePlacement, 'map'> & {
    /** Offset of a u64 that counts packets which found their slot empty. */
    readonly misses: number;
    /** Offset of a u64 that counts packets which came without the metadata that `imports` asks for. */
    readonly missing?: number;
    /** As at XDP. */
    readonly trace?: TraceRoot;
  };
  /** Metadata that come over from XDP: they go to `cb` from its start, or zeros do where they are not there. */
  readonly imports?: Pick<Crossing, 'tag' | 'words'>;
}

/** The root of a chain on sockets. */
export interface SocketRootOptions extends Pick<TcRootOptions, 'name' | 'array'> {
  readonly hook: 'skSkb' | 'skMsg' | 'sockOps';
  readonly state?: Pick<StatePlacement, 'map'> & {
    /** Offset of a u64 that counts what found slot 0 empty. */
    readonly misses: number;
  };
}

export type RootOptions = XdpRootOptions | TcRootOptions | SocketRootOptions;

export function lowerRoot(options: RootOptions): Graph {
  const hook = hookModels[options.hook ?? 'xdp'];
  const root = new Root(options.name, hook);
  const { state } = options;
  if ((options.hook === undefined || options.hook === 'xdp') && options.state) {
    const { map, length, trace } = options.state;
    const entry = root.state(map);
    if (length !== undefined) root.store(8, 'map', entry, length, root.call(Helper.xdp_get_buff_len, [root.graph.context]));
    if (trace) root.mark(trace, entry, entry, trace.mark);
  }
  if (options.hook === 'tc' && options.imports) root.imported(options.imports, options.state);
  if (options.hook === 'tc' && options.state?.trace) {
    const { map, trace } = options.state;
    root.mark(trace, root.state(map), root.graph.context, SK_BUFF.cb + trace.mark);
  }
  if (options.hook === 'tc' && options.tagged) root.tagged(options.tagged.tag, options.array, options.tagged.slot, options.slot ?? 0);
  else root.jump(options.array, 'slot' in options ? (options.slot ?? 0) : 0);
  if (state) root.count(state.map, state.misses);
  if (options.hook === 'skSkb') root.dropEnd();
  return root.finish();
}

/** Builds the graph along one line of blocks. */
class Root {
  readonly graph: Graph;
  readonly #hook: HookModel;
  readonly #giveUp: Block;
  #block: Block;

  constructor(name: string, hook: HookModel) {
    this.graph = createGraph(name);
    this.#hook = hook;
    this.#block = this.graph.entry;
    this.#giveUp = createBlock(this.graph);
  }

  constant(value: number): Value {
    return append(this.#block, createNode(this.graph, { kind: 'const', value: BigInt(value) }));
  }

  map(name: string): Value {
    return append(this.#block, createNode(this.graph, { kind: 'map', map: name }));
  }

  call(helper: number, args: Value[], readsStack: readonly StackSlot[] = [], pointer?: Space): Value {
    const effects = { pure: false, movesPacket: false, readsStack, writesStack: [] };
    return append(this.#block, createNode(this.graph, { kind: 'call', helper, args, ...effects, ...(pointer ? { pointer } : {}) }));
  }

  store(size: MemorySize, space: Space, base: Value, offset: number, value: Value): void {
    append(this.#block, createNode(this.graph, { kind: 'store', size, space, base, offset, value }));
  }

  load(size: MemorySize, space: Space, base: Value, offset: number, pointer?: Space): Value {
    return append(this.#block, createNode(this.graph, { kind: 'load', size, space, base, offset, ...(pointer ? { pointer } : {}) }));
  }

  /** The state's address; leaves where there is none. */
  state(name: string): Value {
    const slot = createSlot(this.graph, 4);
    const key = append(this.#block, createNode(this.graph, { kind: 'stackAddress', slot, offset: 0 }));
    this.store(4, 'stack', key, 0, this.constant(0));
    const entry = this.call(Helper.map_lookup_elem, [this.map(name), key], [slot], 'map');
    const there = createBlock(this.graph);
    this.#branch(entry, 'ne', this.constant(0), there, this.#giveUp);
    this.#block = there;
    return entry;
  }

  /**
   * The end of a stream comes as data of no length. Passed on behind data that wait to be read it would hide them, and who reads hears
   * of it anyhow.
   */
  dropEnd(): void {
    const [others, end] = [createBlock(this.graph), createBlock(this.graph)];
    this.#branch(this.load(4, 'context', this.graph.context, SK_BUFF.len), 'ne', this.constant(0), others, end);
    this.#block = end;
    setTerminator(end, { kind: 'return', value: this.constant(this.#hook.verdicts.drop ?? 0) });
    this.#block = others;
  }

  count(map: string, offset: number): void {
    const entry = this.state(map);
    const before = this.load(8, 'map', entry, offset);
    this.store(8, 'map', entry, offset, this.#binary('add', before, this.constant(1)));
  }

  /** Marks one packet in `every` with a number of its own and its first step, all others with 0. `entry` is the state. */
  mark({ every, countdown, sequence }: TraceRoot, entry: Value, base: Value, offset: number): void {
    const space = base === entry ? 'map' : 'skb';
    const [passed, taken, done] = [0, 1, 2].map(() => createBlock(this.graph)) as [Block, Block, Block];
    const left = this.#binary('sub', this.load(4, 'map', entry, countdown), this.constant(1));
    // whatever a program before has left there, it is not more than this one's
    this.#branch(left, 'lt', this.constant(every - 1), passed, taken);

    this.#block = passed;
    this.store(4, 'map', entry, countdown, left);
    this.store(4, space, base, offset, this.constant(0));
    setTerminator(passed, { kind: 'jump', target: done });

    this.#block = taken;
    this.store(4, 'map', entry, countdown, this.constant(every - 1));
    const numbered = this.#binary('add', this.load(4, 'map', entry, sequence), this.constant(1 << 8));
    const number = this.#binary('and', numbered, this.constant(0xffff_ff00));
    this.store(4, 'map', entry, sequence, number);
    this.store(4, space, base, offset, this.#binary('or', number, this.constant(1)));
    setTerminator(taken, { kind: 'jump', target: done });
    this.#block = done;
  }

  /** A tail call; goes on where the slot is empty. */
  jump(array: string, slot: number): void {
    this.call(Helper.tail_call, [this.graph.context, this.map(array), this.constant(slot)]);
  }

  /** A tail call to `slot` for packets behind that tag, to `otherwise` for all others. */
  tagged(tag: number, array: string, slot: number, otherwise: number): void {
    const [tagged, others, done] = [0, 1, 2].map(() => createBlock(this.graph)) as [Block, Block, Block];
    this.#compareTag({ tag, words: 0 }, tagged, others);
    for (const [block, to] of [
      [tagged, slot],
      [others, otherwise],
    ] as const) {
      this.#block = block;
      this.jump(array, to);
      setTerminator(block, { kind: 'jump', target: done });
    }
    this.#block = done;
  }

  /** Copies what XDP put in front of the packet to `cb`. */
  imported({ tag, words }: Pick<Crossing, 'tag' | 'words'>, state: TcRootOptions['state']): void {
    const { context } = this.graph;
    const [tagged, missing, done] = [0, 1, 2].map(() => createBlock(this.graph)) as [Block, Block, Block];
    const start = this.#compareTag({ tag, words }, tagged, missing);
    const places = Array.from({ length: words }, (_, i) => ({ from: 4 + 4 * i, to: SK_BUFF.cb + 4 * i }));

    this.#block = tagged;
    for (const { from, to } of places) this.store(4, 'skb', context, to, this.load(4, 'packet', start, from));
    setTerminator(tagged, { kind: 'jump', target: done });

    this.#block = missing;
    for (const { to } of places) this.store(4, 'skb', context, to, this.constant(0));
    if (state?.missing !== undefined) this.count(state.map, state.missing);
    setTerminator(this.#block, { kind: 'jump', target: done });
    this.#block = done;
  }

  #binary(op: BinaryOp, left: Value, right: Value): Value {
    return append(this.#block, createNode(this.graph, { kind: 'binary', op, width: 64, left, right }));
  }

  /** Leads to `tagged` where that tag and so many words lie in front of the packet; returns where they start. */
  #compareTag({ tag, words }: Pick<Crossing, 'tag' | 'words'>, tagged: Block, others: Block): Value {
    const { context } = this.graph;
    const fits = createBlock(this.graph);
    const start = this.load(4, 'context', context, SK_BUFF.dataMeta, 'packet');
    const end = this.load(4, 'context', context, SK_BUFF.data, 'packet');
    setTerminator(this.#block, { kind: 'check', pointer: start, size: 4 + 4 * words, end, ok: fits, fail: others });
    this.#block = fits;
    this.#branch(this.load(4, 'packet', start, 0), 'eq', this.constant(tag), tagged, others);
    return start;
  }

  #branch(left: Value, op: CompareOp, right: Value, then: Block, otherwise: Block): void {
    setTerminator(this.#block, { kind: 'branch', op, width: 64, left, right, then, else: otherwise, likely: 'then' });
  }

  /** Ends in a pass, wherever it has come to. */
  finish(): Graph {
    for (const block of [this.#block, this.#giveUp]) {
      this.#block = block;
      setTerminator(block, { kind: 'return', value: this.constant(this.#hook.verdicts.pass ?? 0) });
    }
    return this.graph;
  }
}

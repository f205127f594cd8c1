/**
 * Graphs from a stream of choices, shaped like what stages compile to: nullable headers behind bounds checks, keys
 * built on the stack, lookups, loops, early returns, tail calls. For property tests of the passes.
 */
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
  type Phi,
  type Space,
  type StackSlot,
  setTerminator,
  type UnaryOp,
  type Value,
} from '../ir.ts';
import { VALUE_BYTES } from './simulated-world.ts';

/** Maps that random graphs use, with the bytes of their keys. */
export const RANDOM_GRAPH_MAPS: ReadonlyMap<string, number> = new Map([
  ['flows', 16],
  ['counters', 4],
  ['chain', 4],
]);

/**
 * Builds a graph from choices (numbers from 0); the same choices give the same graph. `helpers` are called for numbers;
 * at most `statements` follow one another at the outermost level.
 */
export function randomGraph(choices: readonly number[], helpers: readonly number[] = [7, 8], statements = 12): Graph {
  return new Generator(choices, helpers).build(statements);
}

const BINARY: readonly BinaryOp[] = ['add', 'sub', 'mul', 'div', 'mod', 'and', 'or', 'xor', 'lsh', 'rsh', 'arsh', 'sdiv', 'smod'];
const UNARY: readonly UnaryOp[] = ['neg', 'sext8', 'sext16', 'sext32', 'zext8', 'zext16', 'zext32', 'swap16', 'swap32', 'swap64'];
const COMPARE: readonly CompareOp[] = ['eq', 'ne', 'gt', 'ge', 'lt', 'le', 'sgt', 'sge', 'slt', 'sle', 'set'];
const CONSTANTS: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  5n,
  8n,
  10n,
  16n,
  24n,
  31n,
  64n,
  255n,
  256n,
  65535n,
  65537n,
  -1n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  -0x8000_0000n,
  0x1234_5678_9abcn,
];

interface Header {
  readonly pointer: Value;
  /** Bytes that lie within the packet where the pointer is not null. */
  readonly size: number;
}

class Generator {
  private readonly graph: Graph = createGraph('random');
  private readonly choices: readonly number[];
  private readonly helpers: readonly number[];
  private valueSlot: StackSlot | undefined;
  private at = 0;
  private block: Block;
  private numbers: Value[];
  private headers: Header[] = [];
  private data: Value;
  private end: Value;
  private depth = 0;

  constructor(choices: readonly number[], helpers: readonly number[]) {
    this.choices = choices;
    this.helpers = helpers;
    this.block = this.graph.entry;
    this.data = this.contextLoad(0, 'packet');
    this.end = this.contextLoad(4, 'packet');
    this.numbers = [this.contextLoad(12), this.constant(3n), ...Array.from({ length: 1 + this.pick(8) }, () => this.constant(0n))];
  }

  build(statements: number): Graph {
    this.statements(statements);
    this.finish();
    return this.graph;
  }

  private finish(): void {
    if (this.pick(3) === 0) {
      this.call(12, [this.graph.context, createNode(this.graph, { kind: 'map', map: 'chain' }), this.constant(BigInt(this.pick(4)))]);
      setTerminator(this.block, { kind: 'return', value: this.constant(2n) });
    } else setTerminator(this.block, { kind: 'return', value: this.number() });
  }

  private pick(n: number): number {
    const choice = this.choices[this.at++] ?? 0;
    return choice % n;
  }

  private statements(max: number): void {
    const count = 1 + this.pick(max);
    for (let i = 0; i < count && this.at < this.choices.length; i++) this.statement();
  }

  private statement(): void {
    const nested = this.depth <= 3;
    const kinds: readonly (() => void)[] = [
      () => this.assign(this.binary()),
      () => this.assign(this.binary()),
      () => this.assign(append(this.block, createNode(this.graph, { kind: 'unary', op: this.of(UNARY), operand: this.number() }))),
      () => this.assign(this.constant(this.of(CONSTANTS))),
      () => this.header(),
      () => this.headerAccess(),
      () => this.headerAccess(),
      () => nested && this.condition(),
      () => nested && this.loop(),
      () => this.lookup(),
      () => this.mapValue(),
      () => this.helpers.length > 0 && this.assign(this.call(this.of(this.helpers), [])),
      () => this.depth > 0 && this.pick(3) === 0 && this.earlyReturn(),
      () => this.depth === 0 && this.move(),
    ];
    this.of(kinds)();
  }

  private assign(value: Value): void {
    this.numbers[this.pick(this.numbers.length)] = value;
  }

  private binary(): Value {
    const left = this.number();
    const right = this.pick(2) ? this.number() : this.constant(this.of(CONSTANTS));
    return append(this.block, createNode(this.graph, { kind: 'binary', op: this.of(BINARY), width: this.pick(2) ? 64 : 32, left, right }));
  }

  /** `pointer` or null, behind a bounds check. */
  private header(): void {
    const size = this.of([14, 20, 34, 54]);
    let pointer: Value = this.data;
    if (this.pick(2)) pointer = this.add(this.data, this.constant(BigInt(this.of([4, 14, 20]))));
    else if (this.pick(3) === 0) {
      const low = append(
        this.block,
        createNode(this.graph, { kind: 'binary', op: 'and', width: 64, left: this.number(), right: this.constant(15n) }),
      );
      pointer = this.add(this.data, low);
    }
    const ok = createBlock(this.graph);
    const fail = createBlock(this.graph);
    const join = createBlock(this.graph);
    setTerminator(this.block, { kind: 'check', pointer, size, end: this.end, ok, fail });
    setTerminator(ok, { kind: 'jump', target: join });
    setTerminator(fail, { kind: 'jump', target: join });
    this.block = join;
    const phi = append(join, createNode(this.graph, { kind: 'phi', inputs: [pointer, this.constant(0n)], pointer: 'packet' }));
    this.headers.push({ pointer: phi, size });
  }

  /** Tests a header for null, then loads from it or stores to it. */
  private headerAccess(): void {
    const header = this.headers[this.pick(Math.max(1, this.headers.length))];
    if (!header) return;
    this.fork(
      { kind: 'eq', left: header.pointer, right: this.constant(0n) },
      () => undefined,
      () => {
        const size = this.of<MemorySize>([1, 2, 4, 8]);
        const offset = this.pick(header.size - size + 1);
        if (this.pick(4) === 0)
          append(
            this.block,
            createNode(this.graph, { kind: 'store', size, space: 'packet', base: header.pointer, offset, value: this.number() }),
          );
        else this.assign(this.load(size, 'packet', header.pointer, offset));
        this.depth++;
        this.statements(3);
        this.depth--;
      },
    );
  }

  private condition(): void {
    this.depth++;
    const test = { kind: this.of(COMPARE), left: this.number(), right: this.pick(2) ? this.number() : this.constant(this.of(CONSTANTS)) };
    this.fork(
      test,
      () => this.statements(4),
      () => (this.pick(2) ? this.statements(4) : undefined),
    );
    this.depth--;
  }

  /** Runs both arms and joins what they changed. An arm that returned has no part in the join. */
  private fork(test: { kind: CompareOp; left: Value; right: Value }, first: () => void, second: () => void): void {
    const arms = [createBlock(this.graph), createBlock(this.graph)] as const;
    const width = this.pick(2) && test.kind !== 'eq' ? 32 : 64;
    setTerminator(this.block, { kind: 'branch', op: test.kind, width, left: test.left, right: test.right, then: arms[0], else: arms[1] });
    const before = { numbers: [...this.numbers], headers: [...this.headers] };
    const ends = [first, second].map((run, i) => {
      this.block = arms[i === 0 ? 0 : 1];
      this.numbers = [...before.numbers];
      this.headers = [...before.headers];
      run();
      return { block: this.block, numbers: this.numbers };
    });
    const join = createBlock(this.graph);
    for (const end of ends) setTerminator(end.block, { kind: 'jump', target: join });
    this.block = join;
    this.headers = before.headers;
    this.numbers = before.numbers.map((_, k) => {
      const inputs = ends.map((end) => end.numbers[k] ?? this.constant(0n));
      return inputs.every((input) => input === inputs[0])
        ? (inputs[0] ?? this.constant(0n))
        : append(join, createNode(this.graph, { kind: 'phi', inputs }));
    });
  }

  private loop(): void {
    this.depth++;
    const trips = BigInt(this.pick(4));
    const before = [...this.numbers];
    const head = createBlock(this.graph);
    const body = createBlock(this.graph);
    const after = createBlock(this.graph);
    setTerminator(this.block, { kind: 'jump', target: head });
    const index = append(head, createNode(this.graph, { kind: 'phi', inputs: [this.constant(0n)] }));
    const phis: Phi[] = before.map((value) => append(head, createNode(this.graph, { kind: 'phi', inputs: [value] })));
    setTerminator(head, { kind: 'branch', op: 'lt', width: 64, left: index, right: this.constant(trips), then: body, else: after });
    this.block = body;
    this.numbers = [...phis];
    const headers = [...this.headers];
    if (this.pick(2)) this.assign(index);
    this.statements(3);
    const next = append(
      this.block,
      createNode(this.graph, { kind: 'binary', op: 'add', width: 64, left: index, right: this.constant(1n) }),
    );
    setTerminator(this.block, { kind: 'jump', target: head });
    index.inputs.push(next);
    phis.forEach((phi, i) => {
      phi.inputs.push(this.numbers[i] ?? phi);
    });
    this.block = after;
    this.numbers = phis;
    this.headers = headers;
    this.depth--;
  }

  /** Moves the packet's start: a new epoch, in which no header of the old one may be used. */
  private move(): void {
    append(
      this.block,
      createNode(this.graph, {
        kind: 'call',
        helper: 44,
        args: [this.graph.context, this.constant(BigInt(this.of([2, 4])))],
        pure: false,
        movesPacket: true,
        readsStack: [],
        writesStack: [],
      }),
    );
    this.data = this.contextLoad(0, 'packet');
    this.end = this.contextLoad(4, 'packet');
    this.headers = [];
  }

  /** Builds a key on the stack from numbers of mixed widths, looks it up, uses or inserts the value. */
  private lookup(): void {
    const slot = createSlot(this.graph, 16);
    const key = createNode(this.graph, { kind: 'stackAddress', slot, offset: 0 });
    for (let offset = 0; offset < 16; ) {
      const sizes = ([1, 2, 4, 8] as const).filter((size) => offset % size === 0);
      const size = this.of(sizes);
      const value = this.pick(3) ? this.number() : this.constant(this.of(CONSTANTS));
      append(this.block, createNode(this.graph, { kind: 'store', size, space: 'stack', base: key, offset, value }));
      offset += size;
    }
    const map = createNode(this.graph, { kind: 'map', map: 'flows' });
    const found = append(
      this.block,
      createNode(this.graph, {
        kind: 'call',
        helper: 1,
        args: [map, key],
        pure: false,
        movesPacket: false,
        readsStack: [slot],
        writesStack: [],
        pointer: 'map',
      }),
    );
    this.fork(
      { kind: 'eq', left: found, right: this.constant(0n) },
      () => this.insert(map, key, slot),
      () => {
        this.assign(this.load(this.of<MemorySize>([1, 2, 4, 8]), 'map', found, 8 * this.pick(4)));
        append(
          this.block,
          createNode(this.graph, { kind: 'atomicAdd', size: 8, space: 'map', base: found, offset: 8, value: this.number() }),
        );
        append(this.block, createNode(this.graph, { kind: 'store', size: 4, space: 'map', base: found, offset: 16, value: this.number() }));
      },
    );
  }

  private insert(map: Value, key: Value, keySlot: StackSlot): void {
    this.valueSlot ??= createSlot(this.graph, VALUE_BYTES);
    const slot = this.valueSlot;
    const value = createNode(this.graph, { kind: 'stackAddress', slot, offset: 0 });
    for (let offset = 0; offset < VALUE_BYTES; offset += 8)
      append(this.block, createNode(this.graph, { kind: 'store', size: 8, space: 'stack', base: value, offset, value: this.number() }));
    append(
      this.block,
      createNode(this.graph, {
        kind: 'call',
        helper: 2,
        args: [map, key, value, this.constant(0n)],
        pure: false,
        movesPacket: false,
        readsStack: [keySlot, slot],
        writesStack: [],
      }),
    );
  }

  private mapValue(): void {
    const base = append(this.block, createNode(this.graph, { kind: 'mapValueAddress', map: 'counters', offset: 8 * this.pick(3) }));
    const value = this.load(8, 'map', base, 0);
    const sum = append(this.block, createNode(this.graph, { kind: 'binary', op: 'add', width: 64, left: value, right: this.number() }));
    append(this.block, createNode(this.graph, { kind: 'store', size: 8, space: 'map', base, offset: 0, value: sum }));
  }

  private earlyReturn(): void {
    const returning = createBlock(this.graph);
    const going = createBlock(this.graph);
    setTerminator(this.block, {
      kind: 'branch',
      op: this.of(COMPARE),
      width: 64,
      left: this.number(),
      right: this.number(),
      then: returning,
      else: going,
    });
    this.block = returning;
    this.finish();
    this.block = going;
  }

  private call(helper: number, args: Value[]): Value {
    return append(
      this.block,
      createNode(this.graph, { kind: 'call', helper, args, pure: helper === 8, movesPacket: false, readsStack: [], writesStack: [] }),
    );
  }

  private load(size: MemorySize, space: Space, base: Value, offset: number): Value {
    return append(this.block, createNode(this.graph, { kind: 'load', size, space, base, offset }));
  }

  private contextLoad(offset: number, pointer?: Space): Value {
    return append(
      this.block,
      createNode(this.graph, {
        kind: 'load',
        size: 4,
        space: 'context',
        base: this.graph.context,
        offset,
        ...(pointer ? { pointer } : {}),
      }),
    );
  }

  private add(pointer: Value, scalar: Value): Value {
    return append(
      this.block,
      createNode(this.graph, { kind: 'binary', op: 'add', width: 64, left: pointer, right: scalar, pointer: 'packet' }),
    );
  }

  private number(): Value {
    return this.numbers[this.pick(this.numbers.length)] ?? this.constant(0n);
  }

  private constant(value: bigint): Value {
    return createNode(this.graph, { kind: 'const', value });
  }

  private of<T>(list: readonly T[]): T {
    const item = list[this.pick(list.length)];
    if (item === undefined) throw new RangeError('an empty list has nothing to pick');
    return item;
  }
}

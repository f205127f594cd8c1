/** The root of a chain as IR: it is attached once and never changes, whatever becomes of the chain behind it. */
import { Helper } from '@tailrace/bpf';
import { append, createBlock, createGraph, createNode, createSlot, type Graph, setTerminator, type Value } from './ir.ts';
import { XdpVerdict } from './placement.ts';

export function lowerRoot(options: {
  readonly name: string;
  readonly array: string;
  readonly state?: { readonly map: string; readonly length: number; readonly misses: number };
}): Graph {
  const graph = createGraph(options.name);
  let block = graph.entry;
  const constant = (value: number): Value => append(block, createNode(graph, { kind: 'const', value: BigInt(value) }));
  const call = (helper: number, args: Value[], readsStack: ReturnType<typeof createSlot>[] = []): Value =>
    append(block, createNode(graph, { kind: 'call', helper, args, pure: false, movesPacket: false, readsStack, writesStack: [] }));
  const map = (name: string): Value => append(block, createNode(graph, { kind: 'map', map: name }));
  const giveUp = createBlock(graph);

  /** The state's address; leaves with the miss verdict where there is none. */
  const state = (name: string): Value => {
    const slot = createSlot(graph, 4);
    const key = append(block, createNode(graph, { kind: 'stackAddress', slot, offset: 0 }));
    append(block, createNode(graph, { kind: 'store', size: 4, space: 'stack', base: key, offset: 0, value: constant(0) }));
    const entry = append(
      block,
      createNode(graph, {
        kind: 'call',
        helper: Helper.map_lookup_elem,
        args: [map(name), key],
        pure: false,
        movesPacket: false,
        readsStack: [slot],
        writesStack: [],
        pointer: 'map',
      }),
    );
    const there = createBlock(graph);
    setTerminator(block, {
      kind: 'branch',
      op: 'ne',
      width: 64,
      left: entry,
      right: constant(0),
      then: there,
      else: giveUp,
      likely: 'then',
    });
    block = there;
    return entry;
  };

  if (options.state) {
    const entry = state(options.state.map);
    const length = call(Helper.xdp_get_buff_len, [graph.context]);
    append(block, createNode(graph, { kind: 'store', size: 8, space: 'map', base: entry, offset: options.state.length, value: length }));
  }
  call(Helper.tail_call, [graph.context, map(options.array), constant(0)]);
  if (options.state) {
    const entry = state(options.state.map);
    const before = append(block, createNode(graph, { kind: 'load', size: 8, space: 'map', base: entry, offset: options.state.misses }));
    const after = append(block, createNode(graph, { kind: 'binary', op: 'add', width: 64, left: before, right: constant(1) }));
    append(block, createNode(graph, { kind: 'store', size: 8, space: 'map', base: entry, offset: options.state.misses, value: after }));
  }
  setTerminator(block, { kind: 'return', value: constant(XdpVerdict.pass) });
  block = giveUp;
  setTerminator(giveUp, { kind: 'return', value: constant(XdpVerdict.pass) });
  return graph;
}

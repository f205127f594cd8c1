/**
 * The intermediate representation: a control-flow graph of blocks in SSA form over 64-bit machine values.
 * The front end builds it, each pass of opt/ rewrites it in place, emit/ turns it into instructions.
 *
 * - A value is a 64-bit register's content. 32-bit operations zero-extend, as in eBPF.
 * - Block arguments are phi nodes: the first nodes of a block, with one input for each predecessor, in order.
 * - Each block ends in exactly one terminator. `predecessors` is kept true by `setTerminator` and `redirect`.
 * - A pointer is never a right operand of `add`, since the verifier wants `pointer += scalar`.
 */

/** A place in the user's TypeScript, from 1; becomes one line of bpf_line_info. */
export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The text of that line. */
  readonly text: string;
}

export type MemorySize = 1 | 2 | 4 | 8;
export type BinaryOp = 'add' | 'sub' | 'mul' | 'div' | 'mod' | 'sdiv' | 'smod' | 'and' | 'or' | 'xor' | 'lsh' | 'rsh' | 'arsh';
/** sext8/16/32 sign-extend the low bits to 64; zext8/16/32 keep the low bits; swap16/32/64 reverse the low bytes and clear the rest. */
export type UnaryOp = 'neg' | 'sext8' | 'sext16' | 'sext32' | 'zext8' | 'zext16' | 'zext32' | 'swap16' | 'swap32' | 'swap64';
/** Comparisons; gt ge lt le are unsigned, sgt … signed; set is `(left & right) !== 0`. */
export type CompareOp = 'eq' | 'ne' | 'gt' | 'ge' | 'lt' | 'le' | 'sgt' | 'sge' | 'slt' | 'sle' | 'set';
/**
 * What memory an address lies in. Loads from `context` and `packet` change only at a call with `movesPacket`. `skb` is what
 * programs write of the context at TC (mark, priority, queue_mapping, cb): it changes only at stores; its base is the
 * context itself, since the verifier takes no other pointer into it. `ring` is a record that is being written: nobody else
 * sees it before it is submitted.
 */
export type Space = 'context' | 'skb' | 'packet' | 'stack' | 'map' | 'ring';

/** Bytes on the program's stack. Its address is 8-aligned; the allocator places it. */
export interface StackSlot {
  readonly id: number;
  readonly size: number;
}

interface NodeBase {
  readonly id: number;
  /** Undefined while detached. */
  block: Block | undefined;
  place: Place | undefined;
}

export interface Const extends NodeBase {
  readonly kind: 'const' /** Signed 64 bits. */;
  readonly value: bigint;
}
/** The program's argument. Exists once, in the entry block. */
export interface Context extends NodeBase {
  readonly kind: 'context';
}
/** Address of a byte of a stack slot. */
export interface StackAddress extends NodeBase {
  readonly kind: 'stackAddress';
  readonly slot: StackSlot;
  readonly offset: number;
}
/** A map's handle, for helper calls. */
export interface MapHandle extends NodeBase {
  readonly kind: 'map';
  readonly map: string;
}
/** Address of a byte of a single-entry array map's value (BPF_PSEUDO_MAP_VALUE); never null. */
export interface MapValueAddress extends NodeBase {
  readonly kind: 'mapValueAddress';
  readonly map: string;
  readonly offset: number;
}
export interface Binary extends NodeBase {
  readonly kind: 'binary';
  readonly op: BinaryOp;
  readonly width: 32 | 64;
  left: Value;
  right: Value /** The left operand and the result are pointers into this space. */;
  readonly pointer?: Space;
}
export interface Unary extends NodeBase {
  readonly kind: 'unary';
  readonly op: UnaryOp;
  operand: Value;
}
/** Zero-extends. `base` is a pointer into `space`; `offset` fits 16 signed bits. */
export interface Load extends NodeBase {
  readonly kind: 'load';
  size: MemorySize;
  readonly space: Space;
  base: Value;
  offset: number /** context loads of data, data_end, data_meta: the result is a packet pointer. */;
  readonly pointer?: Space;
}
export interface Store extends NodeBase {
  readonly kind: 'store';
  size: MemorySize;
  readonly space: Space;
  base: Value;
  offset: number;
  value: Value;
}
/** Atomic add to memory that other CPUs write too; no result. */
export interface AtomicAdd extends NodeBase {
  readonly kind: 'atomicAdd';
  readonly size: 4 | 8;
  readonly space: Space;
  base: Value;
  offset: number;
  value: Value;
}
/** A helper call; its result is r0. */
export interface Call extends NodeBase {
  readonly kind: 'call';
  /** enum bpf_func_id. */
  readonly helper: number;
  args: Value[];
  /** May be dropped when unused, and merged with an equal one in the same epoch. */
  readonly pure: boolean;
  /** Packet pointers and loads of data and data_end from before are invalid after it. */
  readonly movesPacket: boolean;
  /** Stack slots that it reads through its arguments; all others are untouched by it. */
  readonly readsStack: readonly StackSlot[];
  /** Stack slots that it writes. */
  readonly writesStack: readonly StackSlot[];
  /** The result is a pointer into this space, or null. */
  readonly pointer?: Space;
}
/** One input for each predecessor of its block, in the order of `predecessors`. */
export interface Phi extends NodeBase {
  readonly kind: 'phi';
  inputs: Value[] /** All non-null inputs are pointers into this space. */;
  pointer?: Space;
}

export type Value = Const | Context | StackAddress | MapHandle | MapValueAddress | Binary | Unary | Load | Call | Phi;
export type Node = Value | Store | AtomicAdd;

export interface Jump {
  readonly kind: 'jump';
  target: Block;
  place?: Place | undefined;
}
export interface Branch {
  readonly kind: 'branch';
  readonly op: CompareOp;
  readonly width: 32 | 64;
  left: Value;
  right: Value;
  then: Block;
  else: Block;
  place?: Place | undefined /** Laid out as the fall-through where it helps. */;
  readonly likely?: 'then' | 'else';
}
/** Goes to `ok` when `size` bytes from the packet pointer lie within the packet, else to `fail`. `end` is data_end of the same epoch. */
export interface BoundsCheck {
  readonly kind: 'check';
  pointer: Value;
  size: number;
  end: Value;
  ok: Block;
  fail: Block;
  place?: Place | undefined;
}
export interface Return {
  readonly kind: 'return';
  value: Value;
  place?: Place | undefined;
}
export type Terminator = Jump | Branch | BoundsCheck | Return;

export interface Block {
  readonly id: number;
  /** Phis first. */
  nodes: Node[];
  terminator: Terminator | undefined;
  predecessors: Block[];
}

/** One function: the entry has no predecessors. */
export interface Graph {
  readonly name: string;
  readonly entry: Block;
  readonly context: Context;
  blocks: Block[];
  slots: StackSlot[];
  nextId: number;
}

export function createGraph(name: string): Graph {
  const entry: Block = { id: 0, nodes: [], terminator: undefined, predecessors: [] };
  const context: Context = { kind: 'context', id: 1, block: entry, place: undefined };
  entry.nodes.push(context);
  return { name, entry, context, blocks: [entry], slots: [], nextId: 2 };
}

export function createBlock(graph: Graph): Block {
  const block: Block = { id: graph.nextId++, nodes: [], terminator: undefined, predecessors: [] };
  graph.blocks.push(block);
  return block;
}

export function createSlot(graph: Graph, size: number): StackSlot {
  const slot: StackSlot = { id: graph.nextId++, size };
  graph.slots.push(slot);
  return slot;
}

type Fields<T extends Node> = Omit<T, 'id' | 'block' | 'place'> & { readonly place?: Place | undefined };

/** Makes a detached node; `append` or `insertBefore` put it into a block. */
export function createNode<K extends Node['kind']>(
  graph: Graph,
  fields: Fields<Extract<Node, { kind: K }>> & { kind: K },
): Extract<Node, { kind: K }> {
  return { place: undefined, ...fields, id: graph.nextId++, block: undefined } as unknown as Extract<Node, { kind: K }>;
}

export function append<T extends Node>(block: Block, node: T): T {
  node.block = block;
  if (node.kind === 'phi') {
    const at = block.nodes.findIndex((n) => n.kind !== 'phi');
    block.nodes.splice(at < 0 ? block.nodes.length : at, 0, node);
  } else block.nodes.push(node);
  return node;
}

export function insertBefore<T extends Node>(before: Node, node: T): T {
  const block = before.block;
  if (!block) return node;
  node.block = block;
  block.nodes.splice(block.nodes.indexOf(before), 0, node);
  return node;
}

export function remove(node: Node): void {
  const block = node.block;
  if (!block) return;
  block.nodes.splice(block.nodes.indexOf(node), 1);
  node.block = undefined;
}

export function successors(block: Block): Block[] {
  const t = block.terminator;
  switch (t?.kind) {
    case 'jump':
      return [t.target];
    case 'branch':
      return t.then === t.else ? [t.then] : [t.then, t.else];
    case 'check':
      return t.ok === t.fail ? [t.ok] : [t.ok, t.fail];
    default:
      return [];
  }
}

/** Replaces the terminator and keeps predecessors true. New edges into blocks that have phis must add inputs themselves. */
export function setTerminator(block: Block, terminator: Terminator | undefined): void {
  const before = successors(block);
  block.terminator = terminator;
  const after = successors(block);
  for (const s of before) if (!after.includes(s)) dropPredecessor(s, block);
  for (const s of after) if (!before.includes(s)) s.predecessors.push(block);
}

/** Removes an incoming edge, with its phi inputs. */
function dropPredecessor(block: Block, predecessor: Block): void {
  const at = block.predecessors.indexOf(predecessor);
  if (at < 0) return;
  block.predecessors.splice(at, 1);
  for (const n of block.nodes) if (n.kind === 'phi') n.inputs.splice(at, 1);
}

/** The values that a node reads. */
export function operands(node: Node): Value[] {
  switch (node.kind) {
    case 'binary':
      return [node.left, node.right];
    case 'unary':
      return [node.operand];
    case 'load':
      return [node.base];
    case 'store':
    case 'atomicAdd':
      return [node.base, node.value];
    case 'call':
      return node.args;
    case 'phi':
      return node.inputs;
    default:
      return [];
  }
}

/** The values that a terminator reads. */
export function terminatorOperands(t: Terminator | undefined): Value[] {
  switch (t?.kind) {
    case 'branch':
      return [t.left, t.right];
    case 'check':
      return [t.pointer, t.end];
    case 'return':
      return [t.value];
    default:
      return [];
  }
}

/** Rewrites every operand of a node by `to`. */
export function mapOperands(node: Node, to: (value: Value) => Value): void {
  switch (node.kind) {
    case 'binary':
      node.left = to(node.left);
      node.right = to(node.right);
      break;
    case 'unary':
      node.operand = to(node.operand);
      break;
    case 'load':
      node.base = to(node.base);
      break;
    case 'store':
    case 'atomicAdd':
      node.base = to(node.base);
      node.value = to(node.value);
      break;
    case 'call':
      node.args = node.args.map(to);
      break;
    case 'phi':
      node.inputs = node.inputs.map(to);
      break;
    default:
  }
}

export function mapTerminatorOperands(t: Terminator | undefined, to: (value: Value) => Value): void {
  switch (t?.kind) {
    case 'branch':
      t.left = to(t.left);
      t.right = to(t.right);
      break;
    case 'check':
      t.pointer = to(t.pointer);
      t.end = to(t.end);
      break;
    case 'return':
      t.value = to(t.value);
      break;
    default:
  }
}

/** Blocks that can be reached, in reverse post-order. */
export function reversePostOrder(graph: Graph): Block[] {
  const seen = new Set<Block>();
  const out: Block[] = [];
  const visit = (block: Block): void => {
    seen.add(block);
    for (const s of successors(block)) if (!seen.has(s)) visit(s);
    out.push(block);
  };
  visit(graph.entry);
  return out.reverse();
}

/**
 * The graph as text: what tests snapshot and what `--print-ir` shows; `parseGraph` reads it back. Constants, stack
 * addresses and map handles stand where they are used, so nothing defines them.
 */
export function printGraph(graph: Graph): string {
  const slots = graph.slots.map((slot) => ` s${slot.id}:${slot.size}`).join('');
  const blocks = reversePostOrder(graph).map((block) => printBlock(block));
  return (slots ? [`slots${slots}`, ...blocks] : blocks).join('\n');
}

/** A value as it stands where it is used. */
export function printValue(x: Value): string {
  switch (x.kind) {
    case 'const':
      return String(x.value);
    case 'context':
      return 'ctx';
    case 'stackAddress':
      return `&s${x.slot.id}+${x.offset}`;
    case 'map':
      return `@${x.map}`;
    default:
      return `%${x.id}`;
  }
}

function printAddress(base: Value, offset: number): string {
  return base.kind === 'stackAddress' ? `&s${base.slot.id}+${base.offset + offset}` : `${printValue(base)}+${offset}`;
}

/** A node as one line; empty for those that stand where they are used. */
export function printNode(n: Node): string {
  const v = printValue;
  const type = 'pointer' in n && n.pointer ? ` : ${n.pointer}` : '';
  const width = 'width' in n && n.width === 32 ? '32' : '';
  switch (n.kind) {
    case 'const':
    case 'context':
    case 'stackAddress':
    case 'map':
      return '';
    case 'mapValueAddress':
      return `%${n.id} = mapValue @${n.map}+${n.offset}`;
    case 'binary':
      return `%${n.id} = ${n.op}${width} ${v(n.left)}, ${v(n.right)}${type}`;
    case 'unary':
      return `%${n.id} = ${n.op} ${v(n.operand)}`;
    case 'load':
      return `%${n.id} = load${n.size * 8} ${n.space} ${printAddress(n.base, n.offset)}${type}`;
    case 'store':
      return `store${n.size * 8} ${n.space} ${printAddress(n.base, n.offset)}, ${v(n.value)}`;
    case 'atomicAdd':
      return `atomicAdd${n.size * 8} ${n.space} ${printAddress(n.base, n.offset)}, ${v(n.value)}`;
    case 'phi':
      return `%${n.id} = phi ${n.inputs.map(v).join(', ')}${type}`;
    case 'call': {
      const slots = (word: string, list: readonly StackSlot[]): string => list.map((slot) => ` ${word} s${slot.id}`).join('');
      const flags = `${n.pure ? ' pure' : ''}${n.movesPacket ? ' moves' : ''}${slots('reads', n.readsStack)}${slots('writes', n.writesStack)}`;
      return `%${n.id} = call ${n.helper}(${n.args.map(v).join(', ')})${flags}${type}`;
    }
  }
}

function printBlock(block: Block): string {
  const v = printValue;
  const b = (x: Block): string => `b${x.id}`;
  const end = (t: Terminator | undefined): string => {
    switch (t?.kind) {
      case 'jump':
        return `jump ${b(t.target)}`;
      case 'branch': {
        const likely = t.likely ? ` likely ${t.likely}` : '';
        return `if ${v(t.left)} ${t.op}${t.width === 32 ? '32' : ''} ${v(t.right)} then ${b(t.then)} else ${b(t.else)}${likely}`;
      }
      case 'check':
        return `check ${v(t.pointer)} +${t.size} <= ${v(t.end)} ok ${b(t.ok)} fail ${b(t.fail)}`;
      case 'return':
        return `return ${v(t.value)}`;
      default:
        return 'open';
    }
  };
  const nodes = block.nodes.map(printNode).filter((line) => line !== '');
  const from = block.predecessors.length > 0 ? ` <- ${block.predecessors.map(b).join(' ')}` : '';
  return [`${b(block)}:${from}`, ...[...nodes, end(block.terminator)].map((line) => `  ${line}`)].join('\n');
}

/**
 * Leads the edges from `from` to `old` to `target` instead. `inputs` are those that the phis of `target` get from the
 * new edge, in their order; they are ignored where `from` leads to `target` already.
 */
export function redirect(from: Block, old: Block, target: Block, inputs: readonly Value[] = []): void {
  const t = from.terminator;
  if (!t || old === target) return;
  const isNew = !target.predecessors.includes(from);
  const to = (block: Block): Block => (block === old ? target : block);
  switch (t.kind) {
    case 'jump':
      setTerminator(from, { ...t, target: to(t.target) });
      break;
    case 'branch':
      setTerminator(from, { ...t, then: to(t.then), else: to(t.else) });
      break;
    case 'check':
      setTerminator(from, { ...t, ok: to(t.ok), fail: to(t.fail) });
      break;
    case 'return':
      return;
  }
  if (!isNew) return;
  let i = 0;
  for (const node of target.nodes) {
    const input = node.kind === 'phi' ? inputs[i++] : undefined;
    if (node.kind === 'phi' && input) node.inputs.push(input);
  }
}

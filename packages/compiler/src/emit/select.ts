/**
 * Instruction selection: from SSA values to eBPF's two-operand instructions over virtual registers. Constants, stack
 * addresses and map handles are made anew at each use; phis become moves on the edges that lead to them.
 */
import {
  type Binary,
  type Block,
  type Branch,
  type Call,
  type Graph,
  type Load,
  type Node,
  operands,
  type Phi,
  type Place,
  type Store,
  successors,
  terminatorOperands,
  type Unary,
  type Value,
} from '../ir.ts';
import { dominance } from '../opt/dominance.ts';
import { MIRRORED } from '../opt/evaluate.ts';
import { estimateFrequencies, guess, probability } from '../opt/frequency.ts';
import {
  type Address,
  FIRST_VIRTUAL,
  type MachineBlock,
  type MachineFunction,
  type MachineInstruction,
  type MachineOperand,
  type Register,
} from './machine.ts';
import { repeatableLoads } from './repeatable.ts';

/** Selects instructions for every reachable block. The graph stays as it is. */
export function select(graph: Graph): MachineFunction {
  return new Selection(graph).run();
}

const COMMUTATIVE: ReadonlySet<string> = new Set(['add', 'mul', 'and', 'or', 'xor']);

class Selection {
  private readonly graph: Graph;
  private readonly registers = new Map<Value, Register>();
  private readonly blocks = new Map<Block, MachineBlock>();
  private readonly edgeBlocks: MachineBlock[] = [];
  private readonly uses = new Map<Value, number>();
  private readonly repeatable: ReadonlySet<Value>;
  private nextRegister = FIRST_VIRTUAL;
  private nextBlock: number;
  private out: MachineInstruction[] = [];
  private place: Place | undefined;

  constructor(graph: Graph) {
    this.graph = graph;
    this.nextBlock = graph.nextId;
    this.repeatable = repeatableLoads(graph);
  }

  run(): MachineFunction {
    const tree = dominance(this.graph);
    const { order } = tree;
    const frequencies = estimateFrequencies(this.graph, tree);
    for (const block of order) {
      this.blocks.set(block, {
        id: block.id,
        instructions: [],
        terminator: { kind: 'return', place: undefined },
        frequency: frequencies.get(block) ?? 0,
      });
      for (const node of block.nodes) for (const value of operands(node)) this.countUse(value);
      for (const value of terminatorOperands(block.terminator)) this.countUse(value);
    }
    for (const block of order) this.block(block);
    return {
      blocks: [...order.map((block) => this.machineBlock(block)), ...this.edgeBlocks],
      slots: [...this.graph.slots],
      spillSlots: new Set(),
      homes: new Map(),
      nextRegister: this.nextRegister,
      nextSlot: this.nextBlock,
    };
  }

  private countUse(value: Value): void {
    this.uses.set(value, (this.uses.get(value) ?? 0) + 1);
  }

  private machineBlock(block: Block): MachineBlock {
    const found = this.blocks.get(block);
    if (!found) throw new RangeError(`block b${block.id} is not reachable`);
    return found;
  }

  private block(block: Block): void {
    const machine = this.machineBlock(block);
    this.out = machine.instructions;
    for (const node of block.nodes) {
      if (isDroppable(node) && !this.uses.has(node)) continue;
      this.place = node.place;
      this.node(node);
    }
    this.place = block.terminator?.place;
    this.terminator(block, machine);
  }

  private node(node: Node): void {
    switch (node.kind) {
      case 'context':
        this.out.push({ kind: 'move', width: 64, dst: this.register(node), src: 1, place: undefined });
        return;
      case 'mapValueAddress':
        this.push({ kind: 'map', dst: this.register(node), map: node.map, valueOffset: node.offset });
        return;
      case 'binary':
        this.binary(node);
        return;
      case 'unary':
        this.unary(node);
        return;
      case 'load':
        this.load(node);
        return;
      case 'store':
        this.store(node);
        return;
      case 'atomicAdd':
        this.push({
          kind: 'atomicAdd',
          size: node.size,
          address: this.address(node.base, node.offset),
          src: this.use(node.value),
        });
        return;
      case 'call':
        this.call(node);
        return;
      case 'const':
      case 'stackAddress':
      case 'map':
      case 'phi':
        return;
    }
  }

  private binary(node: Binary): void {
    let { left, right } = node;
    if (COMMUTATIVE.has(node.op) && node.pointer === undefined && this.betterSwapped(left, right)) [left, right] = [right, left];
    const dst = this.register(node);
    if (node.op === 'sub' && left.kind === 'const' && left.value === 0n) {
      this.copyInto(dst, right);
      this.push({ kind: 'inPlace', op: node.width === 32 ? 'neg32' : 'neg', dst });
      return;
    }
    const isDivision = node.op === 'div' || node.op === 'sdiv';
    if ((isDivision || node.op === 'mod' || node.op === 'smod') && right.kind === 'const' && this.isZero(right.value, node.width)) {
      // The verifier refuses a zero immediate; RFC 9669 defines x / 0 as 0 and x % 0 as x.
      if (isDivision) this.push({ kind: 'constant', dst, value: 0n });
      else if (node.width === 32) this.push({ kind: 'move', width: 32, dst, src: this.use(left) });
      else this.copyInto(dst, left);
      return;
    }
    const src = this.operand(right, node.width, node.op);
    this.copyInto(dst, left);
    this.push({ kind: 'alu', op: node.op, width: node.width, dst, src });
  }

  private isZero(value: bigint, width: 32 | 64): boolean {
    return BigInt.asUintN(width, value) === 0n;
  }

  /** Whether the right side is the better one to overwrite: a constant belongs right, a dying value left. */
  private betterSwapped(left: Value, right: Value): boolean {
    if (left.kind === 'const') return right.kind !== 'const';
    if (right.kind === 'const') return false;
    return (this.uses.get(left) ?? 0) > 1 && this.uses.get(right) === 1;
  }

  private unary(node: Unary): void {
    const dst = this.register(node);
    switch (node.op) {
      case 'zext32':
        this.push({ kind: 'move', width: 32, dst, src: this.use(node.operand) });
        return;
      case 'zext8':
      case 'zext16':
        this.copyInto(dst, node.operand);
        this.push({ kind: 'alu', op: 'and', width: 32, dst, src: { imm: node.op === 'zext8' ? 0xff : 0xffff } });
        return;
      case 'sext8':
      case 'sext16':
      case 'sext32': {
        // movsx needs cpu v4 (kernel 6.6); two shifts run on all.
        const bits = { sext8: 56, sext16: 48, sext32: 32 }[node.op];
        this.copyInto(dst, node.operand);
        this.push({ kind: 'alu', op: 'lsh', width: 64, dst, src: { imm: bits } });
        this.push({ kind: 'alu', op: 'arsh', width: 64, dst, src: { imm: bits } });
        return;
      }
      case 'neg':
      case 'swap16':
      case 'swap32':
      case 'swap64':
        this.copyInto(dst, node.operand);
        this.push({ kind: 'inPlace', op: node.op, dst });
        return;
    }
  }

  private load(node: Load): void {
    this.push({
      kind: 'load',
      size: node.size,
      dst: this.register(node),
      address: this.address(node.base, node.offset),
      repeatable: this.repeatable.has(node),
    });
  }

  private store(node: Store): void {
    const address = this.address(node.base, node.offset);
    const { value } = node;
    // kernels before 6.4 take no immediate in a store to the context
    if (value.kind === 'const' && node.space !== 'skb') {
      const narrow = BigInt.asIntN(node.size * 8, value.value);
      if (fitsImmediate(narrow)) {
        this.push({ kind: 'store', size: node.size, address, src: { imm: Number(narrow) } });
        return;
      }
    }
    this.push({ kind: 'store', size: node.size, address, src: { register: this.use(value) } });
  }

  /** Register arguments first, so that what is made from nothing claims its register as late as it can. */
  private call(node: Call): void {
    const late: { readonly register: Register; readonly value: Value }[] = [];
    node.args.forEach((value, i) => {
      const register = i + 1;
      if (isRemade(value)) late.push({ register, value });
      else this.push({ kind: 'move', width: 64, dst: register, src: this.register(value) });
    });
    for (const { register, value } of late) this.copyInto(register, value);
    this.push({ kind: 'call', helper: node.helper, arity: node.args.length });
    if (this.uses.has(node)) this.push({ kind: 'move', width: 64, dst: this.register(node), src: 0 });
  }

  private terminator(block: Block, machine: MachineBlock): void {
    const t = block.terminator;
    if (!t) throw new RangeError(`block b${block.id} has no terminator`);
    const place = t.place;
    if (t.kind === 'return') {
      this.copyInto(0, t.value);
      machine.terminator = { kind: 'return', place };
      return;
    }
    const targets = successors(block);
    const only = targets.length === 1 ? targets[0] : undefined;
    if (only) {
      this.phiMoves(block, only);
      machine.terminator = { kind: 'jump', target: this.machineBlock(only), place };
      return;
    }
    if (t.kind === 'branch') this.branch(block, machine, t);
    if (t.kind === 'check') {
      const end = this.use(t.end);
      const limit = this.fresh();
      this.copyInto(limit, t.pointer);
      if (t.size !== 0) this.push({ kind: 'alu', op: 'add', width: 64, dst: limit, src: { imm: t.size } });
      machine.terminator = {
        kind: 'branch',
        op: 'gt',
        width: 64,
        left: limit,
        right: { register: end },
        then: this.edge(block, t.fail),
        else: this.edge(block, t.ok),
        likely: 'else',
        place,
      };
    }
  }

  private branch(block: Block, machine: MachineBlock, t: Branch): void {
    const swapped = t.left.kind === 'const' && t.right.kind !== 'const';
    const [first, second] = swapped ? [t.right, t.left] : [t.left, t.right];
    const right = this.operand(second, t.width);
    machine.terminator = {
      kind: 'branch',
      op: swapped ? MIRRORED[t.op] : t.op,
      width: t.width,
      left: this.use(first),
      right,
      then: this.edge(block, t.then),
      else: this.edge(block, t.else),
      likely: t.likely ?? guess(t),
      place: t.place,
    };
  }

  /** Where a branch must go to reach `to`: a block of its own where phis want moves. */
  private edge(from: Block, to: Block): MachineBlock {
    const target = this.machineBlock(to);
    if (to.nodes[0]?.kind !== 'phi') return target;
    const block: MachineBlock = {
      id: this.nextBlock++,
      instructions: [],
      terminator: { kind: 'jump', target, place: undefined },
      frequency: this.machineBlock(from).frequency * probability(from, to),
    };
    const out = this.out;
    this.out = block.instructions;
    this.phiMoves(from, to);
    this.out = out;
    this.edgeBlocks.push(block);
    return block;
  }

  /** All phis of a block take their inputs at once: moves are ordered so that none overwrites what another reads. */
  private phiMoves(from: Block, to: Block): void {
    const at = to.predecessors.indexOf(from);
    const phis = to.nodes.filter((node): node is Phi => node.kind === 'phi');
    const pending: { dst: Register; src: Register }[] = [];
    const remade: { dst: Register; value: Value }[] = [];
    for (const phi of phis) {
      const input = phi.inputs[at];
      if (!input) throw new RangeError(`phi %${phi.id} has no input from b${from.id}`);
      if (isRemade(input)) remade.push({ dst: this.register(phi), value: input });
      else if (input !== phi) pending.push({ dst: this.register(phi), src: this.register(input) });
    }
    while (pending.length > 0) {
      const free = pending.findIndex(({ dst }) => !pending.some((other) => other.src === dst));
      if (free >= 0) {
        for (const { dst, src } of pending.splice(free, 1)) this.push({ kind: 'move', width: 64, dst, src });
        continue;
      }
      const cycle = pending[0];
      if (!cycle) break;
      const saved = this.fresh();
      this.push({ kind: 'move', width: 64, dst: saved, src: cycle.src });
      cycle.src = saved;
    }
    for (const { dst, value } of remade) this.copyInto(dst, value);
  }

  /** The register that holds a value; what is remade at each use gets a new one. */
  private use(value: Value): Register {
    if (!isRemade(value)) return this.register(value);
    const register = this.fresh();
    this.copyInto(register, value);
    return register;
  }

  private copyInto(dst: Register, value: Value): void {
    switch (value.kind) {
      case 'const':
        this.push({ kind: 'constant', dst, value: value.value });
        return;
      case 'stackAddress':
        this.push({ kind: 'frame', dst, slot: value.slot, offset: value.offset });
        return;
      case 'map':
        this.push({ kind: 'map', dst, map: value.map, valueOffset: undefined });
        return;
      default:
        this.push({ kind: 'move', width: 64, dst, src: this.register(value) });
    }
  }

  private operand(value: Value, width: 32 | 64, op?: string): MachineOperand {
    if (value.kind === 'const') {
      const isShift = op === 'lsh' || op === 'rsh' || op === 'arsh';
      const immediate = isShift ? value.value & BigInt(width - 1) : BigInt.asIntN(width, value.value);
      if (fitsImmediate(immediate)) return { imm: Number(immediate) };
    }
    return { register: this.use(value) };
  }

  private address(base: Value, offset: number): Address {
    if (base.kind === 'stackAddress') return { slot: base.slot, offset: base.offset + offset };
    return { base: this.use(base), offset };
  }

  private register(value: Value): Register {
    const known = this.registers.get(value);
    if (known !== undefined) return known;
    const register = this.fresh();
    this.registers.set(value, register);
    return register;
  }

  private fresh(): Register {
    return this.nextRegister++;
  }

  private push(instruction: WithoutPlace<MachineInstruction>): void {
    this.out.push({ ...instruction, place: this.place });
  }
}

type WithoutPlace<T> = T extends unknown ? Omit<T, 'place'> : never;

/** Values that cost one instruction and no operand, so that keeping them in a register is not worth one. */
function isRemade(value: Value): boolean {
  return value.kind === 'const' || value.kind === 'stackAddress' || value.kind === 'map';
}

function isDroppable(node: Node): node is Value {
  return node.kind !== 'store' && node.kind !== 'atomicAdd' && node.kind !== 'call';
}

function fitsImmediate(value: bigint): boolean {
  return value === BigInt.asIntN(32, value);
}

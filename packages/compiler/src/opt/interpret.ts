/** Runs a graph as it stands: the meaning that every pass must keep. */
import type { Block, Graph, Node, Value } from '../ir.ts';
import { evaluateBinary, evaluateCompare, evaluateUnary, signed64 } from './evaluate.ts';
import { type SimulatedWorld, SimulationTrap } from './simulated-world.ts';

/** Interprets a graph and returns its result, signed. Throws SimulationTrap on a wild access or after `budget` blocks. */
export function interpret(graph: Graph, world: SimulatedWorld, budget = 10_000): bigint {
  return new Interpreter(graph, world).run(budget);
}

class Interpreter {
  private readonly graph: Graph;
  private readonly world: SimulatedWorld;
  private readonly values = new Map<Value, bigint>();
  private readonly slots = new Map<number, bigint>();

  constructor(graph: Graph, world: SimulatedWorld) {
    this.graph = graph;
    this.world = world;
  }

  run(budget: number): bigint {
    let from: Block | undefined;
    let block = this.graph.entry;
    for (let blocks = 0; blocks < budget; blocks++) {
      this.enter(block, from);
      for (const node of block.nodes) this.node(node);
      const t = block.terminator;
      from = block;
      switch (t?.kind) {
        case 'jump':
          block = t.target;
          break;
        case 'branch':
          block = evaluateCompare(t.op, t.width, this.value(t.left), this.value(t.right)) ? t.then : t.else;
          break;
        case 'check':
          block = BigInt.asUintN(64, this.value(t.pointer) + BigInt(t.size)) <= BigInt.asUintN(64, this.value(t.end)) ? t.ok : t.fail;
          break;
        case 'return':
          return this.value(t.value);
        default:
          throw new SimulationTrap(`b${block.id} has no terminator`);
      }
    }
    throw new SimulationTrap(`no return within ${budget} blocks`);
  }

  /** Phis take their inputs all at once. */
  private enter(block: Block, from: Block | undefined): void {
    if (!from) return;
    const at = block.predecessors.indexOf(from);
    const inputs = block.nodes.flatMap((node) => {
      const input = node.kind === 'phi' ? node.inputs[at] : undefined;
      return node.kind === 'phi' && input ? [{ node, value: this.value(input) }] : [];
    });
    for (const { node, value } of inputs) this.values.set(node, value);
  }

  private node(node: Node): void {
    switch (node.kind) {
      case 'store':
        this.world.write(this.address(node), node.size, this.value(node.value));
        return;
      case 'atomicAdd': {
        const address = this.address(node);
        this.world.write(address, node.size, this.world.read(address, node.size) + this.value(node.value));
        return;
      }
      case 'phi':
        return;
      default:
        this.values.set(node, this.compute(node));
    }
  }

  private compute(node: Exclude<Value, { kind: 'phi' }>): bigint {
    switch (node.kind) {
      case 'const':
        return node.value;
      case 'context':
        return this.world.contextAddress;
      case 'stackAddress':
        return this.slot(node.slot.id, node.slot.size) + BigInt(node.offset);
      case 'map':
        return this.world.mapHandle(node.map);
      case 'mapValueAddress':
        return this.world.mapValue(node.map) + BigInt(node.offset);
      case 'binary':
        return evaluateBinary(node.op, node.width, this.value(node.left), this.value(node.right));
      case 'unary':
        return evaluateUnary(node.op, this.value(node.operand));
      case 'load':
        return signed64(this.world.read(this.address(node), node.size));
      case 'call':
        return this.world.call(
          node.helper,
          node.args.map((arg) => this.value(arg)),
        );
    }
  }

  private address(node: { readonly base: Value; readonly offset: number }): bigint {
    return this.value(node.base) + BigInt(node.offset);
  }

  private slot(id: number, size: number): bigint {
    const known = this.slots.get(id);
    if (known !== undefined) return known;
    const start = this.world.stack(Math.ceil(size / 8) * 8);
    this.slots.set(id, start);
    return start;
  }

  private value(value: Value): bigint {
    if (value.kind === 'const' || value.kind === 'stackAddress' || value.kind === 'map') return this.compute(value);
    const known = this.values.get(value);
    if (known === undefined) throw new SimulationTrap(`%${value.id} is used before it is made`);
    return known;
  }
}

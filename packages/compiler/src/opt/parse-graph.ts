/** Reads what `printGraph` writes: graphs as text, for tests and for looking into one pass alone. */
import { ArgumentError } from '@tailrace/bpf';
import {
  append,
  type BinaryOp,
  type Block,
  type CompareOp,
  createGraph,
  createNode,
  type Graph,
  type MemorySize,
  type Node,
  type Phi,
  type Space,
  type StackSlot,
  setTerminator,
  type Terminator,
  type UnaryOp,
  type Value,
} from '../ir.ts';

/** Parses a graph; the first block is the entry, and ids stay. Throws ArgumentError that quotes the line. */
export function parseGraph(text: string, name = 'parsed'): Graph {
  return new GraphParser(name).parse(text);
}

const UNARY: ReadonlySet<string> = new Set(['neg', 'sext8', 'sext16', 'sext32', 'zext8', 'zext16', 'zext32', 'swap16', 'swap32', 'swap64']);

class GraphParser {
  private readonly graph: Graph;
  private readonly blocks = new Map<string, Block>();
  private readonly values = new Map<string, Value>();
  private readonly phiInputs: { readonly phi: Phi; readonly inputs: readonly string[] }[] = [];
  private line = '';

  constructor(name: string) {
    this.graph = createGraph(name);
  }

  parse(text: string): Graph {
    const lines = text
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
    const predecessors = new Map<Block, readonly Block[]>();
    for (const line of lines) {
      const header = /^(b\d+):(?: <- (.*))?$/.exec(line);
      if (header) this.declare(header[1] ?? '');
    }
    let block = this.graph.entry;
    const terminators: { readonly block: Block; readonly line: string }[] = [];
    for (const line of lines) {
      this.line = line;
      const header = /^(b\d+):(?: <- (.*))?$/.exec(line);
      if (header) {
        block = this.block(header[1] ?? '');
        predecessors.set(
          block,
          (header[2] ?? '')
            .split(' ')
            .filter(Boolean)
            .map((b) => this.block(b)),
        );
      } else if (line.startsWith('slots ')) this.slots(line);
      else if (/^(jump|if|check|return|open)\b/.test(line)) terminators.push({ block, line });
      else this.node(block, line);
    }
    for (const { block: at, line } of terminators) {
      this.line = line;
      setTerminator(at, this.terminator(line));
    }
    for (const [at, order] of predecessors) if (order.length === at.predecessors.length) at.predecessors = [...order];
    for (const { phi, inputs } of this.phiInputs) phi.inputs = inputs.map((input) => this.value(input));
    return this.graph;
  }

  private declare(label: string): void {
    if (this.blocks.size === 0) {
      this.blocks.set(label, this.graph.entry);
      return;
    }
    const block: Block = { id: Number(label.slice(1)), nodes: [], terminator: undefined, predecessors: [] };
    this.graph.blocks.push(block);
    this.blocks.set(label, block);
    this.reserve(block.id);
  }

  private reserve(id: number): void {
    this.graph.nextId = Math.max(this.graph.nextId, id + 1);
  }

  private slots(line: string): void {
    for (const [, id, size] of line.matchAll(/s(\d+):(\d+)/g)) {
      this.graph.slots.push({ id: Number(id), size: Number(size) });
      this.reserve(Number(id));
    }
  }

  private node(block: Block, line: string): void {
    const made = /^%(\d+) = (.*)$/.exec(line);
    const node = this.parseNode(made?.[2] ?? line);
    if (made) {
      const id = Number(made[1]);
      Object.assign(node, { id });
      this.reserve(id);
      if (node.kind !== 'store' && node.kind !== 'atomicAdd') this.values.set(`%${id}`, node);
    }
    append(block, node);
  }

  private parseNode(text: string): Node {
    const [body = '', type] = text.split(' : ');
    const pointer = type === undefined ? {} : { pointer: type as Space };
    const [word = '', ...rest] = body.split(' ');
    const list = rest.join(' ').split(', ');
    const [first = '', second = ''] = list;
    if (word === 'phi') {
      const phi = createNode(this.graph, { kind: 'phi', inputs: [], ...pointer });
      this.phiInputs.push({ phi, inputs: list });
      return phi;
    }
    if (word === 'mapValue') {
      const [map = '', offset] = first.slice(1).split('+');
      return createNode(this.graph, { kind: 'mapValueAddress', map, offset: Number(offset) });
    }
    if (word === 'call') return this.call(body.slice(5), pointer);
    const memory = /^(load|store|atomicAdd)(8|16|32|64)$/.exec(word);
    if (memory) {
      const [space = '', address = ''] = first.split(' ');
      const where = { space: space as Space, ...this.address(address) };
      const size = (Number(memory[2]) / 8) as MemorySize;
      if (memory[1] === 'load') return createNode(this.graph, { kind: 'load', size, ...where, ...pointer });
      if (memory[1] === 'store') return createNode(this.graph, { kind: 'store', size, ...where, value: this.value(second) });
      return createNode(this.graph, { kind: 'atomicAdd', size: size === 4 ? 4 : 8, ...where, value: this.value(second) });
    }
    if (UNARY.has(word)) return createNode(this.graph, { kind: 'unary', op: word as UnaryOp, operand: this.value(first) });
    const binary = /^(add|sub|mul|div|mod|sdiv|smod|and|or|xor|lsh|rsh|arsh)(32)?$/.exec(word);
    if (!binary) throw this.error('node');
    return createNode(this.graph, {
      kind: 'binary',
      op: binary[1] as BinaryOp,
      width: binary[2] ? 32 : 64,
      left: this.value(first),
      right: this.value(second),
      ...pointer,
    });
  }

  private call(text: string, pointer: { readonly pointer?: Space }): Node {
    const match = /^(\d+)\((.*)\)(.*)$/.exec(text);
    if (!match) throw this.error('call');
    const flags = match[3] ?? '';
    const slots = (word: string): StackSlot[] => [...flags.matchAll(new RegExp(`${word} (s\\d+)`, 'g'))].map(([, s]) => this.slot(s ?? ''));
    return createNode(this.graph, {
      kind: 'call',
      helper: Number(match[1]),
      args: (match[2] ?? '')
        .split(', ')
        .filter(Boolean)
        .map((arg) => this.value(arg)),
      pure: flags.includes(' pure'),
      movesPacket: flags.includes(' moves'),
      readsStack: slots('reads'),
      writesStack: slots('writes'),
      ...pointer,
    });
  }

  private terminator(line: string): Terminator | undefined {
    const jump = /^jump (b\d+)$/.exec(line);
    if (jump) return { kind: 'jump', target: this.block(jump[1] ?? '') };
    const branch = /^if (\S+) ([a-z]+)(32)? (\S+) then (b\d+) else (b\d+)(?: likely (then|else))?$/.exec(line);
    if (branch) {
      const [, left = '', op = '', narrow, right = '', then = '', otherwise = '', likely] = branch;
      return {
        kind: 'branch',
        op: op as CompareOp,
        width: narrow ? 32 : 64,
        left: this.value(left),
        right: this.value(right),
        then: this.block(then),
        else: this.block(otherwise),
        ...(likely === undefined ? {} : { likely: likely as 'then' | 'else' }),
      };
    }
    const check = /^check (\S+) \+(\d+) <= (\S+) ok (b\d+) fail (b\d+)$/.exec(line);
    if (check) {
      const [, pointer = '', size, end = '', ok = '', fail = ''] = check;
      return {
        kind: 'check',
        pointer: this.value(pointer),
        size: Number(size),
        end: this.value(end),
        ok: this.block(ok),
        fail: this.block(fail),
      };
    }
    const result = /^return (\S+)$/.exec(line);
    if (result) return { kind: 'return', value: this.value(result[1] ?? '') };
    if (line === 'open') return undefined;
    throw this.error('terminator');
  }

  private address(text: string): { base: Value; offset: number } {
    if (text.startsWith('&')) return { base: this.value(text), offset: 0 };
    const at = text.lastIndexOf('+');
    return { base: this.value(text.slice(0, at)), offset: Number(text.slice(at + 1)) };
  }

  private value(text: string): Value {
    if (text === 'ctx') return this.graph.context;
    if (/^-?\d+$/.test(text)) return createNode(this.graph, { kind: 'const', value: BigInt(text) });
    if (text.startsWith('@')) return createNode(this.graph, { kind: 'map', map: text.slice(1) });
    if (text.startsWith('&')) {
      const [slot = '', offset] = text.slice(1).split('+');
      return createNode(this.graph, { kind: 'stackAddress', slot: this.slot(slot), offset: Number(offset) });
    }
    const value = this.values.get(text);
    if (!value) throw this.error(`value ${text}`);
    return value;
  }

  private slot(label: string): StackSlot {
    const slot = this.graph.slots.find((s) => `s${s.id}` === label);
    if (!slot) throw this.error(`slot ${label}`);
    return slot;
  }

  private block(label: string): Block {
    const block = this.blocks.get(label);
    if (!block) throw this.error(`block ${label}`);
    return block;
  }

  private error(what: string): ArgumentError {
    return new ArgumentError(`graph text: unknown ${what} in '${this.line}'`);
  }
}

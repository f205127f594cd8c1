/**
 * Random programs that are valid: what they use is written before, packets are compared with their end, answers of lookups
 * with null, loops end. Most pass the kernel's verifier; what they answer follows from the packet and the maps alone, so that
 * every engine has to come to the same end. All that a program found out is in map `out` behind it.
 */
import type { MapSpec, ProgramType } from '@tailrace/bpf';
import { direct, gathered, keyed, queue, record, slots, stack, sum, table } from './fuzz-memory.ts';
import { bytes, field, move, packetAccess } from './fuzz-packet.ts';
import type { Random } from './fuzz-random.ts';
import { COMPARE, FuzzWriter, INNER, MAIN, type Scope } from './fuzz-writer.ts';

/** A program as text, with its maps. */
export interface FuzzProgram {
  readonly type: ProgramType;
  /** As `assemble` takes it. */
  readonly text: string;
  readonly packets: readonly Uint8Array[];
}

/** The maps that programs use, by the names that they have for them. */
export const FUZZ_MAPS = {
  out: { name: 'fuzz/out', type: 'array', keySize: 4, valueSize: 128, maxEntries: 1, flags: 0 },
  table: { name: 'fuzz/table', type: 'array', keySize: 4, valueSize: 40, maxEntries: 5, flags: 0 },
  flows: { name: 'fuzz/flows', type: 'hash', keySize: 8, valueSize: 24, maxEntries: 16, flags: 0 },
  tuples: { name: 'fuzz/tuples', type: 'hash', keySize: 16, valueSize: 8, maxEntries: 16, flags: 0 },
  names: { name: 'fuzz/names', type: 'lruHash', keySize: 13, valueSize: 8, maxEntries: 64, flags: 0 },
  recent: { name: 'fuzz/recent', type: 'lruHash', keySize: 4, valueSize: 8, maxEntries: 64, flags: 0 },
  prefixes: { name: 'fuzz/prefixes', type: 'lpmTrie', keySize: 8, valueSize: 8, maxEntries: 16, flags: 1 },
  jobs: { name: 'fuzz/jobs', type: 'queue', keySize: 0, valueSize: 8, maxEntries: 4, flags: 0 },
  ring: { name: 'fuzz/ring', type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: 4096, flags: 0 },
} as const satisfies Record<string, MapSpec>;

/** Makes a program. */
export function fuzzProgram(random: Random): FuzzProgram {
  const type = random.pick<ProgramType>(['xdp', 'xdp', 'schedCls']);
  return { type, text: new Program(random, type).text(), packets: Array.from({ length: 3 }, () => packet(random)) };
}

/** Ethernet with a type that no kernel looks behind. */
function packet(random: Random): Uint8Array {
  const bytes = random.bytes(random.pick([14, 18, 33, 60, 64, 90, 200]));
  bytes.set([0x88, 0xb5], 12);
  return bytes;
}

const ALU = ['+', '-', '*', '/', '%', '|', '&', '^', '<<', '>>', 's>>', 's/', 's%'] as const;

class Program {
  readonly #writer: FuzzWriter;
  readonly #functions: string[] = [];

  constructor(random: Random, type: ProgramType) {
    this.#writer = new FuzzWriter(random, type);
  }

  text(): string {
    const random = this.#writer.random;
    const body = this.#block(MAIN, random.between(3, 9));
    const saved = MAIN.variables.map((at, index) => `r2 = *(u64 *)(r10 -${at})\n*(u64 *)(r1 +${8 * index}) = r2`);
    const words = Array.from(
      { length: 8 },
      (_, index) => `r2 = *(u64 *)(r10 -${MAIN.buffer - 8 * index})\n*(u64 *)(r1 +${48 + 8 * index}) = r2`,
    );
    return [
      'r6 = r1',
      this.#writer.ends(),
      ...MAIN.variables.map((at) => `r1 = 0x${random.edge().toString(16)} ll\n*(u64 *)(r10 -${at}) = r1`),
      ...Array.from({ length: 8 }, (_, index) => `*(u64 *)(r10 -${MAIN.buffer - 8 * index}) = ${random.immediate()}`),
      body,
      'r1 = map[out][0]+0',
      ...saved,
      ...words,
      'r0 = *(u32 *)(r10 -8)',
      'exit',
      ...this.#functions,
    ].join('\n');
  }

  #block(scope: Scope, statements: number): string {
    return Array.from({ length: statements }, () => this.#statement(scope)).join('\n');
  }

  #statement(scope: Scope): string {
    const writer = this.#writer;
    const kinds: (() => string)[] = [
      () => this.#arithmetic(scope),
      () => this.#arithmetic(scope),
      () => stack(writer, scope),
      () => slots(writer, scope),
      () => slots(writer, scope),
      () => gathered(writer, scope),
      () => table(writer, scope),
      () => keyed(writer, scope),
      () => direct(writer, scope),
      () => sum(writer, scope),
      () => queue(writer, scope),
      () => record(writer, scope),
    ];
    if (scope.depth < 3)
      kinds.push(
        () => this.#condition(scope),
        () => this.#condition(scope),
      );
    if (scope.depth < 2 && scope.counters.length > 0) kinds.push(() => this.#loop(scope));
    if (scope.hasPacket) {
      kinds.push(
        () => packetAccess(writer, scope),
        () => packetAccess(writer, scope),
        () => packetAccess(writer, scope),
        () => bytes(writer, scope),
      );
      if (writer.type === 'xdp') kinds.push(() => move(writer, scope));
      else kinds.push(() => field(writer, scope));
    }
    if (scope === MAIN)
      kinds.push(
        () => this.#call(scope),
        () => this.#call(scope),
        () => this.#callback(scope),
      );
    return writer.random.pick(kinds)();
  }

  /** Loads some variables into r0 to r5, mixes them, and keeps what comes out. */
  #arithmetic(scope: Scope): string {
    const random = this.#writer.random;
    const count = random.between(2, 4);
    const lines = Array.from({ length: count }, (_, register) => `r${register} = ${this.#writer.variable(scope)}`);
    for (let left = random.between(1, 6); left > 0; left--) lines.push(this.#operation(random.below(count), random.below(count)));
    return [...lines, `${this.#writer.variable(scope)} = r${random.below(count)}`].join('\n');
  }

  #operation(dst: number, src: number): string {
    const random = this.#writer.random;
    const narrow = random.chance(40);
    const letter = narrow ? 'w' : 'r';
    if (random.chance(15)) {
      const unary = [
        `r${dst} = -r${dst}`,
        `w${dst} = -w${dst}`,
        `r${dst} = (s${random.pick([8, 16, 32])})r${src}`,
        `w${dst} = (s${random.pick([8, 16])})w${src}`,
        `r${dst} = ${random.pick(['be', 'le', 'bswap'])}${random.pick([16, 32, 64])} r${dst}`,
        `w${dst} = w${src}`,
        `r${dst} = 0x${random.edge().toString(16)} ll`,
      ];
      return random.pick(unary);
    }
    const operator = random.pick(ALU);
    if (random.chance(50)) return `${letter}${dst} ${operator}= ${letter}${src}`;
    if (operator.endsWith('<<') || operator.endsWith('>>')) return `${letter}${dst} ${operator}= ${random.below(narrow ? 32 : 64)}`;
    const number = random.immediate();
    return `${letter}${dst} ${operator}= ${number === 0 && /[/%]/.test(operator) ? 3 : number}`;
  }

  /** A comparison of variables; both arms do something. */
  #condition(scope: Scope): string {
    const random = this.#writer.random;
    const [other, end] = [this.#writer.label(), this.#writer.label()];
    const letter = random.pick(['r', 'w']);
    const operand = random.chance(50) ? `${letter}2` : String(random.immediate());
    const deeper = { ...scope, depth: scope.depth + 1 };
    return [
      `r1 = ${this.#writer.variable(scope)}`,
      `r2 = ${this.#writer.variable(scope)}`,
      `if ${letter}1 ${random.pick(COMPARE)} ${operand} goto ${other}`,
      this.#block(deeper, random.between(0, 2)),
      `${random.pick(['goto', 'gotol'])} ${end}`,
      `${other}:`,
      this.#block(deeper, random.between(1, 2)),
      `${end}:`,
    ].join('\n');
  }

  #loop(scope: Scope): string {
    const random = this.#writer.random;
    const [counter = 0, ...counters] = scope.counters;
    const again = this.#writer.label();
    return [
      `*(u64 *)(r10 -${counter}) = 0`,
      `${again}:`,
      this.#block({ ...scope, counters, depth: scope.depth + 1 }, random.between(1, 2)),
      `r1 = *(u64 *)(r10 -${counter})`,
      'r1 += 1',
      `*(u64 *)(r10 -${counter}) = r1`,
      `if r1 < ${random.between(2, 5)} goto ${again}`,
    ].join('\n');
  }

  /** A function of three numbers, the buffer, and perhaps the packet's ends. */
  #call(scope: Scope): string {
    const random = this.#writer.random;
    const name = `f${this.#functions.length}`;
    this.#functions.push('');
    const place = this.#functions.length - 1;
    const takesPacket = random.chance(50);
    const end = this.#writer.label();
    const room = random.pick([1, 4, 14]);
    const reads = takesPacket
      ? `r1 = r6\nr1 += ${random.pick([0, 13])}\nr2 = r1\nr2 += ${room}\nif r2 > r7 goto ${end}\n${this.#writer.access(INNER, room, 'any')}\n${end}:`
      : '';
    this.#functions[place] = [
      `${name}:`,
      ...INNER.variables.map((at, index) => `*(u64 *)(r10 -${at}) = r${index + 3}`).slice(0, 2),
      `*(u64 *)(r10 -${INNER.variables[2]}) = r4`,
      ...Array.from({ length: INNER.bytes / 8 }, (_, index) => `*(u64 *)(r10 -${INNER.buffer - 8 * index}) = ${index}`),
      'r6 = r1',
      'r7 = r2',
      'r8 = r5',
      this.#block(INNER, random.between(1, 3)),
      reads,
      `r1 = r8\n${this.#writer.access(INNER, 16, 'aligned')}`,
      `r0 = ${this.#writer.variable(INNER)}`,
      'exit',
    ].join('\n');
    const ends = takesPacket ? 'r1 = r7\nr2 = r8' : 'r1 = 5\nr2 = 7';
    return `${ends}\nr3 = ${this.#writer.variable(scope)}\nr4 = ${this.#writer.variable(scope)}\nr5 = r10\nr5 += -${scope.buffer - random.below(7) * 8}\ncall ${name}\n${this.#writer.variable(scope)} = r0`;
  }

  /** A function that is called with its turn and the buffer, or with the entries of an array and the buffer. */
  #callback(scope: Scope): string {
    const random = this.#writer.random;
    const name = `f${this.#functions.length}`;
    this.#functions.push('');
    const place = this.#functions.length - 1;
    const isEach = random.chance(40);
    const counted = isEach ? 'r1 = *(u32 *)(r2 +0)\nr8 = r4\nr7 = r3' : 'r8 = r2';
    this.#functions[place] = [
      `${name}:`,
      counted,
      ...INNER.variables.map((at) => `*(u64 *)(r10 -${at}) = r1`),
      ...Array.from({ length: INNER.bytes / 8 }, (_, index) => `*(u64 *)(r10 -${INNER.buffer - 8 * index}) = r1`),
      this.#block(INNER, random.between(1, 2)),
      isEach ? `r1 = r7\n${this.#writer.access(INNER, 40, 'atomic')}` : '',
      `r1 = r8\n${this.#writer.access(INNER, 16, 'aligned')}`,
      `r0 = ${this.#writer.variable(INNER)}`,
      `r0 &= ${random.below(2)}`,
      'exit',
    ].join('\n');
    const first = isEach ? 'r1 = map[table]' : `r1 = ${this.#writer.variable(scope)}\nr1 &= 7`;
    const helper = isEach ? 'for_each_map_elem' : 'loop';
    return `${first}\nr2 = subprog[${name}]\nr3 = r10\nr3 += -${scope.buffer}\nr4 = 0\ncall bpf_${helper}\n${this.#writer.variable(scope)} = r0`;
  }
}

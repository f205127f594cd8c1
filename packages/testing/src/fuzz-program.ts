/**
 * Random programs that are valid: what they use is written before, packets are compared with their end, answers of lookups
 * with null, loops end. Most pass the kernel's verifier; what they answer follows from the packet and the maps alone, so that
 * every engine has to come to the same end. All that a program found out is in map `out` behind it.
 */
import type { MapSpec, ProgramType } from '@tailrace/bpf';
import type { Random } from './fuzz-random.ts';

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

/** A function that is being written: which stack slots are its variables, and what it may use. */
interface Scope {
  /** Variables of 8 bytes, by their distance below r10. */
  readonly variables: readonly number[];
  /** Bytes of memory, `bytes` of them from `buffer` below r10. */
  readonly buffer: number;
  readonly bytes: number;
  /** Where counters of loops are, below r10. */
  readonly counters: readonly number[];
  /** r6 is the context, r7 the packet's start, r8 its end. */
  readonly hasPacket: boolean;
  readonly depth: number;
}

const MAIN: Scope = {
  variables: [8, 16, 24, 32, 40, 48],
  buffer: 112,
  bytes: 64,
  counters: [120, 128, 136],
  hasPacket: true,
  depth: 0,
};
const INNER: Scope = { variables: [8, 16, 24], buffer: 56, bytes: 32, counters: [64], hasPacket: false, depth: 1 };

const ALU = ['+', '-', '*', '/', '%', '|', '&', '^', '<<', '>>', 's>>', 's/', 's%'] as const;
const COMPARE = ['==', '!=', '>', '>=', '<', '<=', 's>', 's>=', 's<', 's<=', '&'] as const;
const SIZES = [8, 16, 32, 64] as const;

class Program {
  readonly #random: Random;
  readonly #type: ProgramType;
  readonly #functions: string[] = [];
  #labels = 0;

  constructor(random: Random, type: ProgramType) {
    this.#random = random;
    this.#type = type;
  }

  text(): string {
    const random = this.#random;
    const body = this.#block(MAIN, random.between(3, 9));
    const saved = MAIN.variables.map((at, index) => `r2 = *(u64 *)(r10 -${at})\n*(u64 *)(r1 +${8 * index}) = r2`);
    const words = Array.from(
      { length: 8 },
      (_, index) => `r2 = *(u64 *)(r10 -${MAIN.buffer - 8 * index})\n*(u64 *)(r1 +${48 + 8 * index}) = r2`,
    );
    return [
      'r6 = r1',
      this.#ends(),
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

  #ends(): string {
    const [start, end] = this.#type === 'xdp' ? [0, 4] : [76, 80];
    return `r7 = *(u32 *)(r6 +${start})\nr8 = *(u32 *)(r6 +${end})`;
  }

  #label(): string {
    return `l${this.#labels++}`;
  }

  #block(scope: Scope, statements: number): string {
    return Array.from({ length: statements }, () => this.#statement(scope)).join('\n');
  }

  #statement(scope: Scope): string {
    const random = this.#random;
    const kinds: (() => string)[] = [
      () => this.#arithmetic(scope),
      () => this.#arithmetic(scope),
      () => this.#stack(scope),
      () => this.#slots(scope),
      () => this.#slots(scope),
      () => this.#gathered(scope),
      () => this.#table(scope),
      () => this.#keyed(scope),
      () => this.#direct(scope),
      () => this.#sum(scope),
      () => this.#queue(scope),
      () => this.#record(scope),
    ];
    if (scope.depth < 3)
      kinds.push(
        () => this.#condition(scope),
        () => this.#condition(scope),
      );
    if (scope.depth < 2 && scope.counters.length > 0) kinds.push(() => this.#loop(scope));
    if (scope.hasPacket) {
      kinds.push(
        () => this.#packet(scope),
        () => this.#packet(scope),
        () => this.#packet(scope),
        () => this.#bytes(scope),
      );
      if (this.#type === 'xdp') kinds.push(() => this.#move(scope));
      else kinds.push(() => this.#field(scope));
    }
    if (scope === MAIN)
      kinds.push(
        () => this.#call(scope),
        () => this.#call(scope),
        () => this.#callback(scope),
      );
    return random.pick(kinds)();
  }

  #variable(scope: Scope): string {
    return `*(u64 *)(r10 -${this.#random.pick(scope.variables)})`;
  }

  // --- numbers

  /** Loads some variables into r0 to r5, mixes them, and keeps what comes out. */
  #arithmetic(scope: Scope): string {
    const random = this.#random;
    const count = random.between(2, 4);
    const lines = Array.from({ length: count }, (_, register) => `r${register} = ${this.#variable(scope)}`);
    for (let left = random.between(1, 6); left > 0; left--) lines.push(this.#operation(random.below(count), random.below(count)));
    return [...lines, `${this.#variable(scope)} = r${random.below(count)}`].join('\n');
  }

  #operation(dst: number, src: number): string {
    const random = this.#random;
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
    const random = this.#random;
    const [other, end] = [this.#label(), this.#label()];
    const letter = random.pick(['r', 'w']);
    const operand = random.chance(50) ? `${letter}2` : String(random.immediate());
    const deeper = { ...scope, depth: scope.depth + 1 };
    return [
      `r1 = ${this.#variable(scope)}`,
      `r2 = ${this.#variable(scope)}`,
      `if ${letter}1 ${random.pick(COMPARE)} ${operand} goto ${other}`,
      this.#block(deeper, random.between(0, 2)),
      `${random.pick(['goto', 'gotol'])} ${end}`,
      `${other}:`,
      this.#block(deeper, random.between(1, 2)),
      `${end}:`,
    ].join('\n');
  }

  #loop(scope: Scope): string {
    const random = this.#random;
    const [counter = 0, ...counters] = scope.counters;
    const again = this.#label();
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

  // --- memory

  /** An access by r1, `room` bytes of which are there; what is read goes to a variable. Stacks want aligned ones. */
  #access(scope: Scope, room: number, kind: 'any' | 'atomic' | 'aligned'): string {
    const random = this.#random;
    const bits = random.pick(SIZES.filter((size) => size / 8 <= room));
    const bytes = bits / 8;
    const step = kind === 'aligned' ? bytes : 1;
    const at = random.below(Math.floor((room - bytes) / step) + 1) * step;
    const place = (offset: number): string => `(r1 +${offset})`;
    if (kind !== 'any' && room >= 8 && random.chance(25)) {
      const wide = random.pick([32, 64]);
      const aligned = random.below(Math.floor(room / (wide / 8))) * (wide / 8);
      const memory = `(u${wide} *)${place(aligned)}`;
      const name = wide === 64 ? 'atomic64' : 'atomic';
      const operations = [
        `lock *${memory} ${random.pick(['+', '|', '&', '^'])}= r2`,
        `r2 = ${name}_fetch_${random.pick(['add', 'or', 'and', 'xor'])}(${memory}, r2)`,
        `r2 = ${name}_xchg(${memory}, r2)`,
        `r0 = *${memory}\n r0 ^= ${random.below(2)}\n r0 = ${name}_cmpxchg(${memory}, r0, r2)\n r2 ^= r0`,
        `r2 = load_acquire(${memory})`,
        `store_release(${memory}, r2)`,
      ];
      return `r2 = ${this.#variable(scope)}\n${random.pick(operations)}\n${this.#variable(scope)} = r2`;
    }
    const number = random.immediate();
    const accesses = [
      `r2 = *(u${bits} *)${place(at)}\n${this.#variable(scope)} = r2`,
      `r2 = *(${bits === 64 ? 'u' : 's'}${bits} *)${place(at)}\n${this.#variable(scope)} = r2`,
      `r2 = ${this.#variable(scope)}\n*(u${bits} *)${place(at)} = r2`,
      `*(u${bits} *)${place(at)} = ${number}`,
    ];
    return random.pick(accesses);
  }

  #stack(scope: Scope): string {
    const random = this.#random;
    const room = random.pick([scope.bytes, 16, 9]);
    const place = 8 * random.below(Math.floor((scope.bytes - room) / 8) + 1);
    if (random.chance(70)) return `r1 = r10\nr1 += -${scope.buffer - place}\n${this.#access(scope, room, 'aligned')}`;
    // a place that is not known before
    const mask = scope.bytes / 2 - 1;
    return `r3 = ${this.#variable(scope)}\nr3 &= ${mask}\nr1 = r10\nr1 += -${scope.buffer}\nr1 += r3\nr2 = *(u8 *)(r1 +${random.below(mask)})\n${this.#variable(scope)} = r2`;
  }

  /** Accesses of all sizes to the same few bytes, by r10 itself or a copy. */
  #slots(scope: Scope): string {
    const random = this.#random;
    const from = scope.buffer - 8 * random.below(scope.bytes / 8 - 1);
    const base = random.chance(70) ? 'r10' : 'r3';
    const lines = Array.from({ length: random.between(3, 9) }, () => {
      const bits = random.pick(SIZES);
      const place = `(${base} -${from - random.below(128 / bits) * (bits / 8)})`;
      return random.pick([
        `*(u${bits} *)${place} = ${random.pick([0, 0, random.immediate()])}`,
        `*(u${bits} *)${place} = r${random.between(1, 2)}`,
        `*(u${bits} *)${place} = r${random.between(1, 2)}`,
        `r${random.between(1, 2)} = *(u${bits} *)${place}`,
        `r${random.between(1, 2)} = *(${bits === 64 ? 'u' : 's'}${bits} *)${place}`,
        `r1 ^= r2`,
        `if r1 ${random.pick(COMPARE)} r2 goto +1`,
      ]);
    });
    // what a jump may pass over is there all the same
    return [
      `r1 = ${this.#variable(scope)}`,
      `r2 = ${this.#variable(scope)}`,
      'r3 = r10',
      ...lines,
      'r1 ^= r2',
      `${this.#variable(scope)} = r1`,
    ].join('\n');
  }

  /** A key that comes by and by, as compilers write structures, and is looked up, written or deleted. */
  #gathered(scope: Scope): string {
    const random = this.#random;
    const [map, keyBytes] = random.pick([
      ['flows', 8],
      ['tuples', 16],
      ['tuples', 16],
      ['names', 13],
      ['recent', 4],
    ] as const);
    const at = scope.buffer - random.pick([0, 4, 8]);
    const zeros = Array.from({ length: 4 }, (_, index) => `*(u32 *)(r10 -${at - 4 * index}) = 0`);
    const parts = Array.from({ length: random.between(1, 4) }, () => {
      const bits = random.pick([8, 16, 32]);
      const start = random.below(keyBytes / (bits / 8)) * (bits / 8);
      // few keys, so that some meet
      return `r1 = ${this.#variable(scope)}\nr1 &= 3\n*(u${bits} *)(r10 -${at - (start > keyBytes - bits / 8 ? 0 : start)}) = r1`;
    });
    const end = this.#label();
    const skips = random.chance(30) ? [`r1 = ${this.#variable(scope)}`, `if r1 & 1 goto ${end}a`, ...parts, `${end}a:`] : parts;
    const place = [`r1 = map[${map}]`, 'r2 = r10', `r2 += -${at}`];
    const lookup = [...place, 'call bpf_map_lookup_elem', `if r0 == 0 goto ${end}`, 'r1 = r0', this.#access(scope, 8, 'atomic'), `${end}:`];
    const value = `r3 = r10\nr3 += -${scope.buffer}\nr4 = ${random.below(3)}`;
    const update = [...place, value, 'call bpf_map_update_elem', `${this.#variable(scope)} = r0`];
    const remove = [...place, 'call bpf_map_delete_elem', `${this.#variable(scope)} = r0`];
    const calls = random.pick([lookup, update, [...lookup, ...update], [...update, ...lookup], remove]);
    return [...(random.chance(80) ? zeros : []), ...skips, ...calls].join('\n');
  }

  /** An index, perhaps one too many, and what is there. */
  #table(scope: Scope): string {
    const random = this.#random;
    const end = this.#label();
    const moved = random.chance(40) ? `r3 = ${this.#variable(scope)}\nr3 &= 15\nr1 += r3` : '';
    const spilled = random.chance(30) && scope === MAIN ? '*(u64 *)(r10 -144) = r1\nr1 = 0\nr1 = *(u64 *)(r10 -144)' : '';
    return [
      `r1 = ${this.#variable(scope)}`,
      'r1 &= 7',
      `*(u32 *)(r10 -${scope.buffer}) = r1`,
      'r1 = map[table]',
      'r2 = r10',
      `r2 += -${scope.buffer}`,
      'call bpf_map_lookup_elem',
      `if r0 == 0 goto ${end}`,
      'r1 = r0',
      spilled,
      moved,
      this.#access(scope, moved === '' ? 40 : 24, moved === '' ? 'atomic' : 'any'),
      `${end}:`,
    ].join('\n');
  }

  /** Looks up, writes or deletes in maps by key. */
  #keyed(scope: Scope): string {
    const random = this.#random;
    const [map, keyBytes] = random.pick([
      ['flows', 8],
      ['recent', 4],
      ['prefixes', 8],
    ] as const);
    const at = scope.buffer;
    const key = [`r1 = ${this.#variable(scope)}`];
    if (map === 'prefixes') key.push('r2 = r1', 'r1 &= 31', `*(u32 *)(r10 -${at}) = r1`, `*(u32 *)(r10 -${at - 4}) = r2`);
    else key.push(`r1 &= ${random.pick([3, 7])}`, `*(u${keyBytes * 8} *)(r10 -${at}) = r1`);
    key.push(`r1 = map[${map}]`, 'r2 = r10', `r2 += -${at}`);
    const kind = random.below(3);
    const end = this.#label();
    if (kind === 0)
      return [
        ...key,
        'call bpf_map_lookup_elem',
        `if r0 == 0 goto ${end}`,
        'r1 = r0',
        this.#access(scope, map === 'flows' ? 24 : 8, 'atomic'),
        `${end}:`,
      ].join('\n');
    if (kind === 1)
      return [
        ...key,
        'r3 = r10',
        `r3 += -${at - (scope.bytes - 24)}`,
        `r4 = ${random.below(3)}`,
        'call bpf_map_update_elem',
        `${this.#variable(scope)} = r0`,
      ].join('\n');
    return [...key, 'call bpf_map_delete_elem', `${this.#variable(scope)} = r0`].join('\n');
  }

  /** The address of a value. */
  #direct(scope: Scope): string {
    return `r1 = map[out][0]+${this.#random.below(5) * 8}\n${this.#access(scope, 64, 'atomic')}`;
  }

  #sum(scope: Scope): string {
    const random = this.#random;
    const side = (pointer: number, size: number): string =>
      random.chance(25)
        ? `r${pointer} = 0\nr${size} = 0`
        : `r${pointer} = r10\nr${pointer} += -${scope.buffer}\nr${size} = ${random.between(1, scope.bytes / 4) * 4}`;
    return `r5 = ${this.#variable(scope)}\nw5 = w5\n${side(1, 2)}\n${side(3, 4)}\ncall bpf_csum_diff\n${this.#variable(scope)} = r0`;
  }

  #queue(scope: Scope): string {
    const random = this.#random;
    const place = `r1 = map[jobs]\nr2 = r10\nr2 += -${scope.buffer}`;
    const call = random.pick([`r3 = ${random.pick([0, 2])}\ncall bpf_map_push_elem`, 'call bpf_map_pop_elem', 'call bpf_map_peek_elem']);
    return `${place}\n${call}\n${this.#variable(scope)} = r0`;
  }

  #record(scope: Scope): string {
    const random = this.#random;
    const end = this.#label();
    if (random.chance(30)) return `r1 = map[ring]\nr2 = ${random.below(4)}\ncall bpf_ringbuf_query\n${this.#variable(scope)} = r0`;
    if (random.chance(40))
      return `r1 = map[ring]\nr2 = r10\nr2 += -${scope.buffer}\nr3 = ${random.between(1, scope.bytes)}\nr4 = 0\ncall bpf_ringbuf_output\n${this.#variable(scope)} = r0`;
    const bytes = random.pick([8, 20, 64]);
    const stores = Array.from({ length: random.between(0, 2) }, () => {
      const bits = random.pick(SIZES);
      return `r2 = ${this.#variable(scope)}\n*(u${bits} *)(r1 +${random.below(bytes - bits / 8 + 1)}) = r2`;
    });
    return [
      `r1 = map[ring]\nr2 = ${bytes}\nr3 = 0\ncall bpf_ringbuf_reserve`,
      `if r0 == 0 goto ${end}`,
      'r1 = r0',
      ...stores,
      `r2 = 0\ncall bpf_ringbuf_${random.pick(['submit', 'discard'])}`,
      `${end}:`,
    ].join('\n');
  }

  // --- packets

  /** A place of the packet, known or not, compared with the end, and an access there. */
  #packet(scope: Scope): string {
    const random = this.#random;
    const end = this.#label();
    const room = random.pick([1, 4, 14, 20, 40]);
    const from = random.pick([0, 0, 2, 12, 14, 40]);
    const index = random.chance(40) ? `r3 = ${this.#variable(scope)}\nr3 &= ${random.pick([7, 31, 0xff])}\nr1 += r3` : '';
    const compare = random.pick([
      `if r2 > r8 goto ${end}`,
      `if r8 < r2 goto ${end}`,
      `if r2 <= r8 goto +1\ngoto ${end}`,
      `if r8 >= r2 goto +1\ngoto ${end}`,
    ]);
    const second = random.chance(30) ? this.#access(scope, room, 'any') : '';
    const spilled = random.chance(20) ? '*(u64 *)(r10 -152) = r1\nr1 = 0\nr1 = *(u64 *)(r10 -152)' : '';
    return [
      `r1 = r7`,
      `r1 += ${from}`,
      index,
      'r2 = r1',
      `r2 += ${room}`,
      compare,
      spilled,
      this.#access(scope, room, 'any'),
      second,
      `${end}:`,
    ].join('\n');
  }

  #bytes(scope: Scope): string {
    const random = this.#random;
    const family = this.#type === 'xdp' ? 'xdp' : 'skb';
    const isStore = random.chance(40);
    const flags = family === 'skb' && isStore ? 'r5 = 0\n' : '';
    const call = `r1 = r6\nr2 = ${this.#variable(scope)}\nr2 &= 63\nr3 = r10\nr3 += -${scope.buffer}\nr4 = ${random.between(1, scope.bytes)}\n${flags}call bpf_${family}_${isStore ? 'store' : 'load'}_bytes\n${this.#variable(scope)} = r0`;
    return isStore ? `${call}\n${this.#ends()}` : call;
  }

  /** Moves an end of the packet; bytes that come in front are written, since kernels leave there what was there. */
  #move(scope: Scope): string {
    const random = this.#random;
    const end = this.#label();
    if (random.chance(50)) {
      const by = random.pick([-20, -4, 3, 8, 100]);
      return `r1 = r6\nr2 = ${by}\ncall bpf_xdp_adjust_tail\n${this.#variable(scope)} = r0\n${this.#ends()}`;
    }
    const by = random.pick([-16, -8, 4, 8, 30]);
    const moved = `r1 = r6\nr2 = ${by}\ncall bpf_xdp_adjust_head\n${this.#variable(scope)} = r0\n*(u64 *)(r10 -152) = r0\n${this.#ends()}`;
    if (by > 0) return moved;
    const writes = Array.from({ length: -by / 8 }, (_, index) => `*(u64 *)(r7 +${8 * index}) = ${random.immediate()}`);
    return [
      moved,
      'r0 = *(u64 *)(r10 -152)',
      `if r0 != 0 goto ${end}`,
      'r1 = r7',
      `r1 += ${-by}`,
      `if r1 > r8 goto ${end}`,
      ...writes,
      `${end}:`,
    ].join('\n');
  }

  /** Fields of struct __sk_buff. */
  #field(scope: Scope): string {
    const random = this.#random;
    const kinds = [
      `r1 = *(u32 *)(r6 +${random.pick([0, 4, 8, 16, 32, 48, 52, 64])})\n${this.#variable(scope)} = r1`,
      `r1 = *(u${random.pick([8, 16])} *)(r6 +${random.pick([8, 10, 32, 34])})\n${this.#variable(scope)} = r1`,
      `r1 = ${this.#variable(scope)}\n*(u32 *)(r6 +${random.pick([8, 32, 48, 52, 56, 60, 64])}) = r1`,
    ];
    return random.pick(kinds);
  }

  // --- functions

  /** A function of three numbers, the buffer, and perhaps the packet's ends. */
  #call(scope: Scope): string {
    const random = this.#random;
    const name = `f${this.#functions.length}`;
    this.#functions.push('');
    const place = this.#functions.length - 1;
    const takesPacket = random.chance(50);
    const end = this.#label();
    const room = random.pick([1, 4, 14]);
    const reads = takesPacket
      ? `r1 = r6\nr1 += ${random.pick([0, 13])}\nr2 = r1\nr2 += ${room}\nif r2 > r7 goto ${end}\n${this.#access(INNER, room, 'any')}\n${end}:`
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
      `r1 = r8\n${this.#access(INNER, 16, 'aligned')}`,
      `r0 = ${this.#variable(INNER)}`,
      'exit',
    ].join('\n');
    const ends = takesPacket ? 'r1 = r7\nr2 = r8' : 'r1 = 5\nr2 = 7';
    return `${ends}\nr3 = ${this.#variable(scope)}\nr4 = ${this.#variable(scope)}\nr5 = r10\nr5 += -${scope.buffer - random.below(7) * 8}\ncall ${name}\n${this.#variable(scope)} = r0`;
  }

  /** A function that is called with its turn and the buffer, or with the entries of an array and the buffer. */
  #callback(scope: Scope): string {
    const random = this.#random;
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
      isEach ? `r1 = r7\n${this.#access(INNER, 40, 'atomic')}` : '',
      `r1 = r8\n${this.#access(INNER, 16, 'aligned')}`,
      `r0 = ${this.#variable(INNER)}`,
      `r0 &= ${random.below(2)}`,
      'exit',
    ].join('\n');
    const first = isEach ? 'r1 = map[table]' : `r1 = ${this.#variable(scope)}\nr1 &= 7`;
    const helper = isEach ? 'for_each_map_elem' : 'loop';
    return `${first}\nr2 = subprog[${name}]\nr3 = r10\nr3 += -${scope.buffer}\nr4 = 0\ncall bpf_${helper}\n${this.#variable(scope)} = r0`;
  }
}

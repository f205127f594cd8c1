/**
 * Random programs that do as they like with pointers: they copy them, move them, put them into stack slots and overwrite these,
 * compare them with the wrong ones, jump into the middle of it all, and then use them. Few would pass a verifier. An engine
 * that leaves out a check which was needed shows here.
 */
import type { FuzzProgram } from './fuzz-program.ts';
import type { Random } from './fuzz-random.ts';

/** What a register was last given; jumps may have brought something else. */
type Guess = 'packet' | 'end' | 'value' | 'number' | 'frame' | 'context';

const REGISTERS = [0, 1, 2, 3, 4, 5, 7, 8, 9] as const;
const SLOTS = [8, 16, 24, 32] as const;
const BITS = [8, 16, 32, 64] as const;
/** Lengths at which accesses at the offsets below just fit, or just do not. */
const LENGTHS = [14, 15, 16, 18, 20, 22, 24, 28, 32, 64] as const;
const DISTANCES = [0, 1, 2, 4, 8, 12, 14, 16, 20] as const;

/** Makes a program. Maps: `FUZZ_MAPS` of fuzz-program.ts. */
export function pointerProgram(random: Random): FuzzProgram {
  const packets = Array.from({ length: 4 }, () => random.bytes(random.pick(LENGTHS)));
  return { type: 'xdp', text: new Chaos(random).text(), packets };
}

class Chaos {
  readonly #random: Random;
  readonly #guesses = new Map<number, Guess>();
  readonly #slots = new Map<number, Guess>();
  readonly #functions: string[] = [];
  #blocks = 0;
  /** The block that is being written. */
  #current = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  text(): string {
    const random = this.#random;
    this.#blocks = random.between(3, 9);
    const start = ['r6 = r1', this.#lookup(0), 'r9 = r0', 'r7 = *(u32 *)(r6 +0)', 'r8 = *(u32 *)(r6 +4)', 'r4 = *(u8 *)(r7 +3)'];
    start.push('r1 = r7', 'r2 = r8', 'r3 = 0', 'r5 = r9', 'r0 = 1');
    for (const [register, guess] of [
      [0, 'number'],
      [1, 'packet'],
      [2, 'end'],
      [3, 'number'],
      [4, 'number'],
      [5, 'value'],
      [7, 'packet'],
      [8, 'end'],
      [9, 'value'],
    ] as const)
      this.#guesses.set(register, guess);
    for (const [slot, register] of [
      [8, 7],
      [16, 9],
      [24, 4],
      [32, 1],
    ] as const) {
      start.push(`*(u64 *)(r10 -${slot}) = r${register}`);
      this.#slots.set(slot, this.#guesses.get(register) as Guess);
    }
    const blocks = Array.from({ length: this.#blocks }, (_, index) => `b${index}:\n${this.#block(index)}`);
    return [...start, ...blocks, `b${this.#blocks}:`, 'r0 = r4', 'exit', ...this.#functions].join('\n');
  }

  #block(index: number): string {
    const random = this.#random;
    this.#current = index;
    const lines = Array.from({ length: random.between(2, 6) }, () => this.#step());
    if (random.chance(55)) lines.push(this.#jump());
    return lines.join('\n');
  }

  /** A register that likely holds such a thing; sometimes any. */
  #register(...wanted: readonly Guess[]): number {
    const random = this.#random;
    const fitting = REGISTERS.filter((register) => wanted.includes(this.#guesses.get(register) as Guess));
    return fitting.length > 0 && !random.chance(4) ? random.pick(fitting) : random.pick(REGISTERS);
  }

  /** One that may be overwritten: not the last of its kind, mostly. */
  #target(): number {
    const random = this.#random;
    const spare = REGISTERS.filter((register) => {
      const guess = this.#guesses.get(register);
      return REGISTERS.filter((other) => this.#guesses.get(other) === guess).length > 1;
    });
    return spare.length > 0 ? random.pick(spare) : random.pick(REGISTERS);
  }

  #give(register: number, guess: Guess): string {
    this.#guesses.set(register, guess);
    return `r${register}`;
  }

  #step(): string {
    const random = this.#random;
    const steps: (() => string)[] = [
      () => this.#copy(),
      () => this.#copy(),
      () => this.#move(),
      () => this.#move(),
      () => this.#checkedMove(),
      () => this.#checkedMove(),
      () => this.#spill(),
      () => this.#spill(),
      () => this.#slot(),
      () => this.#slot(),
      () => this.#access('packet'),
      () => this.#access('packet'),
      () => this.#access('value'),
      () => this.#access('value'),
      () => this.#number(),
      () => this.#number(),
      () => this.#number(),
      () => this.#bounded(),
      () => this.#bounded(),
      () => this.#test(),
      () => this.#again(),
      () => this.#rare(),
    ];
    return random.pick(steps)();
  }

  #copy(): string {
    const from = this.#register('packet', 'value', 'end', 'number');
    const guess = this.#guesses.get(from) as Guess;
    return `${this.#give(this.#target(), guess)} = r${from}`;
  }

  /** A pointer and a number: known, bounded, or any. */
  #move(): string {
    const random = this.#random;
    const pointer = this.#register('packet', 'value');
    if (random.chance(60))
      return `r${pointer} += ${random.chance(85) ? random.pick(DISTANCES) : random.pick([-1, -4, -8, 0x7fff, 0x1_0000])}`;
    const by = this.#register('number');
    const narrow = random.chance(70) ? `r${by} &= ${random.pick([1, 3, 7, 8, 15])}\n` : '';
    return `${narrow}r${pointer} ${random.chance(90) ? '+=' : '-='} r${by}`;
  }

  /** A copy goes ahead, is compared with what may be the end, and a way is taken or not. */
  #checkedMove(): string {
    const random = this.#random;
    const [pointer, end] = [this.#register('packet'), this.#register('end')];
    const ahead = this.#target();
    const guess = this.#guesses.get(pointer) as Guess;
    const [left, right] = random.chance(60) ? [ahead, end] : [end, ahead];
    const letter = random.chance(93) ? 'r' : 'w';
    const condition = random.pick(['>', '>', '>=', '<', '<', '<=', '==', 's>']);
    return `${this.#give(ahead, guess)} = r${pointer}\nr${ahead} += ${random.pick(DISTANCES)}\nif ${letter}${left} ${condition} ${letter}${right} goto ${this.#somewhere()}`;
  }

  #spill(): string {
    const random = this.#random;
    const slot = random.pick(SLOTS);
    if (random.chance(15)) {
      const bits = random.pick(BITS);
      return `*(u${bits} *)(r10 -${slot - random.pick([0, 0, 1, 4])}) = ${random.chance(50) ? random.below(100) : `r${random.pick(REGISTERS)}`}`;
    }
    if (random.chance(50)) {
      const from = this.#register('packet', 'value', 'number', 'end');
      this.#slots.set(slot, this.#guesses.get(from) as Guess);
      return `*(u64 *)(r10 -${slot}) = r${from}`;
    }
    return `${this.#give(this.#target(), this.#slots.get(slot) ?? 'number')} = *(u64 *)(r10 -${slot})`;
  }

  /** A part of some slots, at any place and of any size. */
  #slot(): string {
    const random = this.#random;
    const bits = random.pick(BITS);
    const place = `*(${random.chance(30) && bits < 64 ? 's' : 'u'}${bits} *)(r10 -${random.between(bits / 8, 48)})`;
    if (random.chance(45)) return `${this.#give(this.#target(), 'number')} = ${place}`;
    const stored = place.replace('*(s', '*(u');
    return `${stored} = ${random.chance(30) ? random.pick([0, 0, -1, 7]) : `r${this.#register('number', 'value', 'packet')}`}`;
  }

  #access(guess: Guess): string {
    const random = this.#random;
    const pointer = this.#register(guess);
    const bits = random.pick(BITS);
    const offset = random.chance(92)
      ? random.pick(guess === 'value' ? [0, 4, 8, 16, 32, 36, 39] : [0, 0, 1, 2, 4, 8, 12, 14])
      : random.pick([-1, -8, 40, 100]);
    const place = `*(u${bits} *)(r${pointer} ${offset < 0 ? '-' : '+'}${Math.abs(offset)})`;
    if (random.chance(25)) return `${place} = r${this.#register('number')}`;
    const to = this.#target();
    return `${this.#give(to, 'number')} = ${place}`;
  }

  /** Arithmetic whose bounds somebody has to know. */
  #number(): string {
    const random = this.#random;
    const number = this.#register('number');
    const other = this.#register('number');
    const letter = random.chance(70) ? 'r' : 'w';
    const steps = [
      `r${number} &= ${random.pick([1, 7, 8, 15, 16, 31, 39, 0xff])}`,
      `${letter}${number} ${random.pick(['+', '-', '|', '^', '*', '&', '>>', '<<', '%', '/'])}= ${letter}${other}`,
      `${letter}${number} ${random.pick(['+', '-', '|', '^', '*', '%', '/'])}= ${random.pick([1, 2, 3, 8, 15, 16, -1])}`,
      `${letter}${number} ${random.pick(['>>', '<<', 's>>'])}= ${random.pick([1, 3, 8, 28, 31])}`,
      `r${number} = ${random.pick(['be', 'le', 'bswap'])}${random.pick([16, 32, 64])} r${number}`,
      `r${number} = (s${random.pick([8, 16, 32])})r${other}`,
      `r${number} = ${random.pick([0, 1, 7, 8, 16, 24, 32, 40, -1])}`,
      `${letter}${number} = ${letter}${other}`,
      `r${number} = 0x${random.edge().toString(16)} ll`,
    ];
    return random.pick(steps);
  }

  /** A comparison that bounds a number, and a value or packet pointer that it is added to. */
  #bounded(): string {
    const random = this.#random;
    const number = this.#register('number');
    const pointer = this.#register('value', 'packet');
    const letter = random.chance(65) ? 'r' : 'w';
    const condition = random.pick(['>', '>=', '<', '<=', 's>', 's<', 's>=', '==', '!=']);
    const made = random.chance(50) ? `${this.#number()}\n` : '';
    return `${made}if ${letter}${number} ${condition} ${random.pick([0, 1, 7, 8, 15, 24, 32, 39, 40])} goto ${this.#somewhere()}\nr${pointer} += r${number}\n${random.chance(70) ? this.#access(this.#guesses.get(pointer) ?? 'value') : ''}`;
  }

  /** A test for null, of this pointer or a copy of it. */
  #test(): string {
    const random = this.#random;
    const pointer = this.#register('value');
    const letter = random.chance(92) ? 'r' : 'w';
    return `if ${letter}${pointer} ${random.pick(['==', '==', '!='])} 0 goto ${this.#somewhere()}`;
  }

  /** What was there at the start, once more. */
  #again(): string {
    const random = this.#random;
    const target = this.#target();
    if (random.chance(30)) return `${this.#give(target, 'packet')} = *(u32 *)(r6 +0)`;
    if (random.chance(45)) return `${this.#give(target, 'end')} = *(u32 *)(r6 +4)`;
    if (random.chance(50)) return `${this.#give(target, 'number')} = ${random.pick([0, 0, 0, 1, 8])}`;
    return `${this.#kept(this.#lookup(random.below(7)))}\n${this.#give(target, 'value')} = r0`;
  }

  #rare(): string {
    const random = this.#random;
    const pointer = this.#register('value', 'packet');
    const steps = [
      () => this.#kept(`r1 = r6\nr2 = ${random.pick([-8, -4, 1, 2, 4])}\ncall bpf_xdp_adjust_head`),
      () => this.#kept(`r1 = r6\nr2 = ${random.pick([-8, -4, -1, 2])}\ncall bpf_xdp_adjust_tail`),
      () =>
        this.#kept(
          `r1 = r6\nr2 = 0\nr3 = r10\nr3 += -${random.pick([8, 16, 24, 12])}\nr4 = ${random.pick([4, 8])}\ncall bpf_xdp_load_bytes`,
        ),
      () => this.#call(),
      () => this.#call(),
      () =>
        `${this.#give(pointer, 'frame')} = r10\nr${pointer} += -${random.pick([8, 16, 24, 32])}\n*(u${random.pick([8, 32, 64])} *)(r${pointer} +0) = ${random.below(50)}`,
      () => `r${pointer} ^= 0`,
      () => `r${pointer} ^= r${pointer}`,
      () => `w${pointer} = w${pointer}`,
    ];
    return random.pick(steps)();
  }

  /** A function that gets two registers and does something to what they point to. */
  #call(): string {
    const random = this.#random;
    const name = `f${this.#functions.length}`;
    const [first, second] = [this.#register('packet', 'value', 'number'), this.#register('end', 'value', 'number')];
    const passed = random.chance(35) ? `r3 = r10\nr3 += -${random.pick([8, 16, 24])}` : 'r3 = r6';
    const bodies = [
      `*(u64 *)(r3 +0) = ${random.below(9)}`,
      `r4 = r1\nr4 += ${random.pick(DISTANCES)}\nif r4 > r2 goto +1\nr0 = *(u${random.pick(BITS)} *)(r1 +${random.pick([0, 4, 8])})`,
      `if r1 == 0 goto +1\nr0 = *(u${random.pick(BITS)} *)(r1 +${random.pick([0, 8, 36, 39])})`,
      `r1 = r3\nr2 = ${random.pick([-4, 2, 4])}\ncall bpf_xdp_adjust_${random.pick(['head', 'tail'])}`,
      `r4 = r10\nr2 = 0x1000001f8 ll\nr4 -= r2\n*(u64 *)(r4 -${random.pick([0, 8, 16])}) = ${random.below(9)}`,
      `*(u64 *)(r10 -8) = r1\nr1 = *(u64 *)(r10 -8)\nr0 = r1`,
    ];
    this.#functions.push(`${name}:\nr0 = 3\n${random.pick(bodies)}\nexit`);
    const call = this.#kept(`r1 = r${first}\nr2 = r${second === 1 ? 8 : second}\n${passed}\ncall ${name}`);
    return random.chance(40) ? `${call}\n${this.#give(this.#target(), 'number')} = r0` : call;
  }

  /** Calls leave r1 to r5 alone here; which of them still mean something is anybody's guess. */
  #kept(call: string): string {
    this.#guesses.set(0, 'number');
    for (const register of [1, 2, 3, 4, 5]) this.#guesses.set(register, 'number');
    const end = this.#register('end');
    return `${call}\nr1 = r7\nr2 = r${end}\nr3 = 0\nr4 = 7\nr5 = r9${this.#regiven()}`;
  }

  #regiven(): string {
    for (const [register, from] of [
      [1, 7],
      [5, 9],
    ] as const)
      this.#guesses.set(register, this.#guesses.get(from) ?? 'number');
    this.#guesses.set(2, 'end');
    return '';
  }

  #lookup(index: number): string {
    return `*(u32 *)(r10 -40) = ${index}\nr1 = map[table]\nr2 = r10\nr2 += -40\ncall bpf_map_lookup_elem`;
  }

  #jump(): string {
    const random = this.#random;
    if (random.chance(25)) return `goto ${this.#other()}`;
    const number = this.#register('number');
    return `if r${number} ${random.pick(['==', '!=', '>', '&'])} ${random.pick([0, 1, 3, 8])} goto ${this.#other()}`;
  }

  /** A block, mostly one that comes later. */
  #other(): string {
    const random = this.#random;
    return random.chance(12) ? `b${random.below(this.#blocks)}` : `b${Math.min(this.#blocks, this.#current + random.between(1, 3))}`;
  }

  /** A block, or a place just behind. */
  #somewhere(): string {
    return this.#random.chance(40) ? `+${this.#random.pick([0, 1])}` : this.#other();
  }
}

/** What all parts of a random program are written with: the functions' frames, labels, variables, accesses to memory. */
import type { ProgramType } from '@tailrace/bpf';
import type { Random } from './fuzz-random.ts';

/** A function that is being written: which stack slots are its variables, and what it may use. */
export interface Scope {
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

/** What is called first. */
export const MAIN: Scope = {
  variables: [8, 16, 24, 32, 40, 48],
  buffer: 112,
  bytes: 64,
  counters: [120, 128, 136],
  hasPacket: true,
  depth: 0,
};
/** What it calls. */
export const INNER: Scope = { variables: [8, 16, 24], buffer: 56, bytes: 32, counters: [64], hasPacket: false, depth: 1 };

/** Comparisons of jumps. */
export const COMPARE = ['==', '!=', '>', '>=', '<', '<=', 's>', 's>=', 's<', 's<=', '&'] as const;
/** Of accesses, in bits. */
export const SIZES = [8, 16, 32, 64] as const;

/** Writes one program. */
export class FuzzWriter {
  readonly random: Random;
  readonly type: ProgramType;
  #labels = 0;

  constructor(random: Random, type: ProgramType) {
    this.random = random;
    this.type = type;
  }

  /** One that is not there yet. */
  label(): string {
    return `l${this.#labels++}`;
  }

  /** One of them, to be read or written. */
  variable(scope: Scope): string {
    return `*(u64 *)(r10 -${this.random.pick(scope.variables)})`;
  }

  /** Reads the packet's ends anew. */
  ends(): string {
    const [start, end] = this.type === 'xdp' ? [0, 4] : [76, 80];
    return `r7 = *(u32 *)(r6 +${start})\nr8 = *(u32 *)(r6 +${end})`;
  }

  /** An access by r1, `room` bytes of which are there; what is read goes to a variable. Stacks want aligned ones. */
  access(scope: Scope, room: number, kind: 'any' | 'atomic' | 'aligned'): string {
    const random = this.random;
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
      return `r2 = ${this.variable(scope)}\n${random.pick(operations)}\n${this.variable(scope)} = r2`;
    }
    const number = random.immediate();
    const accesses = [
      `r2 = *(u${bits} *)${place(at)}\n${this.variable(scope)} = r2`,
      `r2 = *(${bits === 64 ? 'u' : 's'}${bits} *)${place(at)}\n${this.variable(scope)} = r2`,
      `r2 = ${this.variable(scope)}\n*(u${bits} *)${place(at)} = r2`,
      `*(u${bits} *)${place(at)} = ${number}`,
    ];
    return random.pick(accesses);
  }
}

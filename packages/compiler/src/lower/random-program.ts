/**
 * Random pieces of programs for differential tests: expressions over the fields of `f`, and statements over variables,
 * made from a list of choices, so that fast-check can shrink them. Not all of them are accepted by the compiler.
 */
import { array, be16, be32, be64, bits, bool, flag, i32, i64, mac, packed, u8, u16, u32, u64 } from '@tailrace/stage';

/** What expressions read, as `f`: 61 bytes at the start of a packet. */
export const Fields = packed(
  {
    b: u8,
    w: u16,
    d: u32,
    s: i32,
    q: u64,
    l: i64,
    nw: be16,
    nd: be32,
    nq: be64,
    hw: mac,
    c: u8,
    yes: bool,
    e: u8,
    dd: u32,
    list: array(u8, 8),
  },
  { low: bits('d', 0, 5), mid: bits('d', 9, 12), times: bits('b', 4, 4, { scale: 4 }), odd: flag('w', 0), top: flag('d', 31) },
);

const NUMBERS = ['f.b', 'f.w', 'f.d', 'f.s', 'f.nw', 'f.nd', 'f.hw', 'f.c', 'f.e', 'f.dd', 'f.low', 'f.mid', 'f.times'];
const CONSTANTS = [
  0,
  1,
  2,
  3,
  5,
  7,
  8,
  15,
  16,
  31,
  32,
  33,
  127,
  128,
  255,
  256,
  1000,
  32767,
  32768,
  65535,
  65536,
  0x7fff_ffff,
  0x8000_0000,
  0xffff_ffff,
  -1,
  -2,
  -128,
  -32769,
  -0x8000_0000,
  2 ** 32,
  2 ** 40,
  -(2 ** 40),
];
const BIGINTS = ['f.q', 'f.l', 'f.nq'];
const BIG_CONSTANTS = [
  '0n',
  '1n',
  '2n',
  '3n',
  '-1n',
  '255n',
  '256n',
  '0x7fffffffn',
  '0x80000000n',
  '0xffffffffn',
  '0x100000000n',
  '0x7fffffffffffffffn',
  '0x8000000000000000n',
  '0xffffffffffffffffn',
  '-0x8000000000000000n',
  '-2n',
];
const RELATIONS = ['<', '<=', '>', '>=', '===', '!=='];

/** Draws from a list of numbers, and zeros when it has ended. */
export class RandomProgram {
  readonly #choices: readonly number[];
  #at = 0;
  /** Number variables in scope. */
  #variables: readonly string[] = [];
  #names = 0;

  constructor(choices: readonly number[]) {
    this.#choices = choices;
  }

  /** Has every choice been used? */
  get ended(): boolean {
    return this.#at >= this.#choices.length;
  }

  #draw(below: number): number {
    return (this.#choices[this.#at++] ?? 0) % below;
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#draw(list.length)] as T;
  }

  /** A number, computed with any operator of the language. */
  number(depth: number): string {
    if (depth === 0 || this.ended) return this.#leaf();
    const part = (): string => this.number(depth - 1);
    switch (this.#draw(26)) {
      case 0:
        return `(${part()} + ${part()})`;
      case 1:
        return `(${part()} - ${part()})`;
      case 2:
        return `(${part()} * ${part()})`;
      case 3:
        return `((${part()} + ${part()}) >>> 0)`;
      case 4:
        return `Math.imul(${part()}, ${part()})`;
      case 5:
        return `(${part()} & ${part()})`;
      case 6:
        return `(${part()} | ${part()})`;
      case 7:
        return `(${part()} ^ ${part()})`;
      case 8:
        return `(${part()} << ${this.#draw(40)})`;
      case 9:
        return `(${part()} >> ${this.#draw(40)})`;
      case 10:
        return `(${part()} >>> ${this.#draw(40)})`;
      case 11:
        return `(${part()} ${this.#pick(['<<', '>>', '>>>'])} ${part()})`;
      case 12:
        return `Math.trunc(${this.#dividend(depth)} / ${this.#divisor(depth)})`;
      case 13:
        return `((${this.#dividend(depth)} / ${this.#divisor(depth)}) ${this.#pick(['| 0', '>>> 0'])})`;
      case 14:
        return `(${this.#dividend(depth)} % ${this.#divisor(depth)})`;
      case 15:
        return `Math.${this.#pick(['min', 'max'])}(${part()}, ${part()})`;
      case 16:
        return `Math.clz32(${part()})`;
      case 17:
        return `${this.#pick(['-', '~', '+'])}(${part()})`;
      case 18:
      case 19:
        return `(${this.condition(depth - 1)} ? ${part()} : ${part()})`;
      case 20:
        return `Number(${this.bigint(depth - 1)} & ${this.#pick(['0xffn', '0xffffffffn', '0x1fffffffffffffn'])})`;
      case 21:
        return `Number(BigInt.as${this.#pick(['Uint', 'Int'])}N(${this.#pick([8, 16, 32])}, ${this.bigint(depth - 1)}))`;
      case 22:
        return `(${part()} & ${this.#pick([1, 7, 0xff, 0xffff, 0x7fff_ffff])})`;
      case 23:
        return `f.list[${part()} & 7]`;
      case 24: {
        const index = this.#pick([...this.#variables, 'f.b', 'f.e', 'f.d']);
        return `(${index} ${this.#pick(['>= 0 && ', '> 0 && ', '!== 9 && '])}${index} < ${this.#pick([8, 5])} && ${index} >= 0 ? f.list[${index}] : ${part()})`;
      }
      default:
        return `(${part()}, ${part()})`;
    }
  }

  #leaf(): string {
    if (this.#variables.length > 0 && this.#draw(2) === 0) return this.#pick(this.#variables);
    return this.#draw(3) === 0 ? `(${this.#pick(CONSTANTS)})` : this.#pick(NUMBERS);
  }

  #dividend(depth: number): string {
    return this.#draw(3) === 0 ? this.number(depth - 1) : `(${this.number(depth - 1)} >>> 0)`;
  }

  #divisor(depth: number): string {
    const value = this.number(depth - 1);
    return this.#pick([`((${value} >>> 0) + 1)`, `((${value} & 255) + 3)`, `Math.max(1, ${value})`, '7', '256', '1', '0xffffffff']);
  }

  /** A bigint, computed with any operator of the language. */
  bigint(depth: number): string {
    if (depth === 0 || this.ended) return this.#draw(3) === 0 ? `(${this.#pick(BIG_CONSTANTS)})` : this.#pick(BIGINTS);
    const part = (): string => this.bigint(depth - 1);
    const exact = (): string => `BigInt.as${this.#pick(['Uint', 'Uint', 'Int'])}N(64, ${part()})`;
    const unsigned = (): string => `BigInt.asUintN(64, ${part()})`;
    switch (this.#draw(20)) {
      case 0:
      case 1:
        return `(${part()} + ${part()})`;
      case 2:
      case 3:
        return `(${part()} - ${part()})`;
      case 4:
        return `(${part()} * ${part()})`;
      case 5:
      case 6:
        return `(${part()} & ${part()})`;
      case 7:
        return `(${part()} | ${part()})`;
      case 8:
        return `(${part()} ^ ${part()})`;
      case 9:
        return `(${part()} << ${this.#draw(64)}n)`;
      case 10:
        return `(${part()} << (${part()} & 63n))`;
      case 11:
        return `(${exact()} >> ${this.#draw(64)}n)`;
      case 12:
        return `(${exact()} >> (${part()} & 31n))`;
      case 13:
        return `(${unsigned()} ${this.#pick(['/', '%'])} (${unsigned()} | 1n))`;
      case 14:
        return `(${unsigned()} ${this.#pick(['/', '%'])} ${this.#pick(['3n', '256n', '0xffffffffffffffffn', '0x100000001n'])})`;
      case 15:
        return `BigInt(${this.number(depth - 1)})`;
      case 16:
        return `${this.#pick(['-', '~'])}(${part()})`;
      case 17: {
        const by = this.#pick(['f.q', 'f.nq']);
        return `(${by} ${this.#pick(['> 0n', '!== 0n', '>= 1n'])} ? ${unsigned()} ${this.#pick(['/', '%'])} ${by} : ${part()})`;
      }
      case 18:
        return `(f.l >= 0n && f.l < ${this.#pick(['64n', '9n'])} ? ${exact()} >> f.l : ${part()})`;
      default:
        return `(${this.condition(depth - 1)} ? ${part()} : ${part()})`;
    }
  }

  /** A condition: comparisons, truth of numbers and flags, and how they combine. */
  condition(depth: number): string {
    const number = (): string => this.number(Math.max(0, depth - 1));
    if (depth <= 0 || this.ended)
      return this.#pick([`(${number()} ${this.#pick(RELATIONS)} ${number()})`, 'f.yes', 'f.odd', 'f.top', number()]);
    const part = (): string => this.condition(depth - 1);
    const wide = (kind: string): string => `BigInt.as${kind}N(64, ${this.bigint(depth - 1)})`;
    switch (this.#draw(9)) {
      case 0:
        return `(${part()} && ${part()})`;
      case 1:
        return `(${part()} || ${part()})`;
      case 2:
        return `!${part()}`;
      case 3:
        return `(${part()} ? ${part()} : ${part()})`;
      case 4: {
        const kind = this.#pick(['Uint', 'Int']);
        return `(${wide(kind)} ${this.#pick(RELATIONS)} ${wide(kind)})`;
      }
      case 5:
        return `(f.yes ${this.#pick(['===', '!=='])} ${this.#pick(['true', 'false', 'f.odd', '(f.b > 9)'])})`;
      default:
        return `(${number()} ${this.#pick(RELATIONS)} ${number()})`;
    }
  }

  /** Statements over number variables, each kept within 32 bits; the last hands their values to `out`. */
  block(out: (value: string) => string): string {
    const lines: string[] = [];
    const outer = this.#variables;
    for (let i = 0; i < 3; i++) lines.push(this.#declare());
    while (!this.ended) lines.push(this.#statement(2));
    lines.push(...this.#variables.map((name) => out(name)));
    this.#variables = outer;
    return lines.join('\n');
  }

  #wrapped(depth: number): string {
    return `${this.number(depth)} ${this.#pick(['>>> 0', '| 0', '& 0xffff'])}`;
  }

  #declare(): string {
    const name = `v${this.#names++}`;
    const text = `let ${name} = ${this.#wrapped(1)};`;
    this.#variables = [...this.#variables, name];
    return text;
  }

  #statement(depth: number): string {
    const name = this.#pick(this.#variables);
    if (depth === 0 || this.ended) return `${name} = ${this.#wrapped(2)};`;
    const inner = (): string => {
      const outer = this.#variables;
      const lines = this.#draw(3) === 0 ? [this.#declare()] : [];
      for (let i = this.#draw(2); i >= 0; i--) lines.push(this.#statement(depth - 1));
      this.#variables = outer;
      return `{ ${lines.join(' ')} }`;
    };
    const cases = (): string =>
      [0, 1, 2].map((i) => `case ${i}: ${this.#statement(0)} ${this.#pick(['break;', '', '', 'break;'])}`).join(' ');
    switch (this.#draw(17)) {
      case 0:
      case 1:
        return `if (${this.condition(1)}) ${inner()}`;
      case 2:
      case 3:
        return `if (${this.condition(2)}) ${inner()} else ${inner()}`;
      case 4:
        return `switch (${name} & 3) { ${cases()} default: ${this.#statement(0)} }`;
      case 5:
        return `switch ((${name} >>> 0) % 5) { default: ${this.#statement(0)} ${this.#pick(['break;', ''])} ${cases()} }`;
      case 6: {
        const i = `i${this.#names++}`;
        const jump = this.#pick(['', `if (${this.condition(1)}) continue;`, `if (${this.condition(1)}) break;`]);
        return `for (let ${i} = 0; ${i} < ${1 + this.#draw(4)}; ${i}++) { ${jump} ${name} = (${name} * 5 + ${i}) >>> 0; ${this.#statement(0)} }`;
      }
      case 7: {
        const i = `i${this.#names++}`;
        return `o${i}: for (const ${i} of [1, 3, 8]) { for (let j = 0; j < 3; j++) { if (j === (${name} & 3)) ${this.#pick(['continue', 'break'])} ${this.#pick([`o${i}`, ''])}; ${name} = (${name} + ${i} * j) >>> 0; } }`;
      }
      case 8:
        return `${name} ${this.#pick(['&=', '|=', '^=', '>>=', '>>>=', '<<='])} ${this.number(1)};`;
      case 9:
        return `${name} &= 0xffff; ${name}${this.#pick(['++', '--'])};`;
      case 10:
        return `${this.condition(1)} ${this.#pick(['&&', '||'])} (${name} = ${this.#wrapped(1)});`;
      case 11:
        return `${this.condition(1)} ? ${name} = ${this.#wrapped(1)} : ${name}--;`;
      case 12:
        return `${name} &= 0xfff; ${name} = ${name}++ + ++${name};`;
      case 13:
        return `f.${this.#pick(['b', 'w', 'd', 's', 'nw', 'nd', 'hw', 'c'])} = ${this.number(1)};`;
      case 14:
        return `f.list[${this.number(1)} & 7] ${this.#pick(['=', '+=', '^='])} ${this.number(1)};`;
      case 15:
        return `f.${this.#pick(['q', 'l', 'nq'])} ${this.#pick(['=', '+=', '*='])} ${this.bigint(1)};`;
      default:
        return `${name} = ${this.#wrapped(2)};`;
    }
  }
}

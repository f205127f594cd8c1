/**
 * Random programs over memory for differential tests: object literals as keys and values, maps, struct copies, writes to
 * packets and early exits, made from a list of choices as RandomProgram is. Entries are not used after their map changed:
 * the kernel may give their memory to others.
 */
import { array, be16, be32, equal, hash, hashOf, lruHash, mac, packed, perCpuArray, struct, u8, u16, u32, u64 } from '@tailrace/stage';

const Pair = struct({ a: u8, b: u32 });
/** Holes behind a, c, x and at the end. */
const Key = struct({ a: u8, b: be32, c: u16, inner: struct({ x: u8, y: be16 }), q: u64, z: u8 });
const Value = struct({ n: u64, d: u32, pair: Pair, words: array(u16, 3), hw: mac, pairs: array(Pair, 2) });
const Tight = packed({ a: u8, q: u64, m: mac });

/** What the programs use. `f` is at the start of the packet. */
export const memoryUses = {
  Fields: packed({ b: u8, w: be16, d: u32, q: u64, c: u8, pair: Pair, pairs: array(Pair, 2), hw: mac }),
  table: hash({ name: 'table', key: Key, value: Value, maxEntries: 100 }),
  tight: lruHash({ name: 'tight', key: Tight, value: Pair, maxEntries: 100 }),
  own: perCpuArray({ name: 'own', value: Value, maxEntries: 1 }),
  hashed: hashOf(Key),
  same: equal(Key),
};

/** Draws from a list of numbers, and zeros when it has ended. */
export class RandomMemory {
  readonly #choices: readonly number[];
  #at = 0;
  #names = 0;
  /** Literals in scope that are keys of `table`. */
  #keys: readonly string[] = [];

  constructor(choices: readonly number[]) {
    this.#choices = choices;
  }

  /** The body, from the header on. */
  body(): string {
    const lines = ['const f = ctx.at(Fields, 0); const o = own.lookup(0); if (!f || !o) return ctx.drop(); let r = 1;', this.#key()];
    while (this.#at < this.#choices.length) lines.push(this.#statement(2));
    lines.push('o.d = r; return ctx.next();');
    return lines.join('\n');
  }

  #draw(below: number): number {
    return (this.#choices[this.#at++] ?? 0) % below;
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#draw(list.length)] as T;
  }

  #number(): string {
    return this.#pick([
      '0',
      '1',
      '7',
      '300',
      '-1',
      'f.b',
      'f.c',
      'f.w',
      'f.d',
      '(f.b & 3)',
      '(f.c & 1)',
      'f.pair.b',
      'f.pairs[1].a',
      'o.pair.b',
      'o.words[1]',
      '(r & 0xff)',
      'f.hw',
    ]);
  }

  #bigint(): string {
    return this.#pick(['0n', '1n', 'f.q', '(f.q & 1n)', 'o.n', 'BigInt(f.d)']);
  }

  #pair(): string {
    return this.#pick([
      'f.pair',
      'f.pairs[0]',
      'o.pair',
      'o.pairs[1]',
      `f.pairs[${this.#number()} & 1]`,
      `{ a: ${this.#number()}, b: ${this.#number()} }`,
    ]);
  }

  #key(): string {
    const name = `k${this.#names++}`;
    const n = (): string => this.#number();
    const fields = [`a: ${n()}`, `b: ${n()}`, `c: ${n()}`, `inner: { x: ${n()}, y: ${n()} }`, `q: ${this.#bigint()}`, `z: ${n()}`];
    if (this.#draw(2) === 0) fields.reverse();
    this.#keys = [...this.#keys, name];
    return `const ${name} = { ${fields.join(', ')} };`;
  }

  #value(): string {
    const pairs = this.#pick(['f.pairs', 'o.pairs', `[${this.#pair()}, ${this.#pair()}]`]);
    const words = this.#pick(['o.words', `[${this.#number()}, ${this.#number()}, ${this.#number()}]`]);
    return `{ n: ${this.#bigint()}, d: ${this.#number()}, pair: ${this.#pair()}, words: ${words}, hw: ${this.#number()}, pairs: ${pairs} }`;
  }

  #tight(): string {
    return `{ a: ${this.#pick(['1', 'f.b', '(f.b & 1)'])}, q: ${this.#bigint()}, m: ${this.#pick(['5', 'f.hw', '(f.c & 3)'])} }`;
  }

  #condition(): string {
    const key = this.#pick(this.#keys);
    return this.#pick([
      `${this.#number()} > ${this.#number()}`,
      `f.c & 1`,
      `same(${key}, ${this.#pick(this.#keys)})`,
      `table.lookup(${key})`,
      `f.q === ${this.#bigint()}`,
      `${key}.a === ${key}.z`,
    ]);
  }

  #block(depth: number, own: readonly (() => string)[] = []): string {
    const outer = this.#keys;
    const lines: string[] = [];
    for (let i = this.#draw(3); i >= 0; i--) lines.push(own.length > 0 ? this.#pick(own)() : this.#statement(depth - 1));
    this.#keys = outer;
    return `{ ${lines.join(' ')} }`;
  }

  #statement(depth: number): string {
    const key = this.#pick(this.#keys);
    const n = (): string => this.#number();
    switch (this.#draw(depth > 0 ? 19 : 13)) {
      case 0:
        return this.#key();
      case 1:
        return `${key}.${this.#pick(['a', 'b', 'c', 'z', 'inner.x', 'inner.y'])} ${this.#pick(['=', '+=', '^='])} ${n()};`;
      case 2:
        return `${key}.q = ${this.#bigint()};`;
      case 3:
      case 4:
        return `if (table.update(${key}, ${this.#value()}${this.#pick(['', ", 'noexist'", ", 'exist'"])})) r += 1;`;
      case 5:
        return `tight.update(${this.#tight()}, ${this.#pair()});`;
      case 6:
        return `if (${this.#pick([`table.delete(${key})`, `tight.delete(${this.#tight()})`])}) r ^= 5;`;
      case 7:
        return `r = (r * 3 + hashed(${key})) >>> 0;`;
      case 8:
        return `${this.#pick(['o.pair', 'o.pairs[0]', 'f.pair', 'f.pairs[1]', `o.pairs[${n()} & 1]`])} = ${this.#pair()};`;
      case 9:
        return `o.pairs = [${this.#pair()}, ${this.#pair()}];`;
      case 10:
        return `o.${this.#pick([`words[${this.#draw(3)}]`, 'pair.a', 'pair.b', 'hw', 'pairs[1].b'])} ${this.#pick(['=', '+=', '^='])} ${n()} & 0xffff;`;
      case 11:
        return `f.${this.#pick(['b', 'w', 'd', 'c', 'hw', 'pair.b', 'pairs[0].a'])} = ${n()};`;
      case 12:
        return `o.n ${this.#pick(['=', '+=', '*='])} ${this.#bigint()};`;
      case 13:
        return `if (${this.#condition()}) ${this.#block(depth)} else ${this.#block(depth)}`;
      case 14:
        return `if (${this.#condition()}) ${this.#block(depth)}`;
      case 15:
        return `for (let i = 0; i < ${1 + this.#draw(3)}; i++) ${this.#block(depth)}`;
      case 16:
        return `if (${this.#condition()}) return ${this.#pick(['ctx.drop()', "ctx.exit('out')", 'ctx.tx()'])};`;
      case 17: {
        const t = `t${this.#names++}`;
        return `const ${t} = tight.lookup(${this.#tight()}); if (${t}) ${this.#block(0, [() => `${t}.b += ${n()};`, () => `${t}.a = ${n()};`, () => `o.pair = ${t};`, () => `r += ${t}.b & 7;`])}`;
      }
      default: {
        const e = `e${this.#names++}`;
        const entry = [
          () => `${e}.n += ${this.#bigint()};`,
          () => `${e}.d -= ${n()};`,
          () => `${e}.pair.b = ${n()};`,
          () => `${e}.pair = ${this.#pair()};`,
          () => `${e}.words[${n()} & 1] = ${n()};`,
          () => `o.pairs[0] = ${e}.pairs[1];`,
          () => `${e}.pairs = [${e}.pairs[1], ${this.#pick([`${e}.pairs[0]`, this.#pair()])}];`,
          () => `r = (r ^ ${e}.d ^ ${e}.pair.a) >>> 0;`,
          () => `f.hw = ${e}.hw;`,
        ];
        return `const ${e} = table.lookup(${key}); if (${e}) ${this.#block(0, entry)}`;
      }
    }
  }
}

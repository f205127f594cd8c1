/**
 * For tests: random chains of small stages that read and write headers, metadata and maps, move the packet, and leave by all
 * ways there are. A chain is data; `chainOf` makes stages of it, grouped as one likes.
 */
import { runInThisContext } from 'node:vm';
import { type AnyStage, array, arrayMap, type ChainItem, fuse, hash, packed, stage, struct, u8, u16, u32, u64 } from '@tailrace/stage';
import fc from 'fast-check';

/** The hooks of random chains. */
export type RandomHook = 'xdp' | 'tcIngress';

/** A stage, and what is wired to its exits `a` and `b`. */
export interface RandomStage {
  readonly body: string;
  readonly a: RandomTarget;
  readonly b: RandomTarget;
}
/** A verdict, the word `next`, a sub-chain that ends or rejoins, or the stage that many exits share. */
export type RandomTarget = 'drop' | 'pass' | 'next' | 'shared' | { readonly stages: readonly RandomStage[]; readonly rejoins: boolean };

/** A chain, and after which of its stages a group ends. */
export interface RandomChain {
  readonly stages: readonly RandomStage[];
  readonly shared: RandomStage;
  readonly cuts: readonly boolean[];
}

const Color = struct({ hue: u8, shade: u16, pair: array(u8, 2) });
const metadata = { n: u32, wide: u64, color: Color, flag: u16 };

/** The maps of a chain. */
export function mapsOf() {
  return {
    hits: arrayMap({ name: 'hits', value: u64, maxEntries: 4 }),
    flows: hash({ name: 'flows', key: struct({ n: u32, hue: u8 }), value: u32, maxEntries: 4096 }),
  };
}
/** What `mapsOf` gives. */
export type RandomMaps = ReturnType<typeof mapsOf>;

const numbers = [
  '0',
  '7',
  '255',
  '0x12345',
  'm.n',
  'Number(m.wide & 0xffffn)',
  'm.color.hue',
  'm.color.shade',
  'm.color.pair[1]',
  'm.flag',
];
const number = fc.constantFrom(...numbers, 'ctx.length', '(ctx.ipv4() ? 4 : 6)');
const place = fc.constantFrom('m.n', 'm.color.hue', 'm.color.shade', 'm.color.pair[0]', 'm.flag');
const condition = fc.oneof(
  fc.tuple(number, fc.constantFrom('<', '===', '>='), number).map(([x, op, y]) => `Number(${x}) ${op} Number(${y})`),
  fc.constantFrom('ctx.ipv4()', 'ctx.udp()', 'ctx.ethernet()', 'ctx.ipv6()'),
);
const wayOut = (hook: RandomHook) =>
  fc.constantFrom(
    ...['next', 'next', 'next', 'exit:a', 'exit:b', 'drop', 'pass', ...(hook === 'xdp' ? ['tx', 'abort'] : [])].map((name) =>
      name.startsWith('exit:') ? `return ctx.exit('${name.slice(5)}');` : `return ctx.${name}();`,
    ),
  );

function statement(hook: RandomHook): fc.Arbitrary<string> {
  const moves = hook === 'xdp' ? ['if (!ctx.adjustHead(-8)) return ctx.drop();', 'ctx.adjustHead(14);', 'ctx.adjustTail(-1);'] : [];
  return fc.letrec<{ one: string }>((tie) => ({
    one: fc.oneof(
      { maxDepth: 2 },
      fc.tuple(place, number).map(([to, from]) => `${to} = ${from};`),
      fc.tuple(place, fc.constantFrom('+=', '^='), number).map(([to, op, from]) => `${to} ${op} ${from} & 0xffff;`),
      number.map((x) => `m.wide += BigInt(${x});`),
      fc.tuple(number, number).map(([x, y]) => `m.color = { hue: ${x}, shade: ${y}, pair: [${y}, m.color.hue] };`),
      number.map((x) => `{ const h = hits.lookup(${x} & 3); if (h) h.value += 1n + m.wide; }`),
      number.map((x) => `flows.update({ n: ${x}, hue: m.color.hue }, m.n);`),
      number.map((x) => `{ const f = flows.lookup({ n: ${x}, hue: m.color.hue }); if (f) { m.n = f.value; f.value = 3; } }`),
      number.map((x) => `{ const ip = ctx.ipv4(); if (ip) { m.flag = ip.ttl; ip.ttl = ${x}; } }`),
      number.map((x) => `{ const p = ctx.at(Bytes, 20); if (p) { m.color.shade = p.w; p.d = ${x}; } }`),
      ...moves.map((text) => fc.constant(text)),
      fc.tuple(condition, tie('one'), tie('one')).map(([test, yes, no]) => `if (${test}) { ${yes} } else { ${no} }`),
      fc.tuple(condition, wayOut(hook)).map(([test, out]) => `if (${test}) ${out}`),
    ),
  })).one;
}

/** Chains of up to five stages and what is behind their exits. */
export function randomChain(hook: RandomHook): fc.Arbitrary<RandomChain> {
  const turn = fc.tuple(condition, wayOut(hook)).map(([test, out]) => `if (${test}) ${out}`);
  const body = fc
    .tuple(fc.array(statement(hook), { maxLength: 4 }), turn)
    .map(([lines, out]) => [...lines, out, 'return ctx.next();'].join('\n'));
  const end = fc.constantFrom<RandomTarget>('drop', 'pass', 'next', 'shared');
  const leaf = fc.record({ body, a: fc.constantFrom<RandomTarget>('drop', 'pass'), b: fc.constantFrom<RandomTarget>('pass', 'next') });
  const target = fc.oneof(end, fc.record({ stages: fc.array(leaf, { minLength: 1, maxLength: 2 }), rejoins: fc.boolean() }));
  return fc
    .record({
      stages: fc.array(fc.record({ body, a: target, b: target }), { minLength: 1, maxLength: 5 }),
      shared: leaf,
      cuts: fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
    })
    .filter(({ stages }) => stages.length > 0);
}

/** Stages of a chain, behind one that writes all metadata; with `cuts` in groups that end there. */
export function chainOf({ stages, shared, cuts }: RandomChain, hook: RandomHook, maps: RandomMaps, grouped: boolean): readonly ChainItem[] {
  const uses = { ...maps, Bytes: packed({ w: u32, d: u16 }) };
  let count = 0;
  const make = ({ body }: RandomStage, name = `s${count++}`): AnyStage =>
    stage({ name, hook: hook === 'xdp' ? 'xdp' : 'tc', uses, writes: metadata, program: functionOf(body, Object.keys(uses)) as never });
  const sharedStage = wired(make(shared, 'shared'), { a: 'drop', b: 'pass' });
  const targetOf = (target: RandomTarget): unknown => {
    if (target === 'shared') return sharedStage;
    if (typeof target === 'string') return target;
    return [...target.stages.map(stageOf), ...(target.rejoins ? ['next'] : [])];
  };
  const stageOf = (one: RandomStage): AnyStage => wired(make(one), { a: targetOf(one.a), b: targetOf(one.b) });
  const first = make({
    body: 'm.n = 1; m.wide = 2n; m.color = { hue: 3, shade: 4, pair: [5, 6] }; m.flag = 7; return ctx.next();',
    a: 'drop',
    b: 'drop',
  });
  const all = [first, ...stages.map(stageOf)];
  if (!grouped) return all;
  const groups = all.reduce<AnyStage[][]>((done, one, i) => {
    if (i === 0 || cuts[i - 1]) done.push([]);
    done.at(-1)?.push(one);
    return done;
  }, []);
  return groups.map((members, i) => {
    const [only, ...others] = members as [AnyStage, ...AnyStage[]];
    return others.length === 0 && i % 2 === 0 ? only : fuse(only, ...others);
  });
}

/** Wires those exits that the body has. */
function wired(one: AnyStage, targets: Readonly<Record<string, unknown>>): AnyStage {
  const own = Object.fromEntries(Object.entries(targets).filter(([label]) => `${one.program}`.includes(`ctx.exit('${label}')`)));
  return (one as AnyStage & { on(wiring: object): AnyStage }).on(own);
}

function functionOf(body: string, names: readonly string[]): unknown {
  return runInThisContext(`(ctx, { ${names.join(', ')} }) => { const m = ctx.meta;\n${body}\n}`);
}

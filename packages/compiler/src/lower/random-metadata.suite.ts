/** Random programs over metadata do the same in the state of an XDP chain and in the control block of TC. */
import type { Engine, EngineInstance } from '@tailrace/bpf';
import { array, arrayMap, be16, be32, bool, packed, struct, u8, u32, u64 } from '@tailrace/stage';
import fc from 'fast-check';
import { afterAll, beforeAll, test } from 'vitest';
import { sameAtTc, stageOf } from '../fixture.ts';

const Flow = struct({ a: u8, b: be16, pair: array(u8, 2), on: bool });
const Tight = packed({ c: u8, d: be32 });
const writes = { flow: Flow, tight: Tight, n: u32 };
const seen = arrayMap({ name: 'seen', value: struct({ ...writes, all: u64 }), maxEntries: 1 });
const uses = { Fields: packed({ b: u8, w: be16, d: u32, flow: Flow, tight: Tight }), seen };

const numbers = [
  '0',
  '1',
  '255',
  '-1',
  '0x12345678',
  'f.b',
  'f.w',
  'f.d',
  'm.n',
  'm.flow.a',
  'm.flow.b',
  'm.flow.pair[1]',
  'm.tight.c',
  'm.tight.d',
  'ctx.length',
];
const places = ['m.n', 'm.flow.a', 'm.flow.b', 'm.flow.pair[0]', 'm.flow.pair[1]', 'm.tight.c', 'm.tight.d'];
const number = fc.constantFrom(...numbers);
const place = fc.constantFrom(...places);
const condition = fc.oneof(
  fc.tuple(number, fc.constantFrom('<', '===', '>='), number).map(([a, op, b]) => `Number(${a}) ${op} Number(${b})`),
  fc.constantFrom('m.flow.on', '!m.flow.on'),
);
const statement: fc.Arbitrary<string> = fc.letrec<{ one: string }>((tie) => ({
  one: fc.oneof(
    { maxDepth: 2 },
    fc.tuple(place, number).map(([to, from]) => `${to} = ${from};`),
    fc.tuple(place, fc.constantFrom('+=', '-=', '^=', '|='), number).map(([to, op, from]) => `${to} ${op} (${from} & 0xffff);`),
    fc.tuple(number, number, condition).map(([a, b, on]) => `m.flow = { a: ${a}, b: ${b}, pair: [${b}, ${a}], on: ${on} };`),
    fc.tuple(number, number).map(([c, d]) => `m.tight = { c: ${c}, d: ${d} };`),
    condition.map((on) => `m.flow.on = ${on};`),
    fc.constantFrom(
      'm.flow = f.flow;',
      'f.flow = m.flow;',
      'm.tight = f.tight;',
      'f.tight = m.tight;',
      'm.flow.pair = f.flow.pair;',
      'o.all += BigInt(m.n);',
    ),
    fc.tuple(condition, tie('one'), tie('one')).map(([test, yes, no]) => `if (${test}) { ${yes} } else { ${no} }`),
  ),
})).one;

const byte = fc.oneof(fc.constantFrom(0, 1, 127, 128, 255), fc.nat(255));
const frames = fc.array(
  fc.array(byte, { minLength: 50, maxLength: 50 }).map((bytes) => Uint8Array.from(bytes)),
  { minLength: 2, maxLength: 4 },
);

/** The cases, on an engine; properties are tried so many times. */
export function randomMetadataSuite(blueprint: Engine, runs = Number(process.env.TAILRACE_RUNS ?? 20)): void {
  let engine: EngineInstance;
  beforeAll(async () => {
    engine = await blueprint.open();
  });
  afterAll(() => engine.close());

  test('assignments, copies and branches', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(statement, { minLength: 1, maxLength: 25 }), frames, async (statements, packets) => {
        // booleans of packets are bytes: only what is 0 or 1 is one
        const body = `const f = ctx.at(Fields, 20), o = seen.lookup(0), m = ctx.meta; if (!f || !o) return ctx.drop();
f.flow.on = f.b > 9;
m.flow = { a: 1, b: 2, pair: [3, 4], on: false }; m.tight = { c: 5, d: 6 }; m.n = 7;
${statements.join('\n')}
o.flow = m.flow; o.tight = m.tight; o.n = m.n; return m.flow.on ? ctx.pass() : ctx.drop();`;
        await sameAtTc(engine, stageOf(body, { uses, writes }), packets);
      }),
      { numRuns: runs, interruptAfterTimeLimit: 20_000 },
    );
  }, 60_000);
}

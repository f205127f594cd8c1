/** What programs may not do with each kind of map, and what they are told. */
import {
  arrayOfMaps,
  bloomFilter,
  cpumap,
  devmapHash,
  hash,
  hashOfMaps,
  queue,
  sockhash,
  stack,
  struct,
  u8,
  u32,
  u64,
  xskmap,
} from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { compileStage, lowered } from '../compile.ts';
import { refusal, stageOf } from '../fixture.ts';
import { printGraph } from '../ir.ts';

const flows = hash({ name: 'flows', key: u32, value: u64, maxEntries: 8 });
const uses = {
  jobs: queue({ name: 'jobs', value: struct({ id: u32, kind: u8 }), maxEntries: 8 }),
  undo: stack({ name: 'undo', value: u32, maxEntries: 8 }),
  seen: bloomFilter({ name: 'seen', value: u32, maxEntries: 8 }),
  tenants: hashOfMaps({ name: 'tenants', key: u32, maxEntries: 8, inner: flows }),
  lists: arrayOfMaps({ name: 'lists', maxEntries: 8, inner: queue({ name: 'list', value: u32, maxEntries: 8 }) }),
  ports: devmapHash({ name: 'ports', maxEntries: 8 }),
  cpus: cpumap({ name: 'cpus', maxEntries: 2 }),
  queues: xskmap({ name: 'queues', maxEntries: 2 }),
  sockets: sockhash({ name: 'sockets', key: u32, maxEntries: 8 }),
  flows,
};
/** The message and the hint. */
const refused = (body: string): string =>
  refusal(`${body}\nreturn ctx.pass();`, { uses })
    .split('\n')
    .filter((line) => !line.startsWith(' ') || line.includes('hint'))
    .map((line) => line.replace(/^.*stage 'sample': /, '').replace(/^ *= /, ''))
    .join('; ');

describe('methods of other kinds', () => {
  test('kinds without keys', () => {
    expect(refused('jobs.lookup(1);')).toMatchInlineSnapshot(
      `"queue 'jobs' has no lookup(); hint: it has no keys: push(value), pop(), peek()"`,
    );
    expect(refused('undo.update(1, 2);')).toMatchInlineSnapshot(
      `"stack 'undo' has no update(); hint: it has no keys: push(value), pop(), peek()"`,
    );
    expect(refused('jobs.add({ id: 1, kind: 2 });')).toMatchInlineSnapshot(
      `"queue 'jobs' has no add(); hint: it has no keys: push(value), pop(), peek()"`,
    );
    expect(refused('seen.push(1);')).toMatchInlineSnapshot(
      `"bloomFilter 'seen' has no push(); hint: it has no keys, and values stay: add(value), has(value)"`,
    );
    expect(refused('seen.delete(1);')).toMatchInlineSnapshot(
      `"bloomFilter 'seen' has no delete(); hint: it has no keys, and values stay: add(value), has(value)"`,
    );
    expect(refused('flows.pop();')).toMatchInlineSnapshot(
      `"hash 'flows' has no pop(); hint: a map of this kind has keys: lookup(key), update(key, value), delete(key)"`,
    );
    expect(refused('jobs.shift();')).toMatchInlineSnapshot(`"map 'jobs' has no method 'shift'; hint: there are: push, pop, peek"`);
    expect(refused('jobs.peak();')).toMatchInlineSnapshot(`"map 'jobs' has no method 'peak'; hint: did you mean 'peek'?"`);
  });

  test('maps of maps', () => {
    expect(refused('tenants.update(1, flows);')).toMatchInlineSnapshot(
      `"hashOfMaps 'tenants' has no update(); hint: lookup(key) gives a map, which has methods of its own; the handle puts maps in"`,
    );
    expect(refused('lists.push(1);')).toMatchInlineSnapshot(
      `"arrayOfMaps 'lists' has no push(); hint: lookup(key) gives a map, which has methods of its own; the handle puts maps in"`,
    );
    expect(refused('const m = tenants.lookup(1); if (m) m.push(1);')).toMatchInlineSnapshot(
      `"hash 'flows' has no push(); hint: a map of this kind has keys: lookup(key), update(key, value), delete(key)"`,
    );
    expect(refused('const m = lists.lookup(1); if (m) m.lookup(1);')).toMatchInlineSnapshot(
      `"queue 'list' has no lookup(); hint: it has no keys: push(value), pop(), peek()"`,
    );
  });

  test('kinds without methods', () => {
    expect(refused('ports.lookup(1);')).toMatchInlineSnapshot(
      `"devmapHash 'ports' has no lookup(); hint: pass it to ctx.redirect(map, key)"`,
    );
    expect(refused('cpus.update(1, 2);')).toMatchInlineSnapshot(`"cpumap 'cpus' has no update(); hint: pass it to ctx.redirect(map, key)"`);
    expect(refused('queues.get(1);')).toMatchInlineSnapshot(`"map 'queues' has no method 'get'; hint: pass it to ctx.redirect(map, key)"`);
    expect(refused('sockets.lookup(1);')).toMatchInlineSnapshot(
      `"sockhash 'sockets' has no lookup(); hint: sockOps stages add(key) to it, skSkb and skMsg stages pass it to ctx.redirect(map, key)"`,
    );
    expect(refused('sockets.redirect(1);')).toMatchInlineSnapshot(`"map 'sockets' has no method 'redirect'; hint: there are: add"`);
    expect(refused('return ctx.redirect(sockets, 1);')).toMatchInlineSnapshot(
      `"map 'sockets' is of type sockhash, expected devmap, devmapHash, cpumap or xskmap"`,
    );
    expect(refused('return ctx.redirect(ports);')).toMatchInlineSnapshot(`"nothing where a number is expected"`);
  });
});

describe('arguments and results', () => {
  test('what is missing or of another kind', () => {
    expect(refused('jobs.push();')).toMatchInlineSnapshot(`"push() needs a value"`);
    expect(refused('jobs.push({ id: 1 });')).toMatchInlineSnapshot(`"field 'kind' is missing; hint: fields: id, kind"`);
    expect(refused('undo.push(1n);')).toMatchInlineSnapshot(`"a bigint where a number is stored; hint: use Number(x)"`);
    expect(refused("undo.push(1, 'noexist');")).toMatchInlineSnapshot(
      `"the flag must be 'any' or 'exist'; hint: 'exist' takes the oldest value out where it is full"`,
    );
    expect(refused('seen.has();')).toMatchInlineSnapshot(`"has() needs a value"`);
    expect(refused('lists.lookup(-1);')).toMatchInlineSnapshot(
      `"the argument is -1, expected 0..4294967295; hint: make it unsigned: x >>> 0"`,
    );
    expect(refused('tenants.lookup();')).toMatchInlineSnapshot(`"lookup() needs a key"`);
  });

  test('what may be undefined', () => {
    expect(refused('const job = jobs.pop(); job.id = 1;')).toMatchInlineSnapshot(
      `"'job' may be undefined here; hint: test it first: if (!x) return …"`,
    );
    expect(refused('const m = tenants.lookup(1); m.lookup(1);')).toMatchInlineSnapshot(
      `"'m' may be undefined here; hint: test it first: if (!x) return …"`,
    );
    expect(refused('const m = tenants.lookup(1); if (!m) m.lookup(1);')).toMatchInlineSnapshot(`"'m' is undefined here"`);
    expect(refused('const v = undo.peek(); if (v && v === 3) return ctx.drop();')).toMatchInlineSnapshot(
      `"a reference and a number are compared; hint: its content is '.value'"`,
    );
  });

  test('an inner map is no value', () => {
    expect(refused('const m = tenants.lookup(1); if (m) m.value = 1;')).toMatchInlineSnapshot(`"map 'flows' has no 'value'"`);
    expect(refused('const m = tenants.lookup(1); if (m) flows.update(1, m);')).toMatchInlineSnapshot(
      `"map 'flows' where a bigint is stored; hint: write 1n, or BigInt(x)"`,
    );
    expect(refused('let m = tenants.lookup(1); if (ctx.length > 99) m = lists.lookup(1); if (m) m.push(1);')).toMatchInlineSnapshot(
      `"it refers to different kinds of maps on different paths"`,
    );
  });
});

describe('code', () => {
  test('pop: one call, one test, and the copy is read where it lies', () => {
    const graph = lowered(stageOf('const job = jobs.pop(); if (!job || job.kind !== 3) return ctx.pass(); return ctx.drop();', { uses }));
    expect(printGraph(graph)).toMatch(/call 88\(@jobs, &s\d+\+0\) writes s\d+/);
    const { program } = compileStage(
      stageOf('const job = jobs.pop(); if (!job || job.kind !== 3) return ctx.pass(); return ctx.drop();', { uses }),
    );
    expect(program.instructions.filter(({ opcode }) => (opcode & 7) === 5 || (opcode & 7) === 6).length).toBeLessThanOrEqual(5);
  });

  test('values in a row share the stack', () => {
    const body = (count: number): string => `let sum = 0;
      for (let i = 0; i < ${count}; i++) { const job = jobs.pop(); if (!job) break; sum = (sum + job.id) >>> 0; }
      return sum === 7 ? ctx.drop() : ctx.pass();`;
    expect(compileStage(stageOf(body(16), { uses })).stackSize).toBeLessThanOrEqual(compileStage(stageOf(body(2), { uses })).stackSize + 8);
  });

  test('an inner map goes from the lookup to the call', () => {
    const graph = lowered(stageOf('const m = tenants.lookup(1); if (m) m.delete(2); return ctx.pass();', { uses }));
    expect(printGraph(graph)).toMatch(/%(\d+) = call 1\(@tenants, &s\d+\+0\) reads s\d+ : map[\s\S]*call 3\(%\1, /);
  });
});

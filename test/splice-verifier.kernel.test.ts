/** A verdict program behind the splicer that the kernel's verifier refuses: at the start, and while pairs talk. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Instruction } from '@tailrace/bpf';
import { compileFused, compileRoot, compileStage, outcomesOf } from '@tailrace/compiler';
import { splicer, TcpSockets } from '@tailrace/functions/splice';
import { eventually } from '@tailrace/testing';
import { array, arrayMap, Compiler, kernel, kernelSockets, override, pipeline, stage, struct, u8, u64, VerifierError } from 'tailrace';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { gone, heldBy, openFds } from './kernel-objects.ts';
import { drained, type Loopback, loopback, sha1 } from './loopback.ts';

const seen = arrayMap({ name: 'seen', value: struct({ bytes: u64, before: array(u8, 992), last: u64 }), maxEntries: 1 });
const count = stage({
  name: 'count',
  hook: 'skSkb',
  uses: { seen },
  program(ctx, { seen }) {
    const sum = seen.lookup(0);
    if (sum) sum.bytes += BigInt(ctx.length);
    return ctx.next();
  },
});
const astray = stage({
  name: 'astray',
  hook: 'skSkb',
  uses: { seen },
  program(ctx, { seen }) {
    const sum = seen.lookup(0);
    if (sum) sum.last = 1n;
    return ctx.next();
  },
});

/** A compiler that has `last` lie behind the map's value, which only the verifier finds. */
const careless = {
  compileFused,
  compileRoot,
  outcomesOf,
  compileStage(...args: Parameters<typeof compileStage>) {
    const { program, ...rest } = compileStage(...args);
    const far = (instruction: Instruction): Instruction => (instruction.offset === 1_000 ? { ...instruction, offset: 2_000 } : instruction);
    return { program: { ...program, instructions: program.instructions.map(far) }, ...rest };
  },
};

const refusal = {
  code: 'verifier',
  reason: expect.stringMatching(/^invalid access to map value, value_size=1008 off=2000 size=8/),
  source: expect.objectContaining({ text: expect.stringContaining('sum.last = 1n') }),
  cause: expect.objectContaining({ code: 'syscall' }),
};

const joiner = splicer({ maxPairs: 4 });
const [healthy, wrong] = [pipeline('proxy', { skSkb: [joiner, count] }), pipeline('proxy', { skSkb: [joiner, astray] })];
const services = [override(TcpSockets, kernelSockets()), override(Compiler, careless)];

let network: Loopback;
beforeEach(async () => {
  network = await loopback();
});
afterEach(() => network[Symbol.asyncDispose]());

/** What a change was refused with; undefined where it was taken. */
const refusalOf = (change: Promise<unknown>): Promise<unknown> =>
  change.then(
    () => undefined,
    (error: unknown) => error,
  );

/** Sends random bytes for as long as told, and then the end. Returns their hash. */
async function talking(from: Socket, goesOn: () => boolean): Promise<string> {
  const sent: Buffer[] = [];
  do {
    const chunk = randomBytes(20_000);
    sent.push(chunk);
    if (!from.write(chunk)) await once(from, 'drain');
    await new Promise(setImmediate);
  } while (goesOn());
  from.end();
  return sha1(Buffer.concat(sent));
}

test('a start that is refused says so, leaves nothing, and leaves sockets as they were', async () => {
  const [left, right] = [await network.connection(), await network.connection()];
  left.outer.write('early ');
  const before = { fds: openFds(), ...heldBy('self') };
  const error: unknown = await wrong.run(kernel(), { services }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(VerifierError);
  expect(error).toMatchObject({ ...refusal, program: 'astray' });
  expect({ fds: openFds(), ...heldBy('self') }).toEqual(before);
  await using running = await healthy.run(kernel(), { services });
  const spliced = await running.controller(joiner).splice(left.inner, right.inner, { require: 'kernel', carry: 'kernel' });
  const [there, back] = [drained(right.outer), drained(left.outer)];
  left.outer.end('and late');
  right.outer.end('answer');
  expect((await there).hash).toBe(sha1(Buffer.from('early and late')));
  expect((await back).hash).toBe(sha1(Buffer.from('answer')));
  await spliced.closed;
});

test('a replacement and an update that are refused leave the old program, pairs with the kernel, and every byte', async () => {
  const running = await healthy.run(kernel(), { services });
  const controller = running.controller(joiner);
  const [left, right, held, partner] = await Promise.all(Array.from({ length: 4 }, () => network.connection()));
  if (!left || !right || !held || !partner) return expect.unreachable('no connections');
  expect(controller.hold(held.inner)).toBe('kernel');
  const spliced = await controller.splice(left.inner, right.inner, { carry: 'kernel' });
  const { programs } = heldBy('self');
  const fds = openFds();

  let isDone = false;
  const [there, back] = [drained(right.outer), drained(left.outer)];
  const sent = Promise.all([talking(left.outer, () => !isDone), talking(right.outer, () => !isDone)]);
  const early = randomBytes(10_000);
  held.outer.write(early);
  for (let i = 0; i < 5; i++) {
    // a program has the name of its place
    expect(await refusalOf(running.replace(count, astray))).toMatchObject({ ...refusal, program: 'count' });
    expect(await refusalOf(running.update(wrong))).toMatchObject({ ...refusal, program: 'astray' });
  }
  expect({ fds: openFds(), programs: heldBy('self').programs }).toEqual({ fds, programs });
  expect([spliced.by, spliced.moves]).toEqual(['kernel', 0]);
  isDone = true;
  expect([(await there).hash, (await back).hash]).toEqual(await sent);
  await spliced.closed;

  // the old program is still there: it sees what comes to a held connection, beside what was left to the process of the pair
  const late = randomBytes(10_000);
  held.outer.write(late);
  const { forth, back: answers } = spliced.stats;
  const expected = forth.passedOn + answers.passedOn + 20_000n;
  await eventually(() => (running.map(seen).get(0)?.bytes ?? 0n) >= expected, 5_000, 'the bytes of the held connection');
  expect(running.map(seen).get(0)?.bytes).toBe(expected);
  await running.replace(count, count.as('again'));
  const joined = await controller.splice(held.inner, partner.inner, { require: 'kernel' });
  const all = drained(partner.outer);
  held.outer.end('end');
  partner.outer.end();
  expect((await all).hash).toBe(sha1(Buffer.concat([early, late, Buffer.from('end')])));
  await joined.closed;
  const last = heldBy('self');
  await running.stop();
  await gone({ programs: last.programs, namespaces: [] }, 5_000);
});

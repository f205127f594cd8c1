/**
 * Two system calls of a change fail: one that ends it, and one of those that take it back. The error tells both, every packet is in one
 * chain of each hook or the other, and what is left goes with the next process, or with the pipeline.
 */
import { RollbackError, TailraceError } from '@tailrace/bpf';
import { kernel, type NetworkNamespace, PacketSocket, Rtnetlink } from '@tailrace/kernel';
import { keptPipelines, stopKept } from '@tailrace/pipeline';
import { eventually, quietNamespace } from '@tailrace/testing';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { failuresLeft, injectFailure } from '../packages/kernel/src/syscall.ts';
import { AT, keptEdge, PROBE } from './kept-edge.ts';
import { openFds } from './kernel-objects.ts';
import { expectSame, heldOf } from './pipeline-objects.ts';

const name = `b${process.pid}`;
let namespace: NetworkNamespace;
let route: Rtnetlink;
let left: PacketSocket;
let right: PacketSocket;
let open: Running | undefined;

beforeAll(() => {
  namespace = quietNamespace();
  route = new Rtnetlink(namespace);
  route.createVeth({ name: 'left' }, { name: 'right' });
  for (const end of ['left', 'right']) route.change(end, { up: true });
  [left, right] = [new PacketSocket(namespace, 'left'), new PacketSocket(namespace, 'right')];
});

afterEach(async () => {
  injectFailure(0);
  // what a test that failed had running
  await open?.stop().catch(() => undefined);
  open = undefined;
  await using outside = await kernel({ interfaces: [] }).open();
  if (keptPipelines(outside).some((kept) => kept.name === name)) await stopKept(outside, name);
});

afterAll(() => {
  left.close();
  right.close();
  route.close();
  namespace.close();
});

type Edge = ReturnType<typeof keptEdge>;
type Running = Awaited<ReturnType<ReturnType<Edge['edge']>['run']>>;

async function run(declared: Edge, generation: number, persist: boolean): Promise<Running> {
  const running = await declared.edge(generation).run(kernel({ interfaces: ['right'], netns: namespace }), { persist });
  open = running;
  for (const key of Object.values(AT)) running.map(declared.seen).set(key, 0n);
  return running;
}

const held = () => heldOf({ name, stages: [], namespace, interface: 'right' });

/** Sends a frame, and tells the generations of the stages at XDP that it met. */
async function met(): Promise<readonly number[]> {
  while (right.receive());
  const bytes = new Uint8Array(PROBE.bytes).fill(0xff);
  new DataView(bytes.buffer).setUint16(12, PROBE.etherType);
  left.send(bytes);
  return eventually(received, 2_000, 'the frame');
}

function received(): readonly number[] | undefined {
  for (let bytes = right.receive(); bytes; bytes = right.receive()) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (view.getUint16(12) === PROBE.etherType) return [view.getUint32(PROBE.first), view.getUint32(PROBE.last)];
  }
  return undefined;
}

/** What came of operations in which two calls failed, or were to. */
interface Outcome {
  readonly about: string;
  readonly error: TailraceError | undefined;
}

/** Fails the calls of each pair, the second one counted from the first, until there are none. Returns how many pairs there are. */
async function failingTwice(operate: () => Promise<unknown>, check: (outcome: Outcome) => Promise<void>, every = 1): Promise<number> {
  let pairs = 0;
  for (let first = 1; ; first += every)
    for (let second = 1; ; second += 1) {
      injectFailure(first, undefined, second);
      let error: unknown;
      try {
        await operate();
      } catch (thrown) {
        error = thrown;
      }
      const untaken = failuresLeft();
      injectFailure(0);
      const about = `calls ${first} and ${second} behind it: ${error}`;
      if (error !== undefined) expect(error, about).toBeInstanceOf(TailraceError);
      await check({ about, error: error as TailraceError | undefined });
      if (untaken === 2) return pairs;
      if (untaken === 1) break;
      pairs += 1;
    }
}

test.each([true, false])('an update that cannot be taken back, persistent: %s', { timeout: 300_000 }, async (persist) => {
  const none = openFds();
  const declared = keptEdge(name);
  let running = await run(declared, 1, persist);
  let before = held();
  const told = new Set<string>();
  const pairs = await failingTwice(
    () => running.update(declared.edge(2) as never),
    async ({ about, error }) => {
      const [first, last] = await met();
      expect(first, about).toBe(last);
      expect(running.map(declared.seen).get(AT.mixed), about).toBe(0n);
      if (error instanceof RollbackError) {
        expect(error.message, about).toContain(`${(error.cause as Error).message}; and taking that back failed: `);
        for (const failure of error.failures) {
          expect(failure, about).toBeInstanceOf(TailraceError);
          expect(error.message, about).toContain((failure as Error).message);
          told.add((failure as Error).message.replace(/\S*\/bpf\/\S*/, 'PIN').replaceAll(name, 'NAME'));
        }
      } else if (first === 1) {
        await expectSame(held, before, about);
        return;
      }
      // the next one finds it, and clears away what is left
      if (persist) await running.leave();
      else await running.stop();
      running = await run(declared, 1, persist);
      expect(await met(), about).toEqual([1, 1]);
      const { pins, attached } = before;
      await expectSame(() => ({ pins: held().pins, attached: held().attached }), { pins, attached }, about);
      before = held();
    },
    // all of them take minutes
    persist ? 3 : 2,
  );
  await running.stop();
  expect(openFds()).toBe(none);
  // each is named
  const names = [
    /^the next chain at XDP stays: /,
    /^the next chain at TC ingress stays: packets come/,
    /^the next chain at TC egress stays: /,
  ];
  for (const text of persist ? [...names, /^unlinkat for PIN /] : names)
    expect(
      [...told].some((message) => text.test(message)),
      `${text} in ${[...told]}`,
    ).toBe(true);
  expect(pairs).toBeGreaterThan(30);
});

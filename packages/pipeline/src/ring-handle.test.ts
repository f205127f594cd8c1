import { setImmediate as turn } from 'node:timers/promises';
import { ArgumentError } from '@tailrace/bpf';
import { encode, events, ringBuffer, struct, u16, u32 } from '@tailrace/stage';
import { concatMap, map, NEVER, Observable, of, Subject, take, timer, toArray } from 'rxjs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FakeEngine, type FakeMap, PlannedFailure } from './fake-engine.ts';
import { EngineMapRegistry } from './registry.ts';

const Seen = struct({ number: u32, kind: u16 });
const ring = ringBuffer({ name: 'seen', value: Seen, bytes: 4096 });
const PLACE = 16;

let engine: FakeEngine;
let registry: EngineMapRegistry;
beforeEach(() => {
  engine = new FakeEngine();
  registry = new EngineMapRegistry(engine);
  registry.hold([{ map: ring, scope: 'edge', user: 'test' }]);
});
afterEach(() => vi.useRealTimers());

const handle = () => registry.handle(ring);
const memory = () => (registry.loaded(ring) as FakeMap).ring;

/** Writes records with these numbers; returns how many found a place. */
function write(...numbers: readonly number[]): number {
  return numbers.filter((number) => memory().output(encode(Seen, { number, kind: 7 }))).length;
}
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** Long enough for everything that was asked for. */
async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await turn();
}

test('events come typed, in order, to all subscribers', async () => {
  const [first, second]: [unknown[], unknown[]] = [[], []];
  write(1, 2);
  const one = handle().events$.subscribe((event) => first.push(event));
  expect(first).toEqual([]);
  await settle();
  const two = handle().events$.subscribe((event) => second.push(event));
  write(3);
  await settle();
  expect(first).toEqual([1, 2, 3].map((number) => ({ number, kind: 7 })));
  expect(second).toEqual([{ number: 3, kind: 7 }]);
  one.unsubscribe();
  write(4);
  await settle();
  expect(first).toHaveLength(3);
  expect(second).toHaveLength(2);
  two.unsubscribe();
  expect(handle().received).toBe(4n);
});

test('what comes while nobody reads waits in the ring', async () => {
  const seen: number[] = [];
  const read = () => handle().events$.subscribe(({ number }) => seen.push(number));
  const first = read();
  write(1);
  await settle();
  first.unsubscribe();
  write(2, 3);
  await settle();
  expect(seen).toEqual([1]);
  expect(handle().pending).toBe(2 * PLACE);
  const second = read();
  expect(handle().pending).toBe(2 * PLACE);
  await settle();
  second.unsubscribe();
  expect(seen).toEqual([1, 2, 3]);
  expect(handle().pending).toBe(0);
});

test('who leaves in the middle of a slice leaves the rest', async () => {
  write(1, 2, 3);
  const seen = await new Promise<number[]>((resolve) => {
    handle()
      .events$.pipe(
        take(2),
        map(({ number }) => number),
        toArray(),
      )
      .subscribe(resolve);
  });
  expect(seen).toEqual([1, 2]);
  expect(handle().pending).toBe(PLACE);
});

test('an error of one subscriber is its own', async () => {
  const [seen, errors]: [number[], unknown[]] = [[], []];
  handle()
    .events$.pipe(
      map(({ number }) => {
        if (number === 2) throw new RangeError('mine');
        return number;
      }),
    )
    .subscribe({ error: (error) => errors.push(error) });
  handle().events$.subscribe(({ number }) => seen.push(number));
  write(1, 2, 3);
  await settle();
  expect(errors).toEqual([new RangeError('mine')]);
  expect(seen).toEqual([1, 2, 3]);
});

test('a slice is 1,024 records, then everything else has its turn', async () => {
  const big = ringBuffer({ name: 'big', value: u32, bytes: 65_536 });
  registry.hold([{ map: big, scope: 'edge', user: 'test' }]);
  for (let number = 0; number < 3000; number++) (registry.loaded(big) as FakeMap).ring.output(encode(u32, number));
  const turns: number[] = [];
  let count = 0;
  const read = registry.handle(big).events$.subscribe(() => {
    count += 1;
  });
  while (count < 3000) {
    turns.push(count);
    await turn();
  }
  read.unsubscribe();
  expect(new Set(turns.map((at) => at % 1024))).toEqual(new Set([0]));
  expect(new Set(turns)).toEqual(new Set([0, 1024, 2048]));
});

test('consume takes the next record once the last one is done', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date'] });
  const log: string[] = [];
  handle()
    .consume(({ number }) => timer(10).pipe(map(() => number * 10)))
    .subscribe((result) => log.push(`done ${result}`));
  expect(write(1, 2, 3)).toBe(3);
  await settle();
  expect(handle().pending).toBe(2 * PLACE);
  // the ring takes what it has room for
  expect(write(...range(4, 1004))).toBe(4096 / PLACE - 1 - 2);
  await vi.advanceTimersByTimeAsync(10);
  expect(log).toEqual(['done 10']);
  expect(handle().pending).toBe(4096 - 2 * PLACE);
  await vi.advanceTimersByTimeAsync(20);
  expect(log).toEqual(['done 10', 'done 20', 'done 30']);
  expect(handle().received).toBe(4n);
});

test.each<[string, (number: number) => unknown]>([
  ['nothing', () => undefined],
  ['something at once', (number) => of(number, number)],
  ['nothing but the end', () => []],
  ['a promise', (number) => Promise.resolve(number)],
])('a project that gives %s is called for every record, in order', async (_name, give) => {
  const big = ringBuffer({ name: 'big', value: u32, bytes: 65_536 });
  registry.hold([{ map: big, scope: 'edge', user: 'test' }]);
  for (let number = 0; number < 3000; number++) (registry.loaded(big) as FakeMap).ring.output(encode(u32, number));
  const seen: number[] = [];
  let mostAtOnce = 0;
  const read = registry
    .handle(big)
    .consume((number) => {
      seen.push(number);
      return give(number) as Observable<unknown>;
    })
    .subscribe();
  for (let before = 0; seen.length < 3000; before = seen.length) {
    await turn();
    mostAtOnce = Math.max(mostAtOnce, seen.length - before);
  }
  read.unsubscribe();
  expect(seen).toEqual(range(0, 3000));
  expect(mostAtOnce).toBeLessThanOrEqual(1024);
});

test('errors of a project, at once or later, end it and let others read', async () => {
  const told: unknown[] = [];
  const failing = (project: (number: number) => Observable<never>) =>
    handle()
      .consume(({ number }) => project(number))
      .subscribe({ error: (error) => told.push(error) });
  write(1, 2, 3);
  failing(() => {
    throw new RangeError('at once');
  });
  await settle();
  failing(() => new Observable((subscriber) => subscriber.error(new RangeError('later'))));
  await settle();
  expect(told).toEqual([new RangeError('at once'), new RangeError('later')]);
  expect(await handle()[Symbol.asyncIterator]().next()).toEqual({ value: { number: 3, kind: 7 }, done: false });
});

test('leaving consume takes back what is under way', async () => {
  let left = 0;
  const read = handle()
    .consume(
      () =>
        new Observable<never>(() => () => {
          left += 1;
        }),
    )
    .subscribe();
  write(1, 2);
  await settle();
  read.unsubscribe();
  expect(left).toBe(1);
  await settle();
  expect(handle().received).toBe(1n);
});

test('a loop reads one record at a time, and leaves the ring to others', async () => {
  write(1, 2, 3, 4);
  const seen: number[] = [];
  for await (const { number } of handle()) {
    seen.push(number);
    expect(handle().pending).toBe((4 - number) * PLACE);
    if (number === 3) break;
  }
  expect(seen).toEqual([1, 2, 3]);
  write(5);
  const rest = handle()[Symbol.asyncIterator]();
  expect((await rest.next()).value).toEqual({ number: 4, kind: 7 });
  const asked = [rest.next(), rest.next()];
  await settle();
  write(6);
  await settle();
  await rest.return?.();
  expect(await Promise.all(asked)).toEqual([
    { value: { number: 5, kind: 7 }, done: false },
    { value: { number: 6, kind: 7 }, done: false },
  ]);
  expect(await rest.next()).toEqual({ value: undefined, done: true });
});

test('leaving an iterator settles what it was asked', async () => {
  const iterator = handle()[Symbol.asyncIterator]();
  const asked = [iterator.next(), iterator.next()];
  await settle();
  await iterator.return?.();
  expect(await Promise.all(asked)).toEqual([
    { value: undefined, done: true },
    { value: undefined, done: true },
  ]);
  write(1);
  await settle();
  expect(handle().received).toBe(0n);
});

test('a loop over a full ring lets timers through', async () => {
  let ticks = 0;
  const tick = setInterval(() => {
    ticks += 1;
  }, 1);
  let read = 0;
  write(0, 1, 2);
  for await (const { number } of handle()) {
    read += 1;
    write(number);
    if (ticks >= 2) break;
    expect(read).toBeLessThan(5_000_000);
  }
  clearInterval(tick);
});

test('one reads at a time, but for subscribers of events$', async () => {
  const busy = "ring buffer 'seen' is being read, expected nobody";
  const errors: string[] = [];
  const told = { error: ({ message }: ArgumentError) => errors.push(message) };
  const all = handle().events$.subscribe();
  handle()
    .consume(() => undefined)
    .subscribe(told);
  await expect(handle()[Symbol.asyncIterator]().next()).rejects.toThrow(busy);
  all.unsubscribe();
  const one = handle()
    .consume(() => NEVER)
    .subscribe();
  handle().events$.subscribe(told);
  handle()
    .consume(() => undefined)
    .subscribe(told);
  expect(errors).toEqual([busy, busy, busy]);
  one.unsubscribe();
  const iterator = handle()[Symbol.asyncIterator]();
  const next = iterator.next();
  handle().events$.subscribe(told);
  expect(errors).toHaveLength(4);
  await iterator.return?.();
  await next;
  handle().events$.subscribe().unsubscribe();
});

test('stopping delivers what is left to events$, and ends everything', async () => {
  const [seen, done]: [number[], string[]] = [[], []];
  handle().events$.subscribe({ next: ({ number }) => seen.push(number), complete: () => done.push('events$') });
  write(...range(0, 200));
  registry.close();
  expect(seen).toEqual(range(0, 200));
  expect(done).toEqual(['events$']);
});

test('stopping ends consume and iterators at once', async () => {
  const done: string[] = [];
  const gate = new Subject<void>();
  const consumer = handle();
  consumer.consume(() => gate).subscribe({ complete: () => done.push('consume') });
  write(1, 2);
  await settle();
  registry.close();
  expect(done).toEqual(['consume']);
  expect(gate.observed).toBe(false);
  consumer.consume(() => undefined).subscribe({ complete: () => done.push('late consume') });
  consumer.events$.subscribe({ complete: () => done.push('late events$') });
  expect(await consumer[Symbol.asyncIterator]().next()).toEqual({ value: undefined, done: true });
  expect(done).toEqual(['consume', 'late consume', 'late events$']);
  expect(consumer.received).toBe(1n);
  expect(() => consumer.pending).toThrow(new ArgumentError("ring buffer 'seen' is closed"));

  registry.hold([{ map: ring, scope: 'edge', user: 'test' }]);
  const iterator = handle()[Symbol.asyncIterator]();
  const next = iterator.next();
  await settle();
  registry.close();
  expect(await next).toEqual({ value: undefined, done: true });
});

test('a record that is too short is an error, not a wrong value', async () => {
  const errors: string[] = [];
  handle().events$.subscribe({ error: ({ message }: ArgumentError) => errors.push(message) });
  memory().output(new Uint8Array(4));
  await settle();
  const short = "ring buffer 'seen': a record of 4 bytes, expected 8";
  expect(errors).toEqual([short]);
  memory().output(new Uint8Array(4));
  handle()
    .consume(() => undefined)
    .subscribe({ error: ({ message }: ArgumentError) => errors.push(message) });
  await settle();
  expect(errors).toEqual([short, short]);
  memory().output(new Uint8Array(4));
  await expect(handle()[Symbol.asyncIterator]().next()).rejects.toThrow(short);
});

test('what fails when the ring is opened goes to who asked', async () => {
  engine.failAt = engine.steps;
  const errors: unknown[] = [];
  handle().events$.subscribe({ error: (error) => errors.push(error) });
  expect(errors).toEqual([new PlannedFailure('told to fail at ring edge/seen')]);
  engine.failAt = Number.POSITIVE_INFINITY;
  const seen: number[] = [];
  handle()
    .events$.pipe(concatMap(({ number }) => of(number)))
    .subscribe((number) => seen.push(number));
  write(1);
  await settle();
  expect(seen).toEqual([1]);
});

test('events know what was lost', async () => {
  const log = events({ name: 'log', value: Seen, bytes: 4096 });
  registry.hold(Object.values(log.maps).map((declared) => ({ map: declared, scope: 'edge', user: 'test' })));
  const logged = registry.handle(log);
  expect([logged.received, logged.lost, logged.pending]).toEqual([0n, 0n, 0]);
  const losses = registry.loaded(log.maps.losses as never) as FakeMap;
  losses.update(new Uint8Array(4), new Uint8Array(new BigUint64Array([2n, 3n]).buffer));
  (registry.loaded(log.maps.ring as never) as FakeMap).ring.output(encode(Seen, { number: 1, kind: 2 }));
  expect(logged.pending).toBe(PLACE);
  for await (const event of logged) {
    expect(event).toEqual({ number: 1, kind: 2 });
    break;
  }
  expect([logged.received, logged.lost, logged.pending]).toEqual([1n, 5n, 0]);
});

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type Candidate, Choice, type ChoiceOptions } from './choice.ts';

const options: ChoiceOptions = { margin: 1.25, windowMs: 40, settleMs: 5, everyMs: 20, holdsMs: [150, 400] };

/** A pair that moves so many bytes a millisecond by the kernel, and by the process. */
class FakePair implements Candidate {
  readonly bulk = 1_000n;
  readonly ledBy: string[] = [];
  isOver = false;
  rates: { readonly kernel: number; readonly process: number };
  #by: 'kernel' | 'process' = 'kernel';
  #bytes = 0;
  #since = performance.now();

  constructor(rates: { readonly kernel: number; readonly process: number }) {
    this.rates = rates;
  }

  get arrived(): bigint {
    const now = performance.now();
    this.#bytes += this.rates[this.#by] * (now - this.#since);
    this.#since = now;
    return BigInt(Math.floor(this.#bytes));
  }

  hold(reason: string): void {
    void this.arrived;
    this.#by = 'process';
    this.ledBy.push(reason.replace(/\d+ MB/g, 'N MB'));
  }

  release(): void {
    void this.arrived;
    this.#by = 'kernel';
    this.ledBy.push('kernel');
  }
}

test('where the kernel is as fast, pairs stay with it, and none is measured for a while', async () => {
  const choice = new Choice(options);
  const [first, second] = [new FakePair({ kernel: 1000, process: 1100 }), new FakePair({ kernel: 1000, process: 1100 })];
  await choice.consider(first);
  expect(first.ledBy).toEqual(['it is being measured', 'kernel']);
  await choice.consider(second);
  expect(second.ledBy).toEqual([]);
  await sleep(160);
  await choice.consider(second);
  expect(second.ledBy).toEqual(['it is being measured', 'kernel']);
});

test('where the process is clearly faster, pairs go through it until they move little', async () => {
  const choice = new Choice(options);
  const [first, second] = [new FakePair({ kernel: 1000, process: 3000 }), new FakePair({ kernel: 1000, process: 3000 })];
  const led = choice.consider(first);
  await sleep(110);
  expect(first.ledBy).toEqual(['it is being measured', 'measured: N MB/s by the process, N MB/s by the kernel']);
  const other = choice.consider(second);
  await sleep(10);
  expect(second.ledBy).toEqual(['measured: N MB/s by the process, N MB/s by the kernel']);
  second.rates = { kernel: 1, process: 1 };
  await other;
  expect(second.ledBy.at(-1)).toBe('kernel');
  await led;
  expect(first.ledBy.at(-1)).toBe('kernel');
});

test('a pair that ends while it is measured shows nothing', async () => {
  const choice = new Choice(options);
  const [first, second] = [new FakePair({ kernel: 1000, process: 9000 }), new FakePair({ kernel: 1000, process: 1000 })];
  const measured = choice.consider(first);
  await sleep(20);
  first.isOver = true;
  await measured;
  await choice.consider(second);
  expect(second.ledBy).toEqual(['it is being measured', 'kernel']);
});

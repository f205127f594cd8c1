/** CPUs that work on one bucket at once: what is found is what was stored for that key, whatever comes between two accesses. */
import type { FnDecl } from '@tailrace/stage';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { flowCache } from './flow-cache.ts';
import { mix } from './mix.ts';

/** Buckets whose every read and write of a word may be followed by all of another CPU's operation. */
class InterruptedBuckets {
  readonly #words = new Map<string, bigint>();
  /** What comes in between, by number of the access. */
  readonly #pending = new Map<number, () => void>();
  #accesses = 0;

  /** Has `what` happen behind the access that comes after so many others. */
  interrupt(after: number, what: () => void): void {
    this.#pending.set(this.#accesses + after, what);
  }

  lookup(level: string, index: number): object {
    const bucket = {};
    for (let way = 0; way < 8; way++) {
      const place = `${level} ${index} ${way}`;
      Object.defineProperty(bucket, `w${way}`, {
        get: () => {
          const word = this.#words.get(place) ?? 0n;
          this.#step();
          return word;
        },
        set: (word: bigint) => {
          this.#words.set(place, word);
          this.#step();
        },
      });
    }
    return bucket;
  }

  #step(): void {
    const now = this.#accesses++;
    const interrupt = this.#pending.get(now);
    this.#pending.delete(now);
    interrupt?.();
  }
}

/** The cache's fns over such buckets. */
function callable(name: 'find' | 'insert', buckets: InterruptedBuckets): (...args: readonly unknown[]) => unknown {
  const cache = flowCache({ name: 'flows', perCpu: 128, flows: 256, shards: 1 });
  return call(cache.fns[name] as FnDecl, buckets);
}

function call({ body, uses }: FnDecl, buckets: InterruptedBuckets): (...args: readonly unknown[]) => unknown {
  const bag = uses && Object.fromEntries(Object.entries(uses).map(([name, value]) => [name, seen(value, buckets)]));
  return (...args) => (body as (...all: readonly unknown[]) => unknown)(...args, ...(bag ? [bag] : []));
}

function seen(value: unknown, buckets: InterruptedBuckets): unknown {
  if (typeof value !== 'object' || value === null || !('kind' in value)) return value;
  if (value.kind === 'fn') return call(value as FnDecl, buckets);
  const { name } = value as unknown as { readonly name: string };
  return { lookup: (index: number) => buckets.lookup(name, index) };
}

/** More keys than a bucket has ways, all of one bucket. */
const keys = Array.from({ length: 2000 }, (_, i) => BigInt(i))
  .filter((key) => (mix.body(...([key, mix.uses] as never)) as bigint) >> 60n === 3n)
  .slice(0, 12);

it('never finds the value of another flow', () => {
  const operation = fc.record({ flow: fc.nat(keys.length - 1), store: fc.boolean(), after: fc.nat(20) });
  let interrupts = 0;
  fc.assert(
    fc.property(fc.array(operation, { minLength: 50, maxLength: 200, size: 'max' }), (operations) => {
      const buckets = new InterruptedBuckets();
      const [find, insert] = [callable('find', buckets), callable('insert', buckets)];
      const run = ({ flow, store }: (typeof operations)[number]): void => {
        if (store) insert(keys[flow], flow + 1, 0);
        else expect([0, flow + 1]).toContain(find(keys[flow], 0));
      };
      for (const [i, operation] of operations.entries()) {
        const next = operations[i + 1];
        if (next)
          buckets.interrupt(operation.after, () => {
            interrupts++;
            run(next);
          });
        run(operation);
      }
    }),
    { numRuns: 60 },
  );
  expect(interrupts).toBeGreaterThan(1000);
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { choosePriority } from './clsact.ts';
import type { TcOrder, TcTarget } from './tc-order.ts';
import type { TcFilter } from './traffic-control.ts';

const target: TcTarget = { index: 1, name: 'eth0', hook: 'tcIngress' };

/** Filters at these priorities; each program's id is its priority. */
function filters(...priorities: readonly number[]): TcFilter[] {
  return priorities.map((priority) => ({ priority, handle: 1, chain: 0, kind: 'bpf', name: `p${priority}`, programId: priority }));
}

const cases: readonly (readonly [there: readonly number[], order: TcOrder, priority: number])[] = [
  [[], 'first', 0x8000],
  [[], 'last', 0x8000],
  [[0x8000], 'first', 0x7f00],
  [[0x8000], 'last', 0x8100],
  // What iproute2 gives where nothing is asked for.
  [[49_152], 'last', 49_408],
  [[10], 'first', 5],
  [[2], 'first', 1],
  [[65_000], 'last', 65_256],
  [[65_534], 'last', 65_535],
  [[100, 200], { before: 200 }, 150],
  [[100, 200], { after: 100 }, 150],
  [[100, 102], { after: 100 }, 101],
  [[100, 200], { before: 100 }, 50],
  [[100, 200], { after: 200 }, 456],
];

test.each(cases)('among %j, %j is priority %i', (there, order, priority) => {
  expect(choosePriority(filters(...there), order, target)).toBe(priority);
});

const full: readonly (readonly [there: readonly number[], order: TcOrder, where: string])[] = [
  [[1], 'first', 'first'],
  [[0xffff], 'last', 'last'],
  [[7, 8], { before: 8 }, 'before 8'],
  [[7, 8], { after: 7 }, 'after 7'],
];

test.each(full)('among %j there is no room for %j', (there, order, where) => {
  expect(() => choosePriority(filters(...there), order, target)).toThrow(
    expect.objectContaining({
      code: 'conflict',
      message: `tcIngress of interface eth0 has no priority left for a filter ${where}`,
      hint: `move the neighbour to another priority; there now, in order: ${there.map((id) => `${id} (p${id})`).join(', ')}`,
    }),
  );
});

test('a program that is not there, or is reached by a jump only', () => {
  const [jump] = filters(5);
  const chain = jump ? [{ ...jump, chain: 3 }] : [];
  expect(() => choosePriority(chain, { after: 5 }, target)).toThrow(
    expect.objectContaining({
      message: 'tcIngress of interface eth0 has no program with id 5 to stand after',
      hint: 'nothing is there now',
    }),
  );
  expect(choosePriority(chain, 'last', target)).toBe(0x8000);
});

test('many that want to be last, or first, or between, find room in their order', () => {
  const orders = fc.array(fc.constantFrom('first', 'last', 'before', 'after'), { maxLength: 60 });
  fc.assert(
    fc.property(orders, (wishes) => {
      // Ids in the order in which they are to run; one in the middle is the neighbour of all that name one.
      const ids = [1];
      const there: TcFilter[] = filters(choosePriority([], 'last', target)).map((filter) => ({ ...filter, programId: 1 }));
      let between = 0;
      wishes.forEach((wish, at) => {
        // Between two fixed neighbours there is room for 7 halvings of 256.
        if ((wish === 'before' || wish === 'after') && ++between > 6) return;
        const order: TcOrder = wish === 'before' ? { before: 1 } : wish === 'after' ? { after: 1 } : wish;
        const programId = at + 2;
        const sorted = there.toSorted((a, b) => a.priority - b.priority);
        const priority = choosePriority(sorted, order, target);
        expect(there.every((other) => other.priority !== priority)).toBe(true);
        there.push({ priority, handle: 1, chain: 0, kind: 'bpf', name: '', programId });
        const own = ids.indexOf(1);
        ids.splice(wish === 'first' ? 0 : wish === 'last' ? ids.length : wish === 'before' ? own : own + 1, 0, programId);
      });
      expect(there.toSorted((a, b) => a.priority - b.priority).map(({ programId }) => programId)).toEqual(ids);
    }),
  );
});

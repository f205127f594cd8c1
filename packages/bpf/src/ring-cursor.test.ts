import { expect, test } from 'vitest';
import { ArgumentError } from './errors.ts';
import { type RecordAlarm, RecordReader } from './record-reader.ts';
import { RingCursor } from './ring-cursor.ts';

const BYTES = 64;
const [CONSUMED, PRODUCED, DATA] = [0, 8, 16];

/** A ring in plain memory, whose positions are at so many bytes, and a reader of it. */
function ring(position: bigint) {
  const buffer = new SharedArrayBuffer(DATA + 2 * BYTES);
  const view = new DataView(buffer);
  view.setBigUint64(CONSUMED, position, true);
  view.setBigUint64(PRODUCED, position, true);
  const at = (offset: number) => ({ buffer, offset });
  const cursor = new RingCursor({ consumed: at(CONSUMED), produced: at(PRODUCED), data: at(DATA), bytes: BYTES });
  const alarm: RecordAlarm = { start: () => undefined, stop: () => undefined };
  const reader = new RecordReader({ about: 'ring buffer r', cursor, alarm, onReadable: () => undefined, resources: new DisposableStack() });
  return {
    reader,
    consumed: () => view.getBigUint64(CONSUMED, true),
    write(number: number) {
      const produced = view.getBigUint64(PRODUCED, true);
      const offset = DATA + Number(produced % BigInt(BYTES));
      view.setUint32(offset, 8, true);
      view.setUint32(offset + 8, number, true);
      view.setBigUint64(PRODUCED, produced + 16n, true);
    },
  };
}

test.each([0n, (1n << 32n) - 40n, (1n << 31n) - 24n, (7n << 32n) - 16n])('from position %d on nothing is lost', (start) => {
  const { reader, consumed, write } = ring(start - (start % 8n));
  const seen: number[] = [];
  for (let number = 0; number < 20; number++) {
    write(number);
    if (number % 3 === 2) reader.read(2, (view, offset) => seen.push(view.getUint32(offset, true)));
    else if (number % 3 === 1) reader.read(9, (view, offset) => seen.push(view.getUint32(offset, true)));
  }
  reader.read(9, (view, offset) => seen.push(view.getUint32(offset, true)));
  expect(seen).toEqual(Array.from({ length: 20 }, (_, number) => number));
  expect(consumed()).toBe(start - (start % 8n) + 320n);
});

test('a record whose listener throws is read, one that closes reads no further', () => {
  const { reader, consumed, write } = ring(0n);
  for (const number of [1, 2, 3]) write(number);
  const failing = (): never => {
    throw new RangeError('mine');
  };
  expect(() => reader.read(3, failing)).toThrow('mine');
  expect(consumed()).toBe(16n);
  expect(() => reader.read(1, () => void reader.read(1, failing))).toThrow(new ArgumentError('ring buffer r is read by its own listener'));
  expect(reader.read(3, () => reader.close())).toBe(1);
  expect(() => reader.pending).toThrow(new ArgumentError('the reader of ring buffer r is closed'));
});

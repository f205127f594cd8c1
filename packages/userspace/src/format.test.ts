import { describe, expect, test } from 'vitest';
import { RuntimeFixture } from './runtime-fixture.ts';
import { readTrace } from './trace.ts';

const fixture = new RuntimeFixture('xdp', { packet: new Uint8Array(64) });
const text = (value: string): Uint8Array => new TextEncoder().encode(`${value}\0`);
const values = (...given: readonly (number | bigint)[]): Uint8Array =>
  new Uint8Array(BigInt64Array.from(given.map((value) => BigInt.asIntN(64, BigInt(value)))).buffer);

/** What snprintf writes, and what it answers. */
function format(pattern: string, given: readonly (number | bigint)[] = [], room = 64): readonly [string, bigint] {
  const out = new Uint8Array(room).fill(0x7e);
  const answer = fixture.call('snprintf', out, room, text(pattern), values(...given), given.length * 8);
  const end = out.indexOf(0);
  return [new TextDecoder().decode(end < 0 ? out : out.subarray(0, end)), answer];
}

describe('snprintf', () => {
  test.each([
    ['plain', [], 'plain'],
    ['100%%', [], '100%'],
    ['%d %i %u', [-1, -(2n ** 63n), -1], '-1 0 4294967295'],
    ['%ld %lld %lu', [-1, -(2n ** 63n), -1], '-1 -9223372036854775808 18446744073709551615'],
    ['%x %X %lx', [0xbeef, 0xbeef, 0xdead_beef_0000n], 'beef BEEF deadbeef0000'],
    ['[%5d|%-5d|%05d|%+d|% d]', [42, 42, -42, 42, 42], '[   42|42   |-0042|+42| 42]'],
    ['%c%c', [72, 0x1_0069], 'Hi'],
    ['%px', [0xff], '00000000000000ff'],
  ])('%s', (pattern, given, expected) => {
    expect(format(pattern, given)).toEqual([expected, BigInt(expected.length + 1)]);
  });

  test('texts and addresses are read where their pointers may read', () => {
    const memory = fixture.memory.allocate(32);
    fixture.memory.u8.set(text('flow'), memory);
    fixture.memory.u8.set([10, 0, 2, 255], memory + 8);
    fixture.memory.u8.set([0xfd, 0x01, ...new Uint8Array(13), 0x2a], memory + 16);
    // the row behind the one that the fixture's texts are in
    const row = 65_536 + 40 * 16;
    for (const [at, value] of [memory, 32, 0, 1].entries()) fixture.memory.view.setUint32(row + 4 * at, value, true);
    const pointer = (at: number): bigint => (40n << 32n) | BigInt(memory + at);
    expect(format('%s|%6s|%-6s|', [pointer(0), pointer(1), pointer(2)])[0]).toBe('flow|   low|ow    |');
    expect(format('%pI4 %pi4', [pointer(8), pointer(8)])[0]).toBe('10.0.2.255 010.000.002.255');
    expect(format('%pI6', [pointer(16)])[0]).toBe('fd01:0000:0000:0000:0000:0000:0000:002a');
    expect(format('%pi6', [pointer(16)])[0]).toBe('fd01000000000000000000000000002a');
    expect(format('<%s> %pI4', [123, 0])[0]).toBe('<> 0.0.0.0');
    expect(format('%s', [pointer(31)])[0]).toBe('*');
  });

  test('what does not fit is cut off and counted', () => {
    expect(format('%d-%d', [12345, 6789], 8)).toEqual(['12345-6', 11n]);
    expect(format('abc', [], 1)).toEqual(['', 4n]);
    expect(fixture.call('snprintf', 0n, 0, text('abc'), 0n, 0)).toBe(4n);
  });

  test.each([['%'], ['%y'], ['%5'], ['%l'], ['%ls'], ['%hd'], ['%#x'], ['%pq'], ['%pI5'], ['\x01'], ['\x7f'], ['%d']])(
    '%j is no format',
    (pattern) => {
      expect(format(pattern, pattern === '%d' ? [] : [1, 2])[1]).toBe(-22n);
    },
  );

  test('counts of values that cannot be', () => {
    const out = new Uint8Array(8);
    expect(fixture.call('snprintf', out, 8, text('x'), values(1), 7)).toBe(-22n);
    expect(fixture.call('snprintf', out, 8, text('x'), new Uint8Array(104), 104)).toBe(-22n);
    expect(out).toEqual(new Uint8Array(8));
  });
});

describe('lines', () => {
  test('the last ones stay to be read', () => {
    const own = new RuntimeFixture('schedCls', { packet: new Uint8Array(64) });
    expect(readTrace(own.memory, own.worker)).toEqual({ count: 0, lines: [] });
    expect(own.call('trace_printk', text('%d of %d: %x'), 13, 1, 2, 255)).toBe(10n);
    expect(own.call('trace_printk', text('bad %q'), 7, 0, 0, 0)).toBe(-22n);
    expect(own.call('trace_printk', text('cut'), 3, 0, 0, 0)).toBe(-22n);
    expect(own.call('trace_vprintk', text('%d%d%d%d'), 9, values(1, 2, 3, 4), 32)).toBe(4n);
    expect(readTrace(own.memory, own.worker)).toEqual({ count: 2, lines: ['1 of 2: ff', '1234'] });
    expect(readTrace(own.memory, own.worker, 1).lines).toEqual(['1234']);
    for (let line = 0; line < 20; line++) own.call('trace_printk', text('%d'), 3, line, 0, 0);
    expect(readTrace(own.memory, own.worker, 2)).toEqual({ count: 22, lines: Array.from({ length: 15 }, (_, at) => String(at + 5)) });
  });

  test('a long line is cut off', () => {
    const own = new RuntimeFixture('xdp', { packet: new Uint8Array(64) });
    expect(own.call('trace_printk', text(`%${1024}d`), 7, 7, 0, 0)).toBe(1024n);
    const [line] = readTrace(own.memory, own.worker).lines;
    expect([line?.length, line?.trim()]).toEqual([1019, '']);
  });
});

test.each([
  ['abc', 3, 'abc', 0n],
  ['abc', 4, 'abcd', -1n],
  ['abd', 3, 'abc', 1n],
  ['abc', 2, 'abz', 0n],
  ['ab\0x', 4, 'ab', 0n],
  ['', 0, 'ab', 0n],
  ['é', 2, 'a', 1n],
])('strncmp of %j, %i bytes, and %j', (one, size, other, expected) => {
  const bytes = new TextEncoder().encode(one);
  expect(fixture.call('strncmp', Uint8Array.of(...bytes, 0), size, text(other))).toBe(expected);
});

test.each([
  ['strtol', '-42x', 0, 3n, -42n],
  ['strtol', '  0x1F', 0, 6n, 31n],
  ['strtol', '017', 0, 3n, 15n],
  ['strtoul', '18446744073709551615', 10, 20n, -1n],
  ['strtoul', '18446744073709551616', 10, -34n, 0n],
  ['strtoul', '-1', 10, -22n, 0n],
  ['strtol', '9223372036854775808', 10, -34n, 0n],
  ['strtol', 'x', 16, -22n, 0n],
] as const)('%s of %j, base %i', (name, given, base, answer, value) => {
  const bytes = new TextEncoder().encode(given);
  const result = new Uint8Array(8);
  expect(fixture.call(name, bytes, bytes.length, base, result)).toBe(answer);
  expect(new DataView(result.buffer).getBigInt64(0, true)).toBe(value);
});

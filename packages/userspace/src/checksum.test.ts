/** Sums by the runtime against sums over everything. */
import { checksum, fold, partialSum } from '@tailrace/testing';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PACKET_SUM, WORKER_PACKET } from './layout.ts';
import { RuntimeFixture } from './runtime-fixture.ts';

const block = (most: number) => fc.uint8Array({ maxLength: most });
const swap = (sum: number): number => ((sum & 0xff) << 8) | (sum >>> 8);
/** 0 and 0xffff are the same sum. */
const same = (sum: number): number => sum % 0xffff;

const xdp = new RuntimeFixture('xdp', { packet: new Uint8Array(64) });
const tc = new RuntimeFixture('schedCls', { packet: new Uint8Array(64) });

describe('csum_diff', () => {
  test.each([
    ['nothing', [], [], 0, 0],
    ['what is pushed', [], [0x12, 0x34, 0x56, 0x78], 0, swap(0x12_34 + 0x56_78)],
    ['a seed', [], [], 0x1_0005, 6],
    ['equal things', [1, 2, 3, 4], [1, 2, 3, 4], 0, 0xffff],
    ['an odd byte', [], [0x12], 0, 0x12],
  ])('of %s', (_name, from, to, seed, expected) => {
    expect(xdp.call('csum_diff', Uint8Array.from(from), from.length, Uint8Array.from(to), to.length, seed)).toBe(BigInt(expected));
  });

  test('is what the sums of both differ by', () => {
    fc.assert(
      fc.property(block(600), block(600), fc.integer({ min: 0, max: 0xffff_ffff }), (from, to, seed) => {
        const answer = Number(xdp.call('csum_diff', from, from.length, to, to.length, seed));
        // the runtime's words are in memory order
        const sums = [from, to].map((bytes) => swap(fold(partialSum(bytes))));
        const expected = fold(seed) + (sums[1] as number) + 0xffff - (sums[0] as number);
        expect(same(answer)).toBe(same(expected));
        expect(answer).toBeLessThanOrEqual(0xffff);
      }),
    );
  });
});

/** An IPv4 header with the checksum of its bytes. */
function header(bytes: Uint8Array): Uint8Array {
  const header = Uint8Array.from(bytes);
  header.fill(0, 10, 12);
  const sum = checksum(header);
  header.set([sum >> 8, sum & 0xff], 10);
  return header;
}

const word = (bytes: Uint8Array, at: number, size: 2 | 4): number => {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return size === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
};
const fixed = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

describe('l3_csum_replace', () => {
  test.each([
    [2, 2],
    [12, 4],
  ] as const)('after the word at %i, of %i bytes, changed', (at, size) => {
    fc.assert(
      fc.property(fixed(20), fixed(4), (bytes, value) => {
        fc.pre(bytes.some((byte) => byte !== 0));
        const before = header(bytes);
        const changed = Uint8Array.from(before);
        changed.set(value.subarray(0, size), at);
        const packet = new Uint8Array(64);
        packet.set(changed, 14);
        tc.enter({ packet });
        expect(tc.call('l3_csum_replace', 24, word(before, at, size), word(changed, at, size), size)).toBe(0n);
        expect(checksum(tc.packet.subarray(14, 34)) % 0xffff).toBe(0);
      }),
    );
  });

  test('by a difference', () => {
    const before = header(Uint8Array.from({ length: 20 }, (_, at) => at));
    const packet = new Uint8Array(64);
    packet.set(before, 14);
    packet.set([9, 8, 7, 6, 5, 4, 3, 2], 26);
    tc.enter({ packet });
    const difference = xdp.call('csum_diff', before.slice(12, 20), 8, packet.slice(26, 34), 8, 0);
    expect(tc.call('l3_csum_replace', 24, 0, difference, 0)).toBe(0n);
    expect(checksum(tc.packet.subarray(14, 34))).toBe(0);
  });

  test.each([
    ['an odd place', 25, 0, 0, 2, -14n],
    ['a place behind the packet', 63, 0, 0, 2, -14n],
    ['a place at its end', 64, 0, 0, 2, -14n],
    ['a place too far', 0x1_0000, 0, 0, 2, -14n],
    ['a size of 3', 24, 0, 0, 3, -22n],
    ['more than a difference', 24, 1, 0, 0, -22n],
    ['flags of l4', 24, 0, 0, 0x12, -22n],
  ])('refuses %s', (_name, ...rest) => {
    tc.enter({ packet: new Uint8Array(64) });
    const result = rest.pop() as bigint;
    expect(tc.call('l3_csum_replace', ...rest)).toBe(result);
    expect(tc.packet).toEqual(new Uint8Array(64));
  });
});

describe('l4_csum_replace', () => {
  const field = 50;
  const run = (check: number, from: number, to: number, flags: number): number => {
    const packet = new Uint8Array(64);
    packet.set([check & 0xff, check >> 8], field);
    tc.enter({ packet });
    expect(tc.call('l4_csum_replace', field, from, to, flags)).toBe(0n);
    return word(tc.packet, field, 2);
  };

  test.each([
    ['no sum stays none', 0, 1, 2, 0x24, 0],
    ['unless it is told so', 0, 1, 2, 0x64, 0xfffe],
    ['a sum that becomes 0', 0x0001, 0, 1, 0x24, 0xffff],
    ['the same without the mark', 0x0001, 0, 1, 4, 0],
  ])('%s', (_name, check, from, to, flags, expected) => {
    expect(run(check, from, to, flags)).toBe(expected);
  });

  test("what changes in the pseudo header goes into the card's sum, the rest into nothing", () => {
    fc.assert(
      fc.property(fixed(64), fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 0xffff_ffff }), (packet, from, to) => {
        tc.enter({ packet, checksumComplete: true });
        const before = tc.field(WORKER_PACKET + PACKET_SUM);
        tc.call('l4_csum_replace', field, from, to, 0x14);
        // the field took the change and so stands for it: the sum over all is right again
        expect(tc.leave().packet.length).toBe(64);
        tc.enter({ packet, checksumComplete: true });
        tc.call('l4_csum_replace', field, from, to, 4);
        expect(tc.field(WORKER_PACKET + PACKET_SUM)).toBe(before);
        const difference = Number(xdp.call('csum_diff', new Uint8Array(0), 0, new Uint8Array(Uint32Array.of(to).buffer), 4, 0));
        tc.enter({ packet, checksumComplete: true });
        tc.call('l4_csum_replace', field, 0, difference, 0x90);
        expect(tc.field(WORKER_PACKET + PACKET_SUM)).toBe(before);
      }),
    );
  });
});

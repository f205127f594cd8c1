/** Moves of packets by the runtime against a model that keeps bytes in arrays, and what happens where room ends. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PACKET_META, REGION_BASE, REGION_LENGTH, REGION_SIZE, TAG_PACKET, WORKER_PACKET, WORKER_REGIONS } from './layout.ts';
import { packetEnds } from './packet-state.ts';
import { RuntimeFixture } from './runtime-fixture.ts';

const PACKET = Uint8Array.from({ length: 80 }, (_, at) => (at === 12 ? 8 : at === 13 ? 0 : at + 1));
const EINVAL = -22n;

/** The region is where the packet is. */
function checkRegion(fixture: RuntimeFixture): void {
  const { meta, end } = packetEnds(fixture.memory, fixture.worker);
  const row = WORKER_REGIONS + TAG_PACKET * REGION_SIZE;
  expect([fixture.field(row + REGION_BASE), fixture.field(row + REGION_LENGTH)]).toEqual([meta, end - meta]);
}

test('xdp: any moves in a row are those of a model', () => {
  const xdp = new RuntimeFixture('xdp', { packet: PACKET });
  const move = fc.oneof(
    fc.tuple(fc.constant('xdp_adjust_head' as const), fc.oneof(fc.integer({ min: -250, max: 250 }), fc.integer())),
    fc.tuple(fc.constant('xdp_adjust_tail' as const), fc.oneof(fc.integer({ min: -100, max: 100 }), fc.integer({ min: -4000, max: 4000 }))),
    fc.tuple(fc.constant('xdp_adjust_meta' as const), fc.integer({ min: -300, max: 300 })),
  );
  fc.assert(
    fc.property(fc.array(move, { maxLength: 20 }), (moves) => {
      xdp.enter({ packet: PACKET });
      // all of the page that the packet lies in, and its ends in there
      const page = [...new Uint8Array(256), ...PACKET, ...new Uint8Array(3520 - 80)];
      let [meta, data, end] = [256, 256, 256 + PACKET.length];
      for (const [name, by] of moves) {
        const answer = xdp.call(name, by);
        if (name === 'xdp_adjust_head') {
          const front = page.slice(meta, data);
          const ok = data + by >= 40 + front.length && data + by <= end - 14;
          expect(answer).toBe(ok ? 0n : EINVAL);
          if (ok) [meta, data] = [meta + by, data + by];
          if (ok) page.splice(meta, front.length, ...front);
        } else if (name === 'xdp_adjust_tail') {
          const ok = end + by <= 3776 && end + by >= data + 14;
          expect(answer).toBe(ok ? 0n : EINVAL);
          if (ok) page.fill(0, end, Math.max(end, end + by));
          if (ok) end += by;
        } else {
          const isOutside = meta + by < 40 || meta + by > data;
          const bytes = data - meta - by;
          expect(answer).toBe(isOutside ? EINVAL : bytes % 4 !== 0 || bytes > 255 ? -13n : 0n);
          if (answer === 0n) meta += by;
        }
        checkRegion(xdp);
      }
      const { packet, xdp: left } = xdp.leave();
      expect([...packet]).toEqual(page.slice(data, end));
      expect(left?.metadata.length ?? 0).toBe(data - meta);
    }),
  );
});

test('tc: any moves in a row are those of a model', () => {
  const tc = new RuntimeFixture('schedCls', { packet: PACKET });
  const move = fc.oneof(
    fc.tuple(fc.constant('skb_change_head' as const), fc.integer({ min: 0, max: 400 })),
    fc.tuple(fc.constant('skb_change_tail' as const), fc.integer({ min: 0, max: 1000 })),
    fc.tuple(fc.constant('skb_adjust_room' as const), fc.integer({ min: -100, max: 400 })),
  );
  fc.assert(
    fc.property(fc.array(move, { maxLength: 20 }), (moves) => {
      tc.enter({ packet: PACKET });
      const bytes = [...PACKET];
      let network = 14;
      for (const [name, amount] of moves) {
        const answer = name === 'skb_adjust_room' ? tc.call(name, amount, 1, 0) : tc.call(name, amount, 0);
        if (name === 'skb_change_head') {
          expect(answer).toBe(0n);
          bytes.unshift(...new Array(amount).fill(0));
          network += amount;
        } else if (name === 'skb_change_tail') {
          expect(answer).toBe(amount < network ? EINVAL : 0n);
          if (answer === 0n) {
            const grown = Math.max(0, amount - bytes.length);
            bytes.push(...new Array(grown).fill(0));
            bytes.length = amount;
          }
        } else if (amount >= 0) {
          expect(answer).toBe(0n);
          bytes.splice(network, 0, ...new Array(amount).fill(0));
        } else {
          expect(answer).toBe(bytes.length - network + amount < 20 ? -524n : 0n);
          if (answer === 0n) bytes.splice(network, -amount);
        }
        checkRegion(tc);
        expect(tc.context(0)).toBe(bytes.length);
      }
      expect([...tc.packet]).toEqual(bytes);
    }),
  );
});

describe('where room ends', () => {
  const room = 256 + 80 + 100;

  test('an skb is shifted to where there is more', () => {
    const tc = new RuntimeFixture('schedCls', { packet: PACKET }, room);
    expect(tc.call('skb_change_tail', 80 + 300, 0)).toBe(0n);
    expect(tc.packet).toEqual(Uint8Array.of(...PACKET, ...new Uint8Array(300)));
    expect(tc.call('skb_change_tail', 80, 0)).toBe(0n);
    expect(tc.call('skb_change_head', 350, 0)).toBe(0n);
    expect(tc.packet).toEqual(Uint8Array.of(...new Uint8Array(350), ...PACKET));
    checkRegion(tc);
  });

  test('and grows no further than that', () => {
    const tc = new RuntimeFixture('schedCls', { packet: PACKET }, room);
    expect(tc.call('skb_change_tail', room, 0)).toBe(0n);
    for (const [name, ...given] of [
      ['skb_change_tail', room + 1, 0],
      ['skb_change_head', 1, 0],
      ['skb_adjust_room', 1, 0, 0],
      ['skb_change_proto', 0xdd86, 0],
    ] as const)
      expect(tc.call(name, ...given)).toBe(-12n);
    tc.call('skb_vlan_push', 0x81, 5);
    expect(tc.call('skb_vlan_push', 0x81, 6)).toBe(-12n);
    expect(tc.packet.length).toBe(room);
    expect([tc.context(20), tc.context(24)]).toEqual([1, 5]);
  });

  test('room behind the end of a packet is room at its end', () => {
    const tc = new RuntimeFixture('schedCls', { packet: PACKET.subarray(0, 20) }, 256 + 20);
    expect(tc.call('skb_adjust_room', 8, 0, 0)).toBe(0n);
    expect(tc.packet).toEqual(Uint8Array.of(...PACKET.subarray(0, 20), ...new Uint8Array(8)));
  });

  test('an xdp packet stays where it is', () => {
    const xdp = new RuntimeFixture('xdp', { packet: PACKET }, room);
    expect(xdp.call('xdp_adjust_tail', 101)).toBe(EINVAL);
    expect(xdp.call('xdp_adjust_tail', 100)).toBe(0n);
    expect(xdp.call('xdp_adjust_head', -216)).toBe(0n);
    expect(xdp.call('xdp_adjust_head', -1)).toBe(EINVAL);
  });
});

test('metadata move with the first byte of an skb as well', () => {
  const tc = new RuntimeFixture('schedCls', { packet: PACKET });
  const { data } = packetEnds(tc.memory, tc.worker);
  tc.memory.u8.set([1, 2, 3, 4], data - 4);
  tc.memory.view.setUint32(tc.worker + WORKER_PACKET + PACKET_META, data - 4, true);
  tc.call('skb_change_head', 14, 0);
  tc.call('skb_adjust_room', -8, 0, 0);
  const ends = packetEnds(tc.memory, tc.worker);
  expect([...tc.memory.u8.slice(ends.meta, ends.data)]).toEqual([1, 2, 3, 4]);
});

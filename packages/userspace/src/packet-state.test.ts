import { ArgumentError, SyscallError, type TestRunOptions } from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import {
  PACKET_CEILING,
  PACKET_CONTEXT,
  PACKET_DATA,
  PACKET_END,
  PACKET_FLOOR,
  PACKET_META,
  REGION_BASE,
  REGION_LENGTH,
  REGION_SIZE,
  TAG_PACKET,
  WORKER_PACKET,
  WORKER_REGIONS,
} from './layout.ts';
import { enter, enterSkb, packetEnds, roomBytes, vlanOf } from './packet-state.ts';
import { emptySpec, RuntimeFixture } from './runtime-fixture.ts';

const packet = Uint8Array.from({ length: 64 }, (_, at) => (at === 12 ? 0x08 : at === 13 ? 0 : at));
const cb = Uint8Array.from({ length: 20 }, (_, at) => at + 1);

describe('xdp', () => {
  test('the packet lies behind its headroom, metadata in front of it', () => {
    const metadata = Uint8Array.of(9, 8, 7, 6);
    const fixture = new RuntimeFixture('xdp', { packet, xdp: { metadata, ingressIfindex: 5, rxQueue: 2 } });
    const state = [PACKET_FLOOR, PACKET_META, PACKET_DATA, PACKET_END, PACKET_CEILING].map((field) => fixture.field(WORKER_PACKET + field));
    const floor = state[0] as number;
    expect(state).toEqual([floor, floor + 252, floor + 256, floor + 320, floor + roomBytes('xdp', 64)]);
    expect(fixture.field(WORKER_PACKET + PACKET_CONTEXT)).toBe(1);
    const region = WORKER_REGIONS + TAG_PACKET * REGION_SIZE;
    expect([fixture.field(region + REGION_BASE), fixture.field(region + REGION_LENGTH)]).toEqual([floor + 252, 68]);
    expect([fixture.context(12), fixture.context(16)]).toEqual([5, 2]);
    expect(fixture.leave()).toEqual({ packet, xdp: { metadata } });
  });

  test('it comes in at the loopback device unless said otherwise, and nothing stays of what was before', () => {
    const fixture = new RuntimeFixture('xdp', { packet, xdp: { metadata: new Uint8Array(8), ingressIfindex: 5 } });
    fixture.call('redirect', 7, 0);
    fixture.enter({ packet: packet.subarray(0, 14) });
    expect(fixture.context(12)).toBe(1);
    expect(fixture.field(1152)).toBe(0);
    expect(fixture.leave()).toEqual({ packet: packet.slice(0, 14) });
  });

  test('long packets have room too', () => {
    const long = new Uint8Array(9000).fill(1);
    const fixture = new RuntimeFixture('xdp', { packet: long });
    expect(fixture.leave().packet).toEqual(long);
  });
});

describe('tc', () => {
  test('what is known of the packet goes in and comes out', () => {
    const skb = { mark: 0xffff_ffff, priority: 7, queue: 3, ifindex: 4, ingressIfindex: 5, gsoSegments: 6, gsoSize: 1448, cb };
    const fixture = new RuntimeFixture('schedCls', { packet, skb });
    expect([0, 4, 8, 12, 16, 32, 36, 40, 160, 164, 176].map((offset) => fixture.context(offset))).toEqual([
      64, 3, 0xffff_ffff, 3, 0x0008, 7, 5, 4, 64, 6, 1448,
    ]);
    expect(fixture.leave()).toEqual({
      packet,
      skb: { mark: 0xffff_ffff, priority: 7, ifindex: 4, ingressIfindex: 5, gsoSegments: 6, cb },
    });
    fixture.enter({ packet, skb: { ifindex: 0 } });
    expect(fixture.leave().skb).toEqual({ mark: 0, priority: 0, ifindex: 1, ingressIfindex: 0, gsoSegments: 0, cb: new Uint8Array(20) });
  });

  test('a tag beside the frame', () => {
    const fixture = new RuntimeFixture('schedCls', { packet });
    expect(vlanOf(fixture.memory, fixture.worker)).toBeUndefined();
    const { data } = packetEnds(fixture.memory, fixture.worker);
    enterSkb(fixture.memory, fixture.worker, { floor: data - 256, ceiling: data + 400 }, packet, { vlan: { tci: 0x2005, tpid: 0x88a8 } });
    expect(vlanOf(fixture.memory, fixture.worker)).toEqual({ tci: 0x2005, tpid: 0x88a8 });
    // as a card puts it in
    expect(fixture.run('skb_vlan_settle', fixture.worker)).toBe(0n);
    expect(fixture.packet).toEqual(Uint8Array.of(...packet.subarray(0, 12), 0x88, 0xa8, 0x20, 0x05, ...packet.subarray(12)));
    expect(vlanOf(fixture.memory, fixture.worker)).toBeUndefined();
  });

  test('a sum that has to be kept right', () => {
    const fixture = new RuntimeFixture('schedCls', { packet, checksumComplete: true });
    fixture.call('skb_store_bytes', 21, Uint8Array.of(1, 2, 3), 3, 1);
    expect(fixture.leave().packet.subarray(21, 24)).toEqual(Uint8Array.of(1, 2, 3));
    fixture.call('skb_store_bytes', 21, Uint8Array.of(4, 5, 6), 3, 0);
    expect(() => fixture.leave()).toThrow(SyscallError);
    expect(() => fixture.leave()).toThrow(
      expect.objectContaining({
        errnoName: 'EBADMSG',
        hint: 'the program left skb->csum wrong: it changed bytes without bpf_csum_update or its like',
      }),
    );
  });
});

test.each<readonly [type: 'xdp' | 'schedCls', options: Partial<TestRunOptions>, message: string]>([
  ['xdp', { packet: new Uint8Array(13) }, 'a test run takes a packet of at least 14 bytes, got 13'],
  ['xdp', { packet: new Uint8Array(4000) }, 'a packet of 4000 bytes needs 4256 bytes of room, got 1000'],
  ['xdp', { repeat: 0 }, 'repeat must be 1 to 4294967295, got 0'],
  ['xdp', { skb: {} }, 'skb is not for programs of type xdp, which sample.run is'],
  ['xdp', { checksumComplete: true }, 'checksumComplete is not for programs of type xdp, which sample.run is'],
  ['xdp', { xdp: { ingressIfindex: -1 } }, 'xdp.ingressIfindex must be 0 to 2147483647, got -1'],
  ['xdp', { xdp: { rxQueue: 1 } }, 'xdp.rxQueue 1 needs xdp.ingressIfindex, the interface that has the queue'],
  ['xdp', { xdp: { metadata: new Uint8Array(6) } }, 'xdp.metadata takes a multiple of 4 bytes, got 6'],
  ['xdp', { xdp: { metadata: new Uint8Array(220) } }, 'xdp.metadata takes at most 216 bytes, got 220'],
  ['schedCls', { xdp: {} }, 'xdp is not for programs of type schedCls, which sample.run is'],
  ['schedCls', { skb: { mark: -1 } }, 'skb.mark must be 0 to 4294967295, got -1'],
  ['schedCls', { skb: { priority: 2 ** 32 } }, 'skb.priority must be 0 to 4294967295, got 4294967296'],
  ['schedCls', { skb: { gsoSegments: 65_536 } }, 'skb.gsoSegments must be 0 to 65535, got 65536'],
  ['schedCls', { skb: { gsoSize: 1.5 } }, 'skb.gsoSize must be 0 to 65535, got 1.5'],
  ['schedCls', { skb: { cb: new Uint8Array(4) } }, 'skb.cb takes 20 bytes, got 4'],
])('%s: %j is refused', (type, options, message) => {
  const { memory, worker } = new RuntimeFixture('xdp', { packet });
  const room = { floor: 6_000_000, ceiling: 6_001_000 };
  const call = (): void => enter(memory, worker, room, emptySpec(type), { packet, ...options });
  expect(call).toThrow(ArgumentError);
  expect(call).toThrow(message);
});

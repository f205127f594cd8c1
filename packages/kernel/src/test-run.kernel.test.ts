import { type Instruction, insn, reg } from '@tailrace/bpf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type KernelInstance, kernel } from './engine.ts';
import { programSpec } from './fixture.ts';
import { createNamespace, type NetworkNamespace } from './netns.ts';
import type { KernelProgram } from './program.ts';
import { Rtnetlink } from './rtnetlink.ts';

const packet = Uint8Array.from({ length: 64 }, (_, index) => index);
const cb = Uint8Array.from({ length: 20 }, (_, index) => index + 1);

let namespace: NetworkNamespace;
let engine: KernelInstance;
/** Index of a veth with one receive queue. */
let veth: number;

beforeAll(async () => {
  namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'one', index: 42 }, { name: 'two' });
  veth = route.interface('one').index;
  engine = await kernel({ interfaces: [], netns: namespace }).open();
});

afterAll(async () => {
  await engine.close();
  namespace.close();
});

function load(type: 'xdp' | 'schedCls', ...instructions: readonly Instruction[]): Promise<KernelProgram> {
  return engine.loadProgram(programSpec('sample.run', [...instructions, insn.exit()], { type, frags: type === 'xdp' }), new Map());
}

/** r0 = the u32 at an offset of the context. */
const field = (offset: number) => insn.load(4, 0, 1, offset);

describe('tc', () => {
  test.each([
    ['mark', 8, { mark: 0xffff_fffe }, 0xffff_fffe],
    ['priority', 32, { priority: 7 }, 7],
    ['ingressIfindex', 36, { ingressIfindex: 42 }, 42],
    ['ifindex', 40, { ifindex: 42 }, 42],
    ['ifindex unless given', 40, {}, 1],
    ['cb', 52, { cb }, 0x0807_0605],
    ['gsoSegments', 164, { gsoSegments: 65_535 }, 65_535],
    ['gsoSize', 176, { gsoSize: 1448 }, 1448],
    ['queue', 12, { queue: 0 }, 0],
  ])('the program sees %s', async (_name, offset, skb, value) => {
    const program = await load('schedCls', field(offset));
    expect((await program.testRun({ packet, skb })).returnValue).toBe(value);
  });

  test('what the program writes comes back', async () => {
    const program = await load(
      'schedCls',
      insn.mov(2, 9),
      insn.store(4, 1, 8, 2),
      insn.store(4, 1, 32, 2),
      insn.store(4, 1, 64, 2),
      insn.mov(0, -1),
    );
    const run = await program.testRun({ packet, repeat: 3, skb: { mark: 1, cb, ifindex: veth, gsoSegments: 5, gsoSize: 100 } });
    expect(run).toEqual({
      returnValue: 0xffff_ffff,
      packet,
      durationNs: expect.any(Number),
      skb: {
        mark: 9,
        priority: 9,
        ifindex: veth,
        ingressIfindex: 0,
        gsoSegments: 5,
        cb: Uint8Array.of(...cb.subarray(0, 16), 9, 0, 0, 0),
      },
    });
  });

  test('a sum that the card took has to be kept right', async () => {
    const next = [insn.mov(0, -1)];
    // bpf_skb_store_bytes(skb, 20, &r10[-8], 4, flags)
    const storeBytes = (flags: number) => [
      insn.storeImm(8, 10, -8, 0x1234_5678),
      insn.mov(2, 20),
      insn.mov(3, reg(10)),
      insn.alu64('add', 3, -8),
      insn.mov(4, 4),
      insn.mov(5, flags),
      insn.call(9),
    ];
    const recomputing = await load('schedCls', ...storeBytes(1), ...next);
    expect((await recomputing.testRun({ packet, checksumComplete: true })).packet.subarray(20, 24)).toEqual(
      Uint8Array.of(0x78, 0x56, 0x34, 0x12),
    );
    const forgetful = await load('schedCls', ...storeBytes(0), ...next);
    expect((await forgetful.testRun({ packet })).returnValue).toBe(0xffff_ffff);
    await expect(forgetful.testRun({ packet, checksumComplete: true })).rejects.toMatchObject({
      code: 'syscall',
      errnoName: 'EBADMSG',
      hint: 'the program left skb->csum wrong: it changed bytes without bpf_csum_update or its like',
    });
    // Another reason for EINVAL is not taken for a kernel without the flag.
    await expect(recomputing.testRun({ packet: new Uint8Array(9000), checksumComplete: true })).rejects.toMatchObject({
      errnoName: 'EINVAL',
    });
  });

  test.each([
    [{ skb: { mark: -1 } }, 'skb.mark must be 0 to 4294967295, got -1'],
    [{ skb: { priority: 2 ** 32 } }, 'skb.priority must be 0 to 4294967295, got 4294967296'],
    [{ skb: { gsoSegments: 65_536 } }, 'skb.gsoSegments must be 0 to 65535, got 65536'],
    [{ skb: { gsoSize: 1.5 } }, 'skb.gsoSize must be 0 to 65535, got 1.5'],
    [{ skb: { queue: 1 } }, 'skb.queue must be 0, got 1'],
    [{ skb: { cb: new Uint8Array(4) } }, 'skb.cb takes 20 bytes, got 4'],
    [{ skb: { ifindex: 4711 } }, "skb.ifindex 4711 is no interface of the engine's namespace"],
    [{ xdp: {} }, 'xdp is not for programs of type schedCls, which sample.run is'],
  ])('%j is refused', async (options, message) => {
    const program = await load('schedCls', insn.mov(0, -1));
    await expect(program.testRun({ packet, ...options })).rejects.toMatchObject({ code: 'argument', message });
  });
});

describe('xdp', () => {
  test('the program sees where the packet came in', async () => {
    const index = await load('xdp', field(12));
    expect((await index.testRun({ packet, xdp: { ingressIfindex: veth, rxQueue: 0 } })).returnValue).toBe(veth);
    expect((await index.testRun({ packet })).returnValue).toBe(1);
  });

  test('metadata lies in front of the packet, and comes back', async () => {
    // r0 = the u32 at data_meta
    const read = await load(
      'xdp',
      insn.load(4, 2, 1, 8),
      insn.load(4, 3, 1, 0),
      insn.mov(4, reg(2)),
      insn.alu64('add', 4, 4),
      insn.mov(0, 0),
      insn.jump('gt', 4, reg(3), 1),
      insn.load(4, 0, 2, 0),
    );
    const metadata = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    expect(await read.testRun({ packet, xdp: { metadata } })).toEqual({
      returnValue: 0x0403_0201,
      packet,
      durationNs: expect.any(Number),
      xdp: { metadata },
    });
    expect(await read.testRun({ packet })).toEqual({ returnValue: 0, packet, durationNs: expect.any(Number) });
    const large = Uint8Array.from({ length: 9000 }, (_, at) => at);
    expect(await read.testRun({ packet: large, xdp: { metadata } })).toMatchObject({ packet: large, xdp: { metadata } });
  });

  test('metadata that the program adds or takes away', async () => {
    // bpf_xdp_adjust_meta(ctx, delta)
    const adjust = (delta: number) => load('xdp', insn.mov(2, delta), insn.call(54), insn.mov(0, 2));
    const added = await (await adjust(-8)).testRun({ packet });
    expect(added.packet).toEqual(packet);
    expect(added.xdp?.metadata.length).toBe(8);
    const taken = await (await adjust(8)).testRun({ packet, xdp: { metadata: new Uint8Array(8) } });
    expect(taken.packet).toEqual(packet);
    expect(taken.xdp).toBeUndefined();
  });

  test.each([
    [{ xdp: { ingressIfindex: 4711 } }, "xdp.ingressIfindex 4711 is no interface of the engine's namespace"],
    [{ xdp: { ingressIfindex: -1 } }, 'xdp.ingressIfindex must be 0 to 2147483647, got -1'],
    [{ xdp: { rxQueue: 1 } }, 'xdp.rxQueue 1 needs xdp.ingressIfindex, the interface that has the queue'],
    [{ xdp: { ingressIfindex: 42, rxQueue: 99 } }, 'xdp.rxQueue 99 is no receive queue of interface 42'],
    [{ xdp: { metadata: new Uint8Array(6) } }, 'xdp.metadata takes a multiple of 4 bytes, got 6'],
    [{ xdp: { metadata: new Uint8Array(256) } }, 'xdp.metadata of 256 bytes is more than this kernel takes'],
    [{ skb: {} }, 'skb is not for programs of type xdp, which sample.run is'],
    [{ checksumComplete: true }, 'checksumComplete is not for programs of type xdp, which sample.run is'],
  ])('%j is refused', async (options, message) => {
    const program = await load('xdp', insn.mov(0, 2));
    await expect(program.testRun({ packet, ...options })).rejects.toMatchObject({ code: 'argument', message });
  });
});

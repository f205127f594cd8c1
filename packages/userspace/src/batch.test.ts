/** Batches against single runs: the same packets, at both hooks, one by one and all at once. */
import type { BatchPacket, ProgramType, SkbContext } from '@tailrace/bpf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type UserspaceOptions, userspace } from './engine.ts';
import { specOf } from './program-fixture.ts';

/** Writes a word of the context, or of several, into the packet, where it is long enough. */
const fields = (offsets: readonly number[]): string => `
  r6 = r1
  r7 = *(u32 *)(r1 +76)
  r2 = *(u32 *)(r1 +80)
  r3 = r7
  r3 += ${14 + 4 * offsets.length}
  if r3 > r2 goto out
  ${offsets.map((offset, at) => `r4 = *(u32 *)(r6 +${offset})\n *(u32 *)(r7 +${14 + 4 * at}) = r4`).join('\n')}
  ${offsets.map((offset) => (WRITTEN.has(offset) ? `r4 = 77\n *(u32 *)(r6 +${offset}) = r4` : '')).join('\n')}
  r1 = r6
  call bpf_get_hash_recalc
  r0 = 5
  exit
  out: r0 = 6
  exit`;
/** Fields of struct __sk_buff that programs leave behind: mark, priority, the first and the last word of cb. */
const WRITTEN: ReadonlySet<number> = new Set([8, 32, 48, 64]);
/** len, pkt_type, mark, queue, protocol, priority, ingress_ifindex, ifindex, cb, gso_segs, wire_len, gso_size. */
const SEEN = [0, 4, 8, 12, 16, 32, 36, 40, 48, 64, 164, 160, 176];

/** Takes 4 bytes off the front where the first byte is odd, and says so. */
const cutting = `
  r6 = r1
  r7 = *(u32 *)(r1 +0)
  r2 = *(u32 *)(r1 +4)
  r3 = r7
  r3 += 14
  if r3 > r2 goto out
  r4 = *(u8 *)(r7 +0)
  r4 &= 1
  if r4 == 0 goto out
  r1 = r6
  r2 = 4
  call bpf_xdp_adjust_head
  r0 += 3
  exit
  out: r0 = 2
  exit`;
/** Sends on to the interface that the first byte names, where it is even. */
const sending = (type: ProgramType): string => `
  r7 = *(u32 *)(r1 +${type === 'xdp' ? 0 : 76})
  r2 = *(u32 *)(r1 +${type === 'xdp' ? 4 : 80})
  r3 = r7
  r3 += 14
  if r3 > r2 goto out
  r1 = *(u8 *)(r7 +0)
  r4 = r1
  r4 &= 1
  if r4 != 0 goto out
  r2 = 0
  call bpf_redirect
  exit
  out: r0 = 1
  exit`;
/** Makes room in front, which moves an skb, and leaves a mark there. */
const growing = `
  r6 = r1
  r2 = 4
  r3 = 0
  call bpf_skb_change_head
  r0 = 0
  exit`;

const cases: readonly (readonly [name: string, type: ProgramType, text: string])[] = [
  ['what an skb says', 'schedCls', fields(SEEN)],
  ['skbs that grow', 'schedCls', growing],
  ['skbs that are sent on', 'schedCls', sending('schedCls')],
  ['frames that are cut', 'xdp', cutting],
  ['frames that are sent on', 'xdp', sending('xdp')],
];

const skb: fc.Arbitrary<SkbContext> = fc.record(
  {
    mark: fc.nat(),
    priority: fc.nat(),
    queue: fc.nat(0xffff),
    ifindex: fc.nat(9),
    ingressIfindex: fc.nat(9),
    gsoSegments: fc.nat(0xffff),
    gsoSize: fc.nat(0xffff),
    cb: fc.uint8Array({ minLength: 20, maxLength: 20 }),
  },
  { requiredKeys: [] },
);
const address = fc.oneof(fc.constantFrom([0, 0, 0, 0, 0, 0], [255, 255, 255, 255, 255, 255], [1, 0, 0, 0, 0, 0]), fc.constant(undefined));
const packet = fc
  .tuple(fc.uint8Array({ minLength: 14, maxLength: 90 }), address, fc.constantFrom(undefined, [8, 0], [0, 40], [5, 255], [6, 0]))
  .map(([bytes, to, type]) => {
    if (to) bytes.set(to, 0);
    if (type) bytes.set(type, 12);
    if (bytes.length >= 16 && bytes[13] === 40) bytes.set([255, 255], 14);
    return bytes;
  });
const batch = (type: ProgramType): fc.Arbitrary<readonly BatchPacket[]> =>
  fc.array(
    fc.record(
      { packet, metadata: fc.constantFrom(Uint8Array.of(1, 2, 3, 4), undefined), ...(type === 'xdp' ? {} : { skb }) },
      { requiredKeys: ['packet'] },
    ) as fc.Arbitrary<BatchPacket>,
    { minLength: 1, maxLength: 20 },
  );

async function load(options: UserspaceOptions, text: string, type: ProgramType) {
  const instance = await userspace({ seed: 1n, now: () => 0n, compile: 'quickly', ...options }).open();
  const program = await instance.loadProgram(specOf(text, type), new Map());
  return {
    run: (packets: readonly BatchPacket[]) =>
      (program.runBatch?.(packets) ?? []).map(({ returnValue, packet, metadata, redirect }) => ({
        returnValue,
        redirect,
        packet: [...packet],
        metadata: metadata && [...metadata],
      })),
    [Symbol.asyncDispose]: () => instance.close(),
  };
}

describe.each([
  ['one worker', {}],
  ['three workers', { workers: 3 }],
] as const)('%s', (_name, options) => {
  test.each(cases)('%s', async (_case, type, text) => {
    await using together = await load(options, text, type);
    await using alone = await load({ mode: 'interpreter' }, text, type);
    fc.assert(
      fc.property(batch(type), (packets) => {
        expect(together.run(packets)).toEqual(packets.flatMap((one) => alone.run([one])));
      }),
      { numRuns: 60 },
    );
  });

  test.each(['xdp', 'schedCls'] as const)('%s: every result of a batch is there until the next one', async (type) => {
    await using loaded = await load(options, type === 'xdp' ? cutting : growing, type);
    const packets = Array.from({ length: 7000 }, (_, index) => {
      const bytes = new Uint8Array(60).fill(index % 251);
      new DataView(bytes.buffer).setUint32(20, index);
      return { packet: bytes };
    });
    const numbers = loaded.run(packets).map(({ packet }) => new DataView(Uint8Array.from(packet).buffer).getUint32(packet.length - 40));
    expect(numbers).toEqual(packets.map((_, index) => index));
  });
});

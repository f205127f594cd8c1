/** What a path may no longer take for known once the program has written into the packet: which headers there are. */
import type { Value } from '../ir.ts';
import { fact, forget } from './fact.ts';
import type { Lowering } from './lowering.ts';

const LAYER4 = ['packet:tcp', 'packet:udp', 'packet:icmp', 'packet:icmpv6', 'packet:ports', 'packet:layer4'];
const LAYER3 = ['packet:ipv4', 'packet:ipv6', ...LAYER4];

/** Bytes that decide whether a header is there and where, from the packet's first. */
const DECIDING: readonly { readonly from: number; readonly to: number; readonly facts: readonly string[] }[] = [
  // EtherType, and the byte with version and header length
  { from: 12, to: 15, facts: LAYER3 },
  // total length, payload length, next header, fragment offset, protocol
  { from: 16, to: 24, facts: LAYER4 },
];

/** Forgets what a store of `size` bytes at `base + offset` may have changed. */
export function packetWritten(lowering: Lowering, base: Value, offset: number, size: number): void {
  const start = placeOf(lowering, base);
  if (start === undefined) return forget(lowering, LAYER3);
  const at = start + offset;
  for (const { from, to, facts } of DECIDING) if (at < to && at + size > from) forget(lowering, facts);
}

/** How far a pointer is at least from the packet's first byte; undefined where it may be anywhere. */
function placeOf(lowering: Lowering, base: Value): number | undefined {
  if (base.kind === 'load' && base.space === 'context') return 0;
  // an IPv4 header length is at least 20 bytes
  const layer4 = lowering.read(fact('packet:layer4'));
  if (layer4?.kind === 'number' && layer4.exact === base) return 20;
  // a header that was tested: null on the other paths
  if (base.kind === 'phi') {
    const places = base.inputs.filter((i) => i.kind !== 'const').map((i) => placeOf(lowering, i));
    return places.every((p) => p === places[0]) ? places[0] : undefined;
  }
  if (base.kind !== 'binary' || base.right.kind !== 'const') return undefined;
  const from = placeOf(lowering, base.left);
  return from === undefined ? undefined : from + Number(base.right.value);
}

/** Bad and cut packets made from good ones, for tests that go through every length and every piece. */
import { ArgumentError } from '@tailrace/bpf';
import { checksum } from './checksum.ts';
import { fragmentLayout, writeHeader } from './header-layout.ts';
import { concat } from './layer-encoder.ts';
import { networkOffset } from './network-offset.ts';
import { frameBytes, type Packet } from './packet.ts';

/** Every proper prefix of a frame, shortest first, from `shortest` bytes on (the kernel's test runs take 14 and more). */
export function* truncations(frame: Packet | Uint8Array, shortest = 0): Generator<Uint8Array, void> {
  const bytes = frameBytes(frame);
  for (let length = shortest; length < bytes.length; length++) yield bytes.slice(0, length);
}

/**
 * Cuts an IP frame into fragments of at most `payload` bytes each behind their headers (a multiple of 8). IPv4 as RFC
 * 791, 2.3 says, options copied into every fragment; IPv6 as RFC 8200, 4.5 says, each fragment with the headers up to a
 * routing header, or else the hop-by-hop options, and a fragment header with `id`. Throws ArgumentError for other frames.
 */
export function fragments(frame: Packet | Uint8Array, payload: number, id = 1): Uint8Array[] {
  const bytes = frameBytes(frame);
  if (payload <= 0 || payload % 8 !== 0) throw new ArgumentError(`fragments of ${payload} bytes, expected a multiple of 8`);
  const start = networkOffset(bytes);
  const etherType = ((bytes[start - 2] ?? 0) << 8) | (bytes[start - 1] ?? 0);
  if (etherType === 0x0800) return ipv4Fragments(bytes, start, payload);
  if (etherType === 0x86dd) return ipv6Fragments(bytes, start, payload, id);
  throw new ArgumentError('frame is not IP');
}

function ipv4Fragments(bytes: Uint8Array, start: number, payload: number): Uint8Array[] {
  const header = start + ((bytes[start] ?? 0) & 15) * 4;
  if (header < start + 20 || header > bytes.length) throw new ArgumentError('frame has no whole IPv4 header');
  const total = viewOf(bytes).getUint16(start + 2);
  return pieces(bytes.subarray(header, start + total), payload).map(({ part, offset, more }) => {
    const cut = concat(bytes.subarray(0, header), part);
    const view = viewOf(cut);
    view.setUint16(start + 2, cut.length - start);
    view.setUint16(start + 6, (view.getUint16(start + 6) & 0xc000) | (more ? 0x2000 : 0) | (offset / 8));
    view.setUint16(start + 10, 0);
    view.setUint16(start + 10, checksum(cut.subarray(start, header)));
    return cut;
  });
}

function ipv6Fragments(bytes: Uint8Array, start: number, payload: number, id: number): Uint8Array[] {
  if (bytes.length < start + 40) throw new ArgumentError('frame has no whole IPv6 header');
  const end = start + 40 + viewOf(bytes).getUint16(start + 4);
  const { at, field } = fragmentable(bytes, start);
  const nextHeader = bytes[field] ?? 0;
  return pieces(bytes.subarray(at, end), payload).map(({ part, offset, more }) => {
    const inserted = writeHeader(fragmentLayout, { nextHeader, fragmentOffset: offset, moreFragments: Number(more), id });
    const cut = concat(concat(bytes.subarray(0, at), inserted), part);
    viewOf(cut).setUint16(start + 4, cut.length - start - 40);
    cut[field] = 44;
    return cut;
  });
}

/** Where the part starts that is cut, and where its number stands: behind the last header that every hop or a route needs. */
function fragmentable(bytes: Uint8Array, start: number): { readonly at: number; readonly field: number } {
  let [found, field, at] = [{ at: start + 40, field: start + 6 }, start + 6, start + 40];
  for (let kind = bytes[field] ?? 59; kind === 0 || kind === 43 || kind === 60; kind = bytes[field] ?? 59) {
    field = at;
    at += ((bytes[at + 1] ?? 0) + 1) * 8;
    if (kind !== 60) found = { at, field };
  }
  return found;
}

interface Piece {
  readonly part: Uint8Array;
  readonly offset: number;
  readonly more: boolean;
}

function pieces(content: Uint8Array, size: number): Piece[] {
  const count = Math.ceil(content.length / size);
  return Array.from({ length: count }, (_, index) => ({
    part: content.subarray(index * size, (index + 1) * size),
    offset: index * size,
    more: index < count - 1,
  }));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Bad and cut packets made from good ones, for tests that go through every length and every piece. */
import { ArgumentError } from '@tailrace/bpf';
import { checksum } from './checksum.ts';
import { frameBytes, type Packet } from './packet.ts';

/** Every proper prefix of a frame, shortest first, from `shortest` bytes on (the kernel's test runs take 14 and more). */
export function* truncations(frame: Packet | Uint8Array, shortest = 0): Generator<Uint8Array, void> {
  const bytes = frameBytes(frame);
  for (let length = shortest; length < bytes.length; length++) yield bytes.slice(0, length);
}

/**
 * Cuts an IPv4 frame into fragments of at most `payload` bytes behind the IP header (a multiple of 8), as RFC 791, 2.3
 * says; options are copied into every fragment. Throws ArgumentError for other frames.
 */
export function fragments(frame: Packet | Uint8Array, payload: number): Uint8Array[] {
  const bytes = frameBytes(frame);
  if (payload <= 0 || payload % 8 !== 0) throw new ArgumentError(`fragments of ${payload} bytes, expected a multiple of 8`);
  const header = 14 + ((bytes[14] ?? 0) & 15) * 4;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 34 || view.getUint16(12) !== 0x0800 || header < 34 || header > bytes.length)
    throw new ArgumentError('frame is not IPv4');
  const end = Math.min(bytes.length, 14 + view.getUint16(16));
  const cut: Uint8Array[] = [];
  for (let at = header; at < end; at += payload) {
    const stop = Math.min(at + payload, end);
    cut.push(fragment(bytes.subarray(0, header), bytes.subarray(at, stop), (at - header) / 8, stop < end));
  }
  return cut;
}

function fragment(header: Uint8Array, part: Uint8Array, offset: number, more: boolean): Uint8Array {
  const bytes = new Uint8Array(header.length + part.length);
  bytes.set(header);
  bytes.set(part, header.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(16, bytes.length - 14);
  view.setUint16(20, (view.getUint16(20) & 0xc000) | (more ? 0x2000 : 0) | offset);
  view.setUint16(24, 0);
  view.setUint16(24, checksum(bytes.subarray(14, header.length)));
  return bytes;
}

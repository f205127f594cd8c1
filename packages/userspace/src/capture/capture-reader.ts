/**
 * Reading of captures: pcap and pcapng, told apart by their first word, from any source and in constant memory.
 */
import { ArgumentError } from '@tailrace/bpf';
import { bytesOf, type CaptureSource } from './byte-source.ts';
import { ByteWindow } from './byte-window.ts';
import { CaptureError } from './capture-error.ts';
import type { CapturedPacket } from './link-layer.ts';
import { type CaptureParser, isPcapMagic, PcapParser } from './pcap.ts';
import { isPcapngMagic, PcapngParser } from './pcapng.ts';

/** How a capture is read. */
export interface ReadCaptureOptions {
  /** The most packets of a batch; 1024 unless said. */
  readonly batchPackets?: number;
  /** The most bytes that a pcap record or a pcapng block may claim, 64 to 2^30; 16 MiB unless said. */
  readonly maxRecordBytes?: number;
}

const MAGIC = 4;

/**
 * The packets of a capture in batches, in the order of the file. A batch is never empty and is the caller's to keep; see
 * `CapturedPacket.bytes` on how long packets last. Memory stays within a few chunks and the longest record.
 * @throws CaptureError where the capture is damaged, cut, or of a kind that is not read, after all packets before that
 * place; also where the source fails. (Damage within gzip's own data takes up to 64 KiB before it along: zlib keeps those.)
 * ArgumentError for options out of range.
 */
export async function* readCapture(source: CaptureSource, options: ReadCaptureOptions = {}): AsyncGenerator<CapturedPacket[], void> {
  const batchPackets = within('batchPackets', options.batchPackets ?? 1024, 1, 2 ** 20);
  const maxRecordBytes = within('maxRecordBytes', options.maxRecordBytes ?? 16 << 20, 64, 2 ** 30);
  const window = new ByteWindow();
  let parser: CaptureParser | undefined;
  for await (const chunk of bytesOf(source)) {
    window.append(chunk);
    parser ??= window.length < MAGIC ? undefined : parserFor(window, maxRecordBytes);
    if (parser === undefined) continue;
    let more = window.length >= parser.need;
    while (more) {
      const packets: CapturedPacket[] = [];
      let damage: unknown;
      try {
        more = parser.parse(packets, batchPackets);
      } catch (error) {
        damage = error;
      }
      if (packets.length > 0) yield packets;
      if (damage !== undefined) throw damage;
    }
  }
  if (parser !== undefined) return parser.finish();
  throw new CaptureError(
    { offset: 0, record: undefined },
    `cannot read capture: it ends after ${window.length} bytes, expected the header of a pcap or pcapng file`,
  );
}

/** The packets of a capture one by one; as `readCapture`, which is faster where packets are many. */
export async function* readPackets(source: CaptureSource, options?: ReadCaptureOptions): AsyncGenerator<CapturedPacket, void> {
  for await (const packets of readCapture(source, options)) yield* packets;
}

function parserFor(window: ByteWindow, maxRecordBytes: number): CaptureParser {
  const little = window.view.getUint32(window.start, true);
  const big = window.view.getUint32(window.start, false);
  if (isPcapngMagic(big)) return new PcapngParser(window, maxRecordBytes);
  if (isPcapMagic(little) || isPcapMagic(big)) return new PcapParser(window, maxRecordBytes);
  const magic = big.toString(16).padStart(8, '0');
  throw new CaptureError(
    { offset: 0, record: undefined },
    `cannot read capture: it begins with 0x${magic}, expected a pcap or pcapng file`,
  );
}

function within(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new ArgumentError(`${name} of a capture must be a whole number from ${least} to ${most}, got ${value}`);
}

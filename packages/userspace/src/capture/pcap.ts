/**
 * The pcap file format (draft-ietf-opsawg-pcap), version 2.4: a header, then records to the end. Both byte orders, both
 * resolutions. Parses what a window holds and says how much more it waits for; reading is done elsewhere.
 */
import type { ByteWindow } from './byte-window.ts';
import { CaptureError, type CapturePlace } from './capture-error.ts';
import { type CapturedPacket, checkLinkType, type LinkType } from './link-layer.ts';

/** First words of a pcap file, in the byte order of the machine that wrote it. */
export const PcapMagic = { microseconds: 0xa1b2c3d4, nanoseconds: 0xa1b23c4d } as const;

/** Bytes of a pcap file's header. */
export const PCAP_HEADER = 24;
/** Bytes before each packet of a pcap file. */
export const PCAP_RECORD_HEADER = 16;

/** The longest packet that readers take where a capture names no greater snap length (as libpcap has it). */
export const MAX_SNAP_LENGTH = 262_144;

/** Reads one format from a window that others fill. */
export interface CaptureParser {
  /** Bytes the window must hold before it is worth while to parse on. */
  readonly need: number;
  /**
   * Takes whole records off the window and adds their packets, up to `limit` of them; true if it stopped for that.
   * @throws CaptureError at damage; the packets before it were added.
   */
  parse(packets: CapturedPacket[], limit: number): boolean;
  /** @throws CaptureError if the capture must not end with what the window holds. */
  finish(): void;
}

/** True for the first word of a pcap file, read little-endian or big-endian. */
export function isPcapMagic(word: number): boolean {
  return word === PcapMagic.microseconds || word === PcapMagic.nanoseconds;
}

/** Parses a pcap file; `maxRecord` bounds what a record may claim. */
export class PcapParser implements CaptureParser {
  need = PCAP_HEADER;
  readonly #window: ByteWindow;
  readonly #maxRecord: number;
  #record = 0;
  #little = true;
  #nsPerUnit = 1000;
  #maxCaptured = 0;
  #fcsLength = 0;
  #linkType: LinkType | undefined;
  #second = -1;
  #secondNs = 0n;

  constructor(window: ByteWindow, maxRecord: number) {
    this.#window = window;
    this.#maxRecord = maxRecord;
  }

  parse(packets: CapturedPacket[], limit: number): boolean {
    const window = this.#window;
    if (this.#linkType === undefined) {
      if (window.length < PCAP_HEADER) return false;
      this.#linkType = this.#parseHeader();
      this.need = PCAP_RECORD_HEADER;
    }
    const { bytes, view, end } = window;
    const linkType = this.#linkType;
    const little = this.#little;
    const fcsLength = this.#fcsLength;
    let at = window.start;
    while (packets.length < limit) {
      if (end - at < PCAP_RECORD_HEADER) {
        window.start = at;
        this.need = PCAP_RECORD_HEADER;
        return false;
      }
      const captured = view.getUint32(at + 8, little);
      if (captured > this.#maxCaptured) throw this.#tooLong(window.base + at, captured);
      const next = at + PCAP_RECORD_HEADER + captured;
      if (next > end) {
        window.start = at;
        this.need = next - at;
        return false;
      }
      const second = view.getUint32(at, little);
      if (second !== this.#second) {
        this.#second = second;
        this.#secondNs = BigInt(second) * 1_000_000_000n;
      }
      const onWire = Math.max(captured, view.getUint32(at + 12, little));
      const originalLength = Math.max(0, onWire - fcsLength);
      packets.push({
        bytes: new Uint8Array(bytes.buffer, bytes.byteOffset + at + PCAP_RECORD_HEADER, Math.min(captured, originalLength)),
        timestampNs: this.#secondNs + BigInt(view.getUint32(at + 4, little) * this.#nsPerUnit),
        originalLength,
        linkType,
        interfaceIndex: 0,
      });
      this.#record++;
      at = next;
    }
    window.start = at;
    return true;
  }

  finish(): void {
    const window = this.#window;
    if (this.#linkType === undefined) {
      const place = { offset: window.offset, record: undefined };
      throw new CaptureError(place, `pcap header: cut after ${window.length} bytes, expected ${PCAP_HEADER}`);
    }
    if (window.length > 0) {
      const place = this.#place(window.offset);
      const what = window.length < PCAP_RECORD_HEADER ? 'header' : 'record';
      throw new CaptureError(place, `${nameOf(place)}: cut after ${window.length} bytes, expected a ${what} of ${this.need}`);
    }
  }

  #parseHeader(): LinkType {
    const { view, start, offset } = this.#window;
    const place = { offset, record: undefined };
    this.#little = isPcapMagic(view.getUint32(start, true));
    const little = this.#little;
    this.#nsPerUnit = view.getUint32(start, little) === PcapMagic.nanoseconds ? 1 : 1000;
    const major = view.getUint16(start + 4, little);
    const minor = view.getUint16(start + 6, little);
    if (major !== 2 || minor !== 4) throw new CaptureError(place, `pcap header: version ${major}.${minor}, expected 2.4`);
    // files without a limit say 0 or something absurd
    const snapLength = view.getUint32(start + 16, little);
    const sane = snapLength <= this.#maxRecord ? snapLength : 0;
    this.#maxCaptured = Math.min(Math.max(sane, MAX_SNAP_LENGTH), this.#maxRecord);
    const network = view.getUint32(start + 20, little);
    // bit 26: bits 28 to 31 are known, and are the length of the frame check sequence in 16-bit words
    this.#fcsLength = network & 0x0400_0000 ? (network >>> 28) * 2 : 0;
    const linkType = checkLinkType(network & 0xffff, place, 'pcap header');
    this.#window.start += PCAP_HEADER;
    return linkType;
  }

  #tooLong(offset: number, captured: number): CaptureError {
    const place = this.#place(offset);
    return new CaptureError(place, `${nameOf(place)}: a packet of ${captured} bytes, expected at most ${this.#maxCaptured}`);
  }

  #place(offset: number): CapturePlace {
    return { offset, record: this.#record + 1 };
  }
}

function nameOf({ offset, record }: CapturePlace): string {
  return `pcap record ${record} at byte ${offset}`;
}

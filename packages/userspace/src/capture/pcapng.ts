/**
 * The pcapng file format (draft-ietf-opsawg-pcapng): sections of either byte order, each with interfaces of its own, and
 * packets in enhanced, simple and obsolete blocks. Blocks and options without a bearing on packets are stepped over.
 */
import type { ByteWindow } from './byte-window.ts';
import { CaptureClock } from './capture-clock.ts';
import { CaptureError, type CapturePlace } from './capture-error.ts';
import { type CapturedPacket, checkLinkType, type LinkType } from './link-layer.ts';
import type { CaptureParser } from './pcap.ts';

const BlockType = { section: 0x0a0d0d0a, interface: 1, packet: 2, simple: 3, enhanced: 6 } as const;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const InterfaceOption = { resolution: 9, fcsLength: 13, offset: 14 } as const;
const PacketOption = { flags: 2 } as const;

/** Type, length, and the length again behind the body. */
const LEAST_BLOCK = 12;
const TRAILER = 4;
/** What stands before the options or the packet, from the block's start. */
const SECTION_HEAD = 24;
const INTERFACE_HEAD = 16;
const PACKET_HEAD = 28;
const SIMPLE_HEAD = 12;

/** Keeps what a hostile file can make the reader remember within bounds. */
const MAX_INTERFACES = 65_536;

const MICROSECONDS = 6;

interface CaptureInterface {
  readonly index: number;
  readonly rawLinkType: number;
  readonly snapLength: number;
  readonly fcsLength: number;
  readonly clock: CaptureClock;
  /** Set once a packet came and the type was found to be one that is read. */
  linkType: LinkType | undefined;
}

/** True for the first word of a pcapng file. */
export function isPcapngMagic(word: number): boolean {
  return word === BlockType.section;
}

/** Parses a pcapng file; `maxBlock` bounds what a block may claim. */
export class PcapngParser implements CaptureParser {
  need = LEAST_BLOCK;
  readonly #window: ByteWindow;
  readonly #maxBlock: number;
  #block = 0;
  #little = true;
  /** Interfaces of the section. */
  #interfaces: CaptureInterface[] = [];
  /** Interfaces of all sections so far. */
  #described = 0;

  constructor(window: ByteWindow, maxBlock: number) {
    this.#window = window;
    this.#maxBlock = maxBlock;
  }

  parse(packets: CapturedPacket[], limit: number): boolean {
    const window = this.#window;
    const { view } = window;
    while (packets.length < limit) {
      const at = window.start;
      if (window.length < LEAST_BLOCK) {
        this.need = LEAST_BLOCK;
        return false;
      }
      const isSection = view.getUint32(at, true) === BlockType.section;
      if (isSection) this.#little = this.#byteOrderAt(at);
      const length = view.getUint32(at + 4, this.#little);
      const least = isSection ? SECTION_HEAD + TRAILER : LEAST_BLOCK;
      if (length < least || length > this.#maxBlock || length % 4 !== 0) {
        throw this.#damage(`a length of ${length}, expected a multiple of 4 from ${least} to ${this.#maxBlock}`);
      }
      if (window.length < length) {
        this.need = length;
        return false;
      }
      const trailer = view.getUint32(at + length - TRAILER, this.#little);
      if (trailer !== length) throw this.#damage(`a trailing length of ${trailer}, expected ${length}`);
      const packet = this.#parseBlock(at, length);
      if (packet !== undefined) packets.push(packet);
      window.start += length;
      this.#block++;
    }
    return true;
  }

  finish(): void {
    const window = this.#window;
    if (window.length === 0) return;
    throw this.#damage(`cut after ${window.length} bytes, expected ${window.length < LEAST_BLOCK ? 'at least ' : ''}${this.need}`);
  }

  #parseBlock(at: number, length: number): CapturedPacket | undefined {
    const { view } = this.#window;
    switch (view.getUint32(at, this.#little)) {
      case BlockType.enhanced:
        return this.#parsePacket(at, length, view.getUint32(at + 8, this.#little));
      case BlockType.packet:
        return this.#parsePacket(at, length, view.getUint16(at + 8, this.#little));
      case BlockType.simple:
        return this.#parseSimple(at, length);
      case BlockType.interface:
        this.#parseInterface(at, length);
        return undefined;
      case BlockType.section:
        this.#parseSection(at);
        return undefined;
      default:
        return undefined;
    }
  }

  #byteOrderAt(at: number): boolean {
    const { view } = this.#window;
    if (view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC) return true;
    const magic = view.getUint32(at + 8, false);
    if (magic === BYTE_ORDER_MAGIC) return false;
    throw this.#damage(`a byte-order magic of ${hex(magic)}, expected ${hex(BYTE_ORDER_MAGIC)} in either order`);
  }

  #parseSection(at: number): void {
    const { view } = this.#window;
    const major = view.getUint16(at + 12, this.#little);
    const minor = view.getUint16(at + 14, this.#little);
    // some writers said 1.2 for what is 1.0
    if (major !== 1 || (minor !== 0 && minor !== 2)) throw this.#damage(`version ${major}.${minor}, expected 1.0`);
    this.#interfaces = [];
  }

  #parseInterface(at: number, length: number): void {
    this.#expectHead(length, INTERFACE_HEAD, 'an interface');
    if (this.#interfaces.length === MAX_INTERFACES) throw this.#damage(`one interface more, expected at most ${MAX_INTERFACES}`);
    const { view } = this.#window;
    let resolution = MICROSECONDS;
    let fcsLength = 0;
    let offset = 0n;
    this.#forEachOption(at + INTERFACE_HEAD, at + length - TRAILER, (code, value, size) => {
      switch (code) {
        case InterfaceOption.resolution:
          this.#expectOption('if_tsresol', size, 1);
          resolution = view.getUint8(value);
          break;
        case InterfaceOption.fcsLength:
          this.#expectOption('if_fcslen', size, 1);
          fcsLength = octetsOf(view.getUint8(value));
          break;
        case InterfaceOption.offset:
          this.#expectOption('if_tsoffset', size, 8);
          offset = view.getBigInt64(value, this.#little);
          break;
      }
    });
    this.#interfaces.push({
      index: this.#described++,
      rawLinkType: view.getUint16(at + 8, this.#little),
      snapLength: view.getUint32(at + 12, this.#little),
      fcsLength,
      clock: new CaptureClock(resolution, offset),
      linkType: undefined,
    });
  }

  #parsePacket(at: number, length: number, interfaceId: number): CapturedPacket {
    this.#expectHead(length, PACKET_HEAD, 'a packet');
    const { view } = this.#window;
    const little = this.#little;
    const origin = this.#interfaceOf(interfaceId);
    const captured = view.getUint32(at + 20, little);
    const room = length - PACKET_HEAD - TRAILER;
    if (captured > room) throw this.#damage(`a packet of ${captured} bytes, expected at most the block's ${room}`);
    let { fcsLength } = origin;
    const options = at + PACKET_HEAD + ((captured + 3) & ~3);
    const end = at + length - TRAILER;
    if (options < end) {
      this.#forEachOption(options, end, (code, value, size) => {
        if (code !== PacketOption.flags) return;
        this.#expectOption('flags', size, 4);
        const octets = (view.getUint32(value, little) >>> 5) & 0xf;
        if (octets > 0) fcsLength = octets;
      });
    }
    const timestampNs = origin.clock.nanoseconds(view.getUint32(at + 12, little), view.getUint32(at + 16, little));
    return this.#packet(at + PACKET_HEAD, captured, view.getUint32(at + 24, little), fcsLength, timestampNs, origin);
  }

  #parseSimple(at: number, length: number): CapturedPacket {
    this.#expectHead(length, SIMPLE_HEAD, 'a packet');
    const origin = this.#interfaceOf(0);
    const onWire = this.#window.view.getUint32(at + 8, this.#little);
    const captured = origin.snapLength === 0 ? onWire : Math.min(onWire, origin.snapLength);
    const room = length - SIMPLE_HEAD - TRAILER;
    if (captured > room) throw this.#damage(`a packet of ${captured} bytes, expected at most the block's ${room}`);
    return this.#packet(at + SIMPLE_HEAD, captured, onWire, origin.fcsLength, 0n, origin);
  }

  #packet(at: number, captured: number, onWire: number, fcsLength: number, timestampNs: bigint, origin: CaptureInterface): CapturedPacket {
    const { bytes } = this.#window;
    const originalLength = Math.max(0, Math.max(captured, onWire) - fcsLength);
    return {
      bytes: new Uint8Array(bytes.buffer, bytes.byteOffset + at, Math.min(captured, originalLength)),
      timestampNs,
      originalLength,
      linkType: origin.linkType ?? this.#admit(origin),
      interfaceIndex: origin.index,
    };
  }

  #interfaceOf(id: number): CaptureInterface {
    const origin = this.#interfaces[id];
    if (origin !== undefined) return origin;
    throw this.#damage(`a packet of interface ${id}, expected one of the ${this.#interfaces.length} that its section has described`);
  }

  /** Refused at an interface's first packet: one that saw none does no harm. */
  #admit(origin: CaptureInterface): LinkType {
    const place = this.#place();
    origin.linkType = checkLinkType(origin.rawLinkType, place, `${nameOf(place)}, of interface ${origin.index}`);
    return origin.linkType;
  }

  #forEachOption(from: number, end: number, visit: (code: number, value: number, size: number) => void): void {
    const { view } = this.#window;
    let at = from;
    while (at < end) {
      const code = view.getUint16(at, this.#little);
      if (code === 0) return;
      const size = view.getUint16(at + 2, this.#little);
      const next = at + 4 + ((size + 3) & ~3);
      if (next > end) throw this.#damage(`option ${code} of ${size} bytes, expected at most the ${end - at - 4} that are left`);
      visit(code, at + 4, size);
      at = next;
    }
  }

  #expectHead(length: number, head: number, what: string): void {
    if (length < head + TRAILER) throw this.#damage(`a length of ${length}, expected at least ${head + TRAILER} for ${what}`);
  }

  #expectOption(name: string, size: number, expected: number): void {
    if (size !== expected) throw this.#damage(`option ${name} of ${size} bytes, expected ${expected}`);
  }

  #damage(what: string): CaptureError {
    const place = this.#place();
    return new CaptureError(place, `${nameOf(place)}: ${what}`);
  }

  #place(): CapturePlace {
    return { offset: this.#window.offset, record: this.#block + 1 };
  }
}

/** The draft counts if_fcslen in bits, yet its own example is 4, and writers differ: nobody has a check of 1 to 7 bits. */
function octetsOf(fcsLength: number): number {
  return fcsLength < 8 ? fcsLength : fcsLength >> 3;
}

function nameOf({ offset, record }: CapturePlace): string {
  return `pcapng block ${record} at byte ${offset}`;
}

function hex(word: number): string {
  return `0x${word.toString(16).padStart(8, '0')}`;
}

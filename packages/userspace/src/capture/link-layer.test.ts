import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CaptureError } from './capture-error.ts';
import { type CapturedPacket, checkLinkType, LinkType, toEthernet } from './link-layer.ts';

const captured = (linkType: LinkType, bytes: readonly number[], originalLength = bytes.length): CapturedPacket => ({
  bytes: Uint8Array.from(bytes),
  timestampNs: 7n,
  originalLength,
  linkType,
  interfaceIndex: 3,
});
const made = (type: number, payload: readonly number[]): Uint8Array =>
  Uint8Array.of(...new Array<number>(12).fill(0), type >> 8, type & 255, ...payload);
const cooked = (hardware: number, protocol: number, payload: readonly number[]): number[] => [
  ...[0, 4, hardware >> 8, hardware & 255, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0],
  ...[protocol >> 8, protocol & 255, ...payload],
];
const cooked2 = (hardware: number, protocol: number, payload: readonly number[]): number[] => [
  ...[protocol >> 8, protocol & 255, 0, 0, 0, 0, 0, 9, hardware >> 8, hardware & 255, 4, 6],
  ...[1, 2, 3, 4, 5, 6, 0, 0, ...payload],
];
const v4 = [0x45, 0, 0, 20];
const v6 = [0x60, 1, 2];

describe('toEthernet', () => {
  const frames: readonly [what: string, linkType: LinkType, bytes: readonly number[], frame: Uint8Array][] = [
    ['raw IPv4', LinkType.raw, v4, made(0x0800, v4)],
    ['raw IPv6', LinkType.raw, v6, made(0x86dd, v6)],
    ['raw IPv4 of number 12', LinkType.rawBsd, v4, made(0x0800, v4)],
    ['raw IPv6 of number 14', LinkType.rawOpenBsd, v6, made(0x86dd, v6)],
    ['IPv4, whatever its version says', LinkType.ipv4, [0], made(0x0800, [0])],
    ['IPv6, whatever its version says', LinkType.ipv6, [], made(0x86dd, [])],
    ['cooked IPv4', LinkType.linuxCooked, cooked(1, 0x0800, v4), made(0x0800, v4)],
    ['cooked ARP', LinkType.linuxCooked, cooked(1, 0x0806, [0, 1]), made(0x0806, [0, 1])],
    ['cooked GRE', LinkType.linuxCooked, cooked(778, 0x86dd, v6), made(0x86dd, v6)],
    ['cooked LLC', LinkType.linuxCooked, cooked(1, 4, [0x42, 0x42, 3]), made(3, [0x42, 0x42, 3])],
    ['cooked Novell 802.3', LinkType.linuxCooked, cooked(1, 1, [0xff, 0xff]), made(2, [0xff, 0xff])],
    ['cooked v2 IPv6', LinkType.linuxCooked2, cooked2(772, 0x86dd, v6), made(0x86dd, v6)],
    ['cooked v2 LLC', LinkType.linuxCooked2, cooked2(1, 4, [0xaa]), made(1, [0xaa])],
    ['null IPv4, little-endian', LinkType.null, [2, 0, 0, 0, ...v4], made(0x0800, v4)],
    ['null IPv4, big-endian', LinkType.null, [0, 0, 0, 2, ...v4], made(0x0800, v4)],
    ['null IPv6 of Linux', LinkType.null, [10, 0, 0, 0, ...v6], made(0x86dd, v6)],
    ['null IPv6 of NetBSD', LinkType.null, [0, 0, 0, 24, ...v6], made(0x86dd, v6)],
    ['null IPv6 of FreeBSD', LinkType.null, [28, 0, 0, 0, ...v6], made(0x86dd, v6)],
    ['loopback IPv6 of Darwin', LinkType.loopback, [0, 0, 0, 30, ...v6], made(0x86dd, v6)],
  ];
  for (const [what, linkType, bytes, frame] of frames) {
    it(`frames ${what}`, () => {
      const header = bytes.length - (frame.length - 14);
      expect(toEthernet(captured(linkType, bytes, bytes.length))).toEqual({
        bytes: frame,
        timestampNs: 7n,
        originalLength: bytes.length - header + 14,
        linkType: LinkType.ethernet,
        interfaceIndex: 3,
      });
    });
  }

  it('keeps what was not captured in the original length', () => {
    expect(toEthernet(captured(LinkType.linuxCooked, cooked(1, 0x0800, v4), 1516))?.originalLength).toBe(1514);
    expect(toEthernet(captured(LinkType.linuxCooked2, cooked2(1, 4, [0xaa]), 120))?.bytes.subarray(12)).toEqual(
      Uint8Array.of(0, 100, 0xaa),
    );
  });

  it('gives Ethernet frames as they are', () => {
    const packet = captured(LinkType.ethernet, [1, 2, 3]);
    expect(toEthernet(packet)).toBe(packet);
  });

  const foreign: readonly [what: string, linkType: LinkType, bytes: readonly number[]][] = [
    ['a raw packet without a byte', LinkType.raw, []],
    ['a raw packet of another version', LinkType.raw, [0x51, 2]],
    ['a cut cooked header', LinkType.linuxCooked, cooked(1, 0x0800, []).slice(0, 15)],
    ['a cut cooked v2 header', LinkType.linuxCooked2, cooked2(1, 0x0800, []).slice(0, 19)],
    ['a cut family', LinkType.null, [2, 0, 0]],
    ['a family that is no IP', LinkType.null, [7, 0, 0, 0, ...v4]],
    ['a family beyond 16 bits', LinkType.loopback, [0, 2, 0, 2, ...v4]],
    ['netlink', LinkType.linuxCooked, cooked(824, 0x0800, v4)],
    ['802.11 with radiotap', LinkType.linuxCooked2, cooked2(803, 0x0800, v4)],
    ['a CAN frame', LinkType.linuxCooked, cooked(280, 12, [1])],
  ];
  for (const [what, linkType, bytes] of foreign) {
    it(`has no frame for ${what}`, () => expect(toEthernet(captured(linkType, bytes))).toBeUndefined());
  }

  it('makes whole frames of whatever comes', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.values(LinkType)),
        fc.uint8Array({ maxLength: 40 }),
        fc.nat(2000),
        (linkType, bytes, beyond) => {
          const packet = { ...captured(linkType, []), bytes, originalLength: bytes.length + beyond };
          const frame = toEthernet(packet);
          if (frame === undefined) return;
          expect(frame.linkType).toBe(LinkType.ethernet);
          expect(frame.originalLength - frame.bytes.length).toBe(beyond);
          if (frame !== packet) expect(frame.bytes.subarray(14)).toEqual(bytes.subarray(bytes.length - frame.bytes.length + 14));
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('checkLinkType', () => {
  it('takes those of the list and refuses others with the place', () => {
    expect(checkLinkType(276, { offset: 0, record: 1 }, 'here')).toBe(LinkType.linuxCooked2);
    const refuse = (): unknown => checkLinkType(127, { offset: 40, record: 2 }, 'here');
    expect(refuse).toThrow(CaptureError);
    expect(refuse).toThrow('here: link type 127, expected one of 0, 1, 12, 14, 101, 108, 113, 228, 229, 276');
    expect(refuse).toThrow(expect.objectContaining({ offset: 40, record: 2, code: 'capture' }));
  });
});

/**
 * The third stage: puts an IPv4 packet into an outer IPv4 header (IP in IP, RFC 2003) and sends it to its real, which
 * answers the client directly. Where the real or the packet is IPv6, encap6.ts and encap6in4.ts do the same.
 */
import { Ethernet, Ipv4, stage, u16 } from '@tailrace/stage';
import { type Real, tables } from './tables.ts';

const { reals, realTraffic } = tables;

/** Bytes that encapsulation adds: an outer IPv4 header. */
export const OUTER_BYTES = 20;
/** Bytes that encapsulation for a real with an IPv6 address adds. */
export const OUTER_BYTES6 = 40;
/** The largest packet that is sent on unless said otherwise: Ethernet's, with the outer header, without the frame's. */
export const DEFAULT_MTU = 1_500;

/**
 * The outer header has the inner one's type of service (RFC 2003, section 3.1; RFC 6040 compatibility mode keeps ECN)
 * and forbids fragments, so that its id may stay 0 (RFC 6864, section 4.1). The inner packet is not changed.
 *
 * Exits: `over6`, packets for a real whose address is IPv6; `tooBig`, packets that do not fit behind the outer header;
 * `tagged`, frames with VLAN tags. Writes `fits` for what is too big, the bytes that do fit.
 */
export const encap = stage({
  name: 'encap',
  hook: 'xdp',
  uses: { reals, realTraffic, Ethernet, Ipv4 },
  reads: { real: u16 },
  writes: { fits: u16 },
  program(ctx, { reals, realTraffic, Ethernet, Ipv4 }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.drop('malformed');
    if (ctx.offsetOf(ip) !== 14) return ctx.exit('tagged');
    const place = ctx.meta.real;
    const real = reals.lookup(place);
    if (!real) return ctx.drop('noReal');
    const fits = real.fits;
    // one test for both: nothing fits an outer IPv4 header that there is none of
    if (ip.totalLength > fits) {
      if (fits === 0) return ctx.exit('over6');
      ctx.meta.fits = fits;
      return ctx.exit('tooBig');
    }
    const traffic = realTraffic.lookup(place);
    if (traffic) {
      traffic.packets += 1n;
      traffic.bytes += BigInt(ctx.length);
    }
    if (!ctx.adjustHead(-20)) return ctx.drop('noRoom');
    // what is needed of the packet is read behind the call, so that nothing has to be kept over it
    const frame = ctx.ethernet();
    const outer = ctx.at(Ipv4, 14);
    const eth = ctx.at(Ethernet, 20);
    const inner = ctx.at(Ipv4, 34);
    if (!frame || !outer || !eth || !inner) return ctx.drop('malformed');
    // the old header lies where the outer one goes: it is read first
    const received = eth.dst;
    const ifindex = real.ifindex;
    frame.dst = real.hop;
    frame.src = received;
    if (ifindex !== 0) frame.src = real.own;
    frame.etherType = 0x0800;
    const tos = inner.tos;
    const length = inner.totalLength + 20;
    outer.versionIhl = 0x45;
    outer.tos = tos;
    outer.totalLength = length;
    outer.id = 0;
    outer.flagsFragment = 0x4000;
    outer.ttl = 64;
    outer.protocol = 4;
    let sum = real.seed + tos + length;
    sum = (sum & 0xffff) + (sum >>> 16);
    sum = (sum & 0xffff) + (sum >>> 16);
    outer.checksum = sum ^ 0xffff;
    outer.saddr = real.source;
    outer.daddr = real.address;
    if (ifindex === 0) return ctx.tx();
    return ctx.redirect(ifindex);
  },
});

/** `Real.seed` for these addresses: the constant words of the outer header, as `encap` writes them. */
export function checksumSeed({ source, address }: Pick<RealValue, 'source' | 'address'>): number {
  const words = [0x4500, 0x4000, (64 << 8) | 4, source >>> 16, source & 0xffff, address >>> 16, address & 0xffff];
  let sum = words.reduce((total, word) => total + word, 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
type RealValue = import('@tailrace/stage').Infer<typeof Real>;

/**
 * The demo's network: a client, a load balancer and three reals, each a network namespace of its own.
 *
 *     client 10.0.0.2 ── 10.0.0.1 lb 10.1.N.1 ── 10.1.N.2 realN
 *        └───────────── 10.2.N.1 ── 10.2.N.2 ───────┘        answers go straight back: direct server return
 *
 * Only the balancer's own address, 10.0.0.1, is reached over it: full NAT brings its answers there.
 */
import { topology } from '@tailrace/testing';

export const VIP = '10.9.9.9';
/** The same over IPv6, in traffic.pcap. */
export const VIP6 = 'fd00:9::9';
export const TCP_PORT = 80;
export const UDP_PORT = 5_300;
export const REALS = ['real1', 'real2', 'real3'] as const;
export type RealName = (typeof REALS)[number];

/** The address at which the balancer reaches a real. */
export const addressOf = (real: RealName): string => `10.1.${REALS.indexOf(real) + 1}.2`;

export function demoNetwork() {
  const toReal = (real: RealName, n: number) =>
    ({
      ends: [
        { host: 'lb', interface: real, addresses: [`10.1.${n}.1/24`], xdp: true },
        // a veth takes redirected frames only where it runs XDP itself or has GRO
        { host: real, interface: 'lb', addresses: [`10.1.${n}.2/24`], xdp: true, offloads: { gro: true } },
      ],
    }) as const;
  const back = (real: RealName, n: number) =>
    ({
      ends: [
        { host: real, interface: 'client', addresses: [`10.2.${n}.2/24`] },
        { host: 'client', interface: real, addresses: [`10.2.${n}.1/24`] },
      ],
    }) as const;
  const real = (n: number) => ({
    loopback: [`${VIP}/32`],
    routes: [
      { to: '10.0.0.0/24', via: `10.2.${n}.1` },
      { to: '10.0.0.1/32', via: `10.1.${n}.1` },
    ],
    sysctls: { 'net/ipv4/conf/all/rp_filter': 0, 'net/ipv4/conf/default/rp_filter': 0 },
  });
  return topology({
    hosts: {
      client: {
        routes: [{ to: `${VIP}/32`, via: '10.0.0.1' }],
        sysctls: { 'net/ipv4/conf/all/rp_filter': 0, 'net/ipv4/conf/default/rp_filter': 0 },
      },
      lb: { forwarding: true },
      real1: real(1),
      real2: real(2),
      real3: real(3),
    },
    links: [
      {
        ends: [
          { host: 'client', interface: 'lb', addresses: ['10.0.0.2/24'] },
          { host: 'lb', interface: 'client', addresses: ['10.0.0.1/24'], xdp: true },
        ],
      },
      ...REALS.flatMap((name, i) => [toReal(name, i + 1), back(name, i + 1)]),
    ],
  });
}

export type DemoNetwork = Awaited<ReturnType<typeof demoNetwork>>;

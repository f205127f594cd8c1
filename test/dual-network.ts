/**
 * The network that tests of both families run on: a client, a balancer, a router and three reals, each a namespace of its
 * own, every link with IPv4 and IPv6.
 *
 *     client ── lb ── realN ── router ── client     answers go straight back, over a router whose link is narrower
 *                └─────────────┘                    and which reaches the vips over the balancer, as the client does
 */

import { decap } from '@tailrace/functions/decap';
import { NextHops, type RealOptions } from '@tailrace/functions/l4lb';
import { topology } from '@tailrace/testing';
import { kernel, kernelNextHops, override, pipeline } from 'tailrace';

export type Family = 4 | 6;
export const VIP = { 4: '10.9.9.9', 6: 'fd00:9::9' } as const;
export const TCP_PORT = 80;
export const UDP_PORT = 5_300;
export const SOURCE = { ipv4: '10.0.0.1', ipv6: 'fd00::1' } as const;
/** The largest packet on the way from the router to the client; elsewhere 1,500 bytes fit. */
export const NARROW = 1_400;
export const REALS = ['real1', 'real2', 'real3'] as const;
export type RealName = (typeof REALS)[number];

/** The address at which the balancer reaches a real. */
export function addressOf(name: RealName, family: Family): string {
  const n = REALS.indexOf(name) + 1;
  return family === 4 ? `10.1.${n}.2` : `fd00:1:${n}::2`;
}

/** The vip as it stands in a URL. */
export function urlOf(family: Family): string {
  return `http://${family === 4 ? VIP[4] : `[${VIP[6]}]`}:${TCP_PORT}`;
}

/** Vips of both families over TCP and UDP; UDP's reals are checked by their TCP port. */
export function vipsOf(reals: readonly RealOptions[]) {
  return ([4, 6] as const).flatMap((family) => [
    { address: VIP[family], port: TCP_PORT, protocol: 'tcp' as const, reals },
    { address: VIP[family], port: UDP_PORT, protocol: 'udp' as const, health: { port: TCP_PORT }, reals },
  ]);
}

/** A running network with an HTTP server, UDP echoes and a decapsulator on each real. */
export async function dualNetwork() {
  const stack = new AsyncDisposableStack();
  try {
    const network = stack.use(await bareNetwork());
    const { hosts } = network;
    const servers = new Map<RealName, Awaited<ReturnType<typeof hosts.lb.http>>>();
    for (const name of REALS) {
      servers.set(name, await hosts[name].http({ address: '::', port: TCP_PORT }));
      for (const family of [4, 6] as const) await hosts[name].udpEcho({ address: VIP[family], port: UDP_PORT, name });
      const inner = pipeline(`decap-${name}`, {
        xdp: [decap({ addresses: [addressOf(name, 4), addressOf(name, 6)], sources: [SOURCE.ipv4, SOURCE.ipv6] })],
      });
      stack.use(await inner.run(kernel({ interfaces: ['lb'], netns: hosts[name].namespace })));
    }
    const owned = stack.move();
    return {
      hosts,
      servers,
      /** The balancer's engine, where the client and the router reach it. */
      engine: () => kernel({ interfaces: ['client', 'router'], netns: hosts.lb.namespace }),
      /** Next hops from the balancer's own neighbours. */
      nextHops: override(NextHops, kernelNextHops({ netns: hosts.lb.namespace })),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } finally {
    await stack.disposeAsync();
  }
}

export type DualNetwork = Awaited<ReturnType<typeof dualNetwork>>;

function bareNetwork() {
  const links = REALS.flatMap((real, i) => {
    const n = i + 1;
    return [
      {
        ends: [
          { host: 'lb', interface: real, addresses: [`10.1.${n}.1/24`, `fd00:1:${n}::1/64`], xdp: true },
          { host: real, interface: 'lb', addresses: [`10.1.${n}.2/24`, `fd00:1:${n}::2/64`], xdp: true },
        ],
      },
      {
        ends: [
          { host: real, interface: 'router', addresses: [`10.2.${n}.2/24`, `fd00:2:${n}::2/64`] },
          { host: 'router', interface: real, addresses: [`10.2.${n}.1/24`, `fd00:2:${n}::1/64`] },
        ],
      },
    ] as const;
  });
  // Answers come another way than requests go; and a router that holds errors back would only make tests slow.
  const sysctls = {
    'net/ipv4/conf/all/rp_filter': 0,
    'net/ipv4/conf/default/rp_filter': 0,
    'net/ipv4/icmp_ratelimit': 0,
    'net/ipv6/icmp/ratelimit': 0,
  };
  const toVips = (via4: string, via6: string) => [
    { to: `${VIP[4]}/32`, via: via4 },
    { to: `${VIP[6]}/128`, via: via6 },
  ];
  const real = (n: number) => ({
    loopback: [`${VIP[4]}/32`, `${VIP[6]}/128`],
    routes: [
      { to: '10.0.0.0/24', via: `10.2.${n}.1` },
      { to: 'fd00::/64', via: `fd00:2:${n}::1` },
    ],
    sysctls,
  });
  return topology({
    hosts: {
      client: { routes: toVips('10.0.0.1', 'fd00::1'), sysctls },
      lb: { forwarding: true },
      router: {
        forwarding: true,
        routes: [...toVips('10.4.0.2', 'fd00:4::2'), { to: '10.0.0.2/32', via: '10.3.0.2' }, { to: 'fd00::2/128', via: 'fd00:3::2' }],
        sysctls,
      },
      real1: real(1),
      real2: real(2),
      real3: real(3),
    },
    links: [
      {
        ends: [
          { host: 'client', interface: 'lb', addresses: ['10.0.0.2/24', 'fd00::2/64'] },
          { host: 'lb', interface: 'client', addresses: ['10.0.0.1/24', 'fd00::1/64'], xdp: true },
        ],
      },
      {
        ends: [
          { host: 'router', interface: 'lb', addresses: ['10.4.0.1/24', 'fd00:4::1/64'] },
          { host: 'lb', interface: 'router', addresses: ['10.4.0.2/24', 'fd00:4::2/64'], xdp: true },
        ],
      },
      {
        ends: [
          { host: 'router', interface: 'client', addresses: ['10.3.0.1/24', 'fd00:3::1/64'] },
          { host: 'client', interface: 'router', addresses: ['10.3.0.2/24', 'fd00:3::2/64'] },
        ],
        mtu: NARROW,
      },
      ...links,
    ],
  });
}

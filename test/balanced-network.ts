/**
 * The network that the end-to-end tests run on: a client, a load balancer and four reals, each a namespace of its own,
 * over both families where packets reach the balancer itself.
 *
 *     client 10.0.0.2 ── 10.0.0.1 lb 10.1.N.1 ── 10.1.N.2 realN
 *        └───────────── 10.2.N.1 ── 10.2.N.2 ───────┘        answers go straight back: direct server return
 *
 * The client has three more addresses, which filters can tell apart: 10.0.0.66, fd00::2 and fd00:bad::2.
 */

import { decap } from '@tailrace/functions/decap';
import { type BalancerController, HealthChecker, type HealthTarget, NextHops } from '@tailrace/functions/l4lb';
import { type HttpAnswer, type HttpConnection, type HttpService, topology } from '@tailrace/testing';
import { BehaviorSubject, filter, firstValueFrom } from 'rxjs';
import { kernel, kernelNextHops, override, pipeline } from 'tailrace';

export const VIP = '10.9.9.9';
export const TCP_PORT = 80;
export const UDP_PORT = 5_300;
export const SOURCE = '10.0.0.1';
export const REALS = ['real1', 'real2', 'real3', 'real4'] as const;
export type RealName = (typeof REALS)[number];

/** The address at which the balancer reaches a real. */
export function addressOf(name: RealName): string {
  return `10.1.${REALS.indexOf(name) + 1}.2`;
}

/** Reals of a configuration. */
export function realsOf(...names: readonly RealName[]): { readonly address: string }[] {
  return names.map((name) => ({ address: addressOf(name) }));
}

/** Vips over TCP and UDP; UDP's reals are checked by their TCP port. */
export function vipsOf(...names: readonly RealName[]) {
  return [
    { address: VIP, port: TCP_PORT, protocol: 'tcp', reals: realsOf(...names) },
    { address: VIP, port: UDP_PORT, protocol: 'udp', reals: realsOf(...names), health: { port: TCP_PORT } },
  ] as const;
}

/** A running network with an HTTP server, a UDP echo and a decapsulator on each real. */
export async function balancedNetwork() {
  const stack = new AsyncDisposableStack();
  try {
    const network = stack.use(await bareNetwork());
    const { hosts } = network;
    const servers = new Map<RealName, HttpService>();
    for (const name of REALS) {
      servers.set(name, await hosts[name].http({ port: TCP_PORT }));
      await hosts[name].udpEcho({ address: VIP, port: UDP_PORT, name });
      const inner = pipeline(`decap-${name}`, { xdp: [decap({ addresses: [addressOf(name)] })] });
      stack.use(await inner.run(kernel({ interfaces: ['lb'], netns: hosts[name].namespace })));
    }
    const owned = stack.move();
    return {
      hosts,
      servers,
      /** The balancer's engine, on the interface to the client unless said otherwise. */
      engine: (interfaces: readonly string[] = ['client']) => kernel({ interfaces, netns: hosts.lb.namespace }),
      /** Next hops from the balancer's own neighbours. */
      nextHops: override(NextHops, kernelNextHops({ netns: hosts.lb.namespace })),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } finally {
    await stack.disposeAsync();
  }
}

export type BalancedNetwork = Awaited<ReturnType<typeof balancedNetwork>>;
export type ClientHost = BalancedNetwork['hosts']['client'];

/** Health as the test says it is: everybody is well until told otherwise. */
export class ToldHealth implements HealthChecker {
  readonly #targets = new Map<string, BehaviorSubject<boolean>>();

  watch({ address }: HealthTarget): BehaviorSubject<boolean> {
    const known = this.#targets.get(address) ?? new BehaviorSubject(true);
    this.#targets.set(address, known);
    return known;
  }

  set(name: RealName, well: boolean): void {
    this.watch({ address: addressOf(name), port: TCP_PORT }).next(well);
  }

  /** For the services of a pipeline. */
  get service() {
    return override(HealthChecker, this);
  }
}

/** Resolves once exactly these reals have slots, in the rings of all vips. Throws what the controller's stream throws. */
export async function slotsAt(controller: BalancerController, ...names: readonly RealName[]): Promise<void> {
  const wanted = names.map(addressOf).sort().join();
  const withSlots = (reals: readonly { readonly address: string; readonly slots: number }[]): string =>
    reals
      .filter(({ slots }) => slots > 0)
      .map(({ address }) => address)
      .sort()
      .join();
  await firstValueFrom(controller.state$.pipe(filter((vips) => vips.every(({ reals }) => withSlots(reals) === wanted))));
}

/** One request to the vip over a connection of its own. */
export function request(client: ClientHost, timeoutMs = 3_000): Promise<HttpAnswer> {
  return client.request(`http://${VIP}:${TCP_PORT}/`, { timeoutMs });
}

/** How often each real answered, over `total` connections of their own, eight at a time. Throws what any of them throws. */
export async function requests(client: ClientHost, total: number): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  let left = total;
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      const { name = '?' } = await request(client);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return counts;
}

/** Connections to the vip that stay open, each with the real that it is at. */
export async function connections(
  client: ClientHost,
  count: number,
): Promise<{ readonly connection: HttpConnection; readonly real: string }[]> {
  const open = [];
  for (let i = 0; i < count; i++) {
    const connection = await client.connectHttp(`http://${VIP}:${TCP_PORT}/`);
    const { name = '?' } = await connection.request('/');
    open.push({ connection, real: name });
  }
  return open;
}

function bareNetwork() {
  const links = REALS.flatMap((real, i) => {
    const n = i + 1;
    return [
      {
        ends: [
          { host: 'lb', interface: real, addresses: [`10.1.${n}.1/24`], xdp: true },
          { host: real, interface: 'lb', addresses: [`10.1.${n}.2/24`], xdp: true },
        ],
      },
      {
        ends: [
          { host: real, interface: 'client', addresses: [`10.2.${n}.2/24`] },
          { host: 'client', interface: real, addresses: [`10.2.${n}.1/24`] },
        ],
      },
    ] as const;
  });
  // Answers come back another way than requests went.
  const sysctls = { 'net/ipv4/conf/all/rp_filter': 0, 'net/ipv4/conf/default/rp_filter': 0 };
  const real = (n: number) => ({ loopback: [`${VIP}/32`], routes: [{ to: '10.0.0.0/24', via: `10.2.${n}.1` }], sysctls });
  return topology({
    hosts: {
      client: { routes: [{ to: `${VIP}/32`, via: SOURCE }], sysctls },
      lb: { forwarding: true },
      real1: real(1),
      real2: real(2),
      real3: real(3),
      real4: real(4),
    },
    links: [
      {
        ends: [
          { host: 'client', interface: 'lb', addresses: ['10.0.0.2/24', '10.0.0.66/24', 'fd00::2/64', 'fd00:bad::2/64'] },
          { host: 'lb', interface: 'client', addresses: [`${SOURCE}/24`, 'fd00::1/64', 'fd00:bad::1/64'], xdp: true },
        ],
      },
      ...links,
    ],
  });
}

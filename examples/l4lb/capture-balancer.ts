/**
 * The balancer that the demo runs on a capture: the demo's own, over both families, with what the kernel would tell it given:
 * next hops as they are in the demo's network, and the health of reals as it is set here.
 */
import type { Engine } from '@tailrace/bpf';
import { givenNextHops, HealthChecker, type HealthTarget, l4lb, NextHops } from '@tailrace/functions/l4lb';
import { BehaviorSubject } from 'rxjs';
import { override, pipeline, type RunOptions } from 'tailrace';
import { addressOf, REALS, type RealName, TCP_PORT, UDP_PORT, VIP, VIP6 } from './network.ts';

/** What comes in at the interface to the client, as record.ts has recorded it. */
export const TRAFFIC = new URL('traffic.pcap', import.meta.url);

/** Health as it is set: all are well at first. */
export class GivenHealth implements HealthChecker {
  readonly #states = new Map(REALS.map((name) => [addressOf(name), new BehaviorSubject(true)]));

  /** Nothing ever, for targets that are no reals. */
  watch({ address }: HealthTarget): BehaviorSubject<boolean> {
    const state = this.#states.get(address) ?? new BehaviorSubject(false);
    this.#states.set(address, state);
    return state;
  }

  set(name: RealName, well: boolean): void {
    this.#states.get(addressOf(name))?.next(well);
  }
}

/** Declares the balancer, and a pipeline of nothing else. */
export function captureBalancer() {
  const reals = REALS.map((name) => ({ address: addressOf(name) }));
  const balancer = l4lb({
    source: '10.0.0.1',
    vips: [VIP, VIP6].flatMap((address) => [
      { address, port: TCP_PORT, protocol: 'tcp', reals } as const,
      { address, port: UDP_PORT, protocol: 'udp', reals, health: { port: TCP_PORT } } as const,
    ]),
  }).on({ notVip: 'next' });
  return { balancer, edge: pipeline('edge', { xdp: [balancer] }) };
}

/** Runs it in an engine; `services` replace more than health and next hops. Throws what `pipeline.run` throws. */
export async function runCaptureBalancer(
  engine: Engine,
  { balancer, edge }: ReturnType<typeof captureBalancer> = captureBalancer(),
  services: NonNullable<RunOptions['services']> = [],
) {
  const health = new GivenHealth();
  const running = await edge.run(engine, {
    services: [override(HealthChecker, health), override(NextHops, givenNextHops(nextHops())), ...services],
  });
  return { running, balancer, health, [Symbol.asyncDispose]: () => running.stop() };
}

/** A running balancer. */
export type CaptureBalancer = Awaited<ReturnType<typeof runCaptureBalancer>>;

/** By the topology's rule for MAC addresses and indexes of interfaces: the link to a real is every second one from the second on. */
function nextHops() {
  const hops = REALS.map((name, i) => {
    const link = 2 * (i + 1);
    const mac = (end: 1 | 2): string => `02:00:00:00:${String(link).padStart(2, '0')}:0${end}`;
    return [addressOf(name), { mac: mac(2), egress: { ifindex: 10 * link + 1, mac: mac(1) } }] as const;
  });
  return Object.fromEntries(hops);
}

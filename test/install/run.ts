/** Runs the pipeline in the kernel, off the wire: once as it is, once with the ports out of another service. */
import { packet } from '@tailrace/testing';
import { PortSource } from 'gate';
import { BehaviorSubject } from 'rxjs';
import { kernel, type Override, override } from 'tailrace';
import { edge, filter, minTtl, ports } from './edge.ts';

const to = (dport: number, ipv4: { saddr?: string; ttl?: number } = {}): Uint8Array => packet().ipv4(ipv4).tcp({ dport }).bytes();

async function verdicts(services: readonly Override[], between = () => {}): Promise<string> {
  await using running = await edge.run(kernel({ interfaces: [] }), { services });
  const verdictOf = async (frame: Uint8Array): Promise<string> => (await running.run(frame)).verdict;
  const seen = [await verdictOf(to(80)), await verdictOf(to(8080))];
  between();
  seen.push(await verdictOf(to(9090)), await verdictOf(to(80, { ttl: 1 })), await verdictOf(to(80, { saddr: '203.0.113.7' })));
  const [blocked] = running.controller(filter).hits();
  const { exits } = running.stats().xdp[minTtl.name];
  const hits = Object.entries(running.controller(ports).hits).map(([port, count]) => `${port}:${count}`);
  return `${seen.join(' ')} | hits ${hits.join(' ')} | expired ${exits.expired} | ${blocked?.prefix} ${blocked?.packets}`;
}

console.log('default', await verdicts([]));
const ports$ = new BehaviorSubject([8080]);
const rebound = await verdicts([override(PortSource, { ports$ })], () => ports$.next([8080, 9090]));
console.log('rebound', rebound, ports$.observed);

/** A policy that starts over the maps of another, as behind a crash: what packets meet meanwhile, and what comes of it. */
import { packet } from '@tailrace/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { simulatedPolicy } from './fixture.ts';
import type { PolicyEndpoint, PolicyRule } from './index.ts';

const PEER = '192.0.2.1';
const web: PolicyEndpoint = {
  name: 'web',
  address: ['10.0.0.5', '2001:db8::5'],
  rules: [
    { direction: 'ingress', protocol: 'tcp', ports: [80, [8000, 8099]] },
    { direction: 'ingress', peer: ['192.0.2.0/24', '2001:db8:1::/48'], protocol: 'udp', ports: 53 },
    { direction: 'egress', protocol: 'udp' },
  ],
};
const mail: PolicyEndpoint = { name: 'mail', address: '10.0.0.6', rules: [{ direction: 'ingress', protocol: 'tcp', ports: 25 }] };

const syn = (dport: number, daddr = '10.0.0.5', sport = 40_000) => packet().ipv4({ saddr: PEER, daddr }).tcp({ sport, dport, syn: true });
const data = (dport: number, daddr = '10.0.0.5') => packet().ipv4({ saddr: PEER, daddr }).tcp({ sport: 40_000, dport, ack: true });

type Simulated = ReturnType<typeof simulatedPolicy>;
const sizes = ({ needs: { peers4, peers6, ports, endpoints4, endpoints6, scopes } }: Simulated) => [
  ...[peers4, peers6, ports, endpoints4, endpoints6].map((map) => map.getAll().length),
  scopes.getAll().filter(([, scope]) => scope !== 0).length,
];

/** The handles, with a look between any two calls. */
function watched(needs: Simulated['needs'], onCall: () => void): Partial<Simulated['needs']> {
  const watch = <H extends object>(handle: H): H =>
    new Proxy(handle, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]): unknown => {
          const result: unknown = value.apply(target, args);
          if (/^(set|delete)/.test(String(name))) onCall();
          return result;
        };
      },
    });
  const { endpoints4, endpoints6, scopes, peers4, peers6, ports, flows } = needs;
  return {
    endpoints4: watch(endpoints4),
    endpoints6: watch(endpoints6),
    scopes: watch(scopes),
    peers4: watch(peers4),
    peers6: watch(peers6),
    ports: watch(ports),
    flows: watch(flows),
  };
}

describe('a policy that is started again', () => {
  it('leaves rules as they are that did not change, in the room that they have, and counts on', async () => {
    const policy = simulatedPolicy([web, mail], { maxPeers: 5, maxPorts: 20 });
    expect(policy.send('in', syn(80))).toBe('next');
    const before = policy.needs.ports.getAll();
    const again = policy.start([mail, { ...web, name: 'www' }]);
    await again.settled();
    expect(policy.needs.ports.getAll()).toEqual(before);
    expect(policy.send('in', data(80))).toBe('next');
    expect(again.rules().map(({ endpoint, packets }) => [endpoint, packets])).toEqual([
      ['mail', 0n],
      ['www', 2n],
      ['www', 0n],
      ['www', 0n],
    ]);
    expect(again.flows()).toMatchObject([{ endpoint: 'www' }]);
    again.set({ ...web, name: 'www', rules: [] });
    expect(policy.send('in', syn(80, '10.0.0.5', 1))).toBe('denied');
  });

  it('takes rules, endpoints and addresses out that are gone, and keeps flows of those that stay', async () => {
    const policy = simulatedPolicy([web, mail]);
    policy.send('in', syn(80));
    policy.send('in', syn(25, '10.0.0.6'));
    const again = policy.start([{ name: 'web', address: '10.0.0.5', rules: [{ direction: 'ingress', protocol: 'tcp', ports: 443 }] }]);
    expect(policy.send('in', data(80))).toBe('next');
    expect(policy.send('in', syn(80, '10.0.0.5', 1))).toBe('denied');
    expect(policy.send('in', syn(443))).toBe('next');
    expect(policy.send('in', data(25, '10.0.0.6'))).toBe('denied');
    expect(policy.send('in', syn(25, '10.0.0.6', 1))).toBe('denied');
    await again.settled();
    expect(sizes(policy)).toEqual([1, 1, 1, 1, 0, 1]);
    expect(again.rules()).toMatchObject([{ packets: 1n }]);
  });

  it('ends what has no rules any more', async () => {
    const policy = simulatedPolicy([web]);
    const again = policy.start([{ ...web, rules: [] }]);
    expect(policy.send('in', syn(80))).toBe('denied');
    await again.settled();
    expect(sizes(policy)).toEqual([0, 0, 0, 1, 1, 1]);
  });

  it('removes what a process had half made', async () => {
    const policy = simulatedPolicy([mail]);
    const whole = sizes(policy);
    let calls = 0;
    const dying = watched(policy.needs, () => {
      calls += 1;
      if (calls === 3) throw new RangeError('killed');
    });
    expect(() => policy.start([mail, web], dying)).toThrow('killed');
    await policy.start([mail]).settled();
    expect(sizes(policy)).toEqual(whole);
    expect(policy.send('in', syn(80))).toBe('denied');
  });

  it('decides every packet by the old rules or the new ones, and ends as one that began', async () => {
    const ports = [80, 81, 443];
    const hosts = ['10.0.0.5', '10.0.0.6', '10.0.0.7'];
    const rule = fc.record({
      direction: fc.constant<'ingress'>('ingress'),
      peer: fc.constantFrom('0.0.0.0/0', '192.0.2.0/24', '198.51.100.0/24'),
      protocol: fc.constant<'tcp'>('tcp'),
      ports: fc.constantFrom(...ports),
    }) satisfies fc.Arbitrary<PolicyRule>;
    const config = fc.uniqueArray(fc.record({ address: fc.constantFrom(...hosts), rules: fc.array(rule, { maxLength: 3 }) }), {
      selector: ({ address }) => address,
    });
    const decided = (policy: Simulated, host: string, port: number): string => {
      const verdict = policy.send('in', syn(port, host, 7));
      policy.needs.flows.deleteMany(policy.needs.flows.getAll().map(([key]) => key));
      return verdict;
    };
    const each = <T>(make: (host: string, port: number) => T): T[] => hosts.flatMap((host) => ports.map((port) => make(host, port)));
    await fc.assert(
      fc.asyncProperty(config, config, async (first, second) => {
        const [policy, fresh] = [simulatedPolicy(first), simulatedPolicy(second)];
        const [before, after] = [policy, fresh].map((one) => each((host, port) => decided(one, host, port)));
        const check = (): void => {
          for (const [i, verdict] of each((host, port) => decided(policy, host, port)).entries())
            expect([before?.[i], after?.[i]]).toContain(verdict);
        };
        const again = policy.start(second, watched(policy.needs, check));
        expect(each((host, port) => decided(policy, host, port))).toEqual(after);
        await again.settled();
        expect(each((host, port) => decided(policy, host, port))).toEqual(after);
        expect(sizes(policy)).toEqual(sizes(fresh));
      }),
      { numRuns: 20, interruptAfterTimeLimit: 20_000 },
    );
  }, 40_000);
});

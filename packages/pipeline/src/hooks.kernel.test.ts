/** One pipeline at all three hooks of an interface: real packets, metadata from XDP to TC ingress, swaps at both directions. */
import { createSocket } from 'node:dgram';
import { bindUdp, kernel, type NetworkNamespace, Rtnetlink } from '@tailrace/kernel';
import { stage } from '@tailrace/stage';
import { quietNamespace } from '@tailrace/testing';
import { expect, test } from 'vitest';
import { count, edge, hooksSuite, tenants, totals } from './hooks.suite.ts';

/** Two namespaces joined by a veth: `near` has the interface under test. */
class Wire implements Disposable {
  readonly near = quietNamespace();
  readonly far = quietNamespace();

  constructor() {
    using route = new Rtnetlink(this.near);
    route.createVeth({ name: 'near0' }, { name: 'far0', namespace: this.far });
    using other = new Rtnetlink(this.far);
    route.change('near0', { up: true });
    other.change('far0', { up: true });
    route.addAddress('near0', '10.7.0.1/24');
    other.addAddress('far0', '10.7.0.2/24');
  }

  /** Sends datagrams from far to near and back: an echo at `port`. Returns how many came back. */
  async echo(port: number, count: number, waitMs = 2000): Promise<number> {
    const [server, client] = await Promise.all([socketIn(this.near, '10.7.0.1', port), socketIn(this.far, '10.7.0.2', 0)]);
    try {
      server.on('message', (message, from) => server.send(message, from.port, from.address));
      let answers = 0;
      const all = new Promise<void>((resolve) => client.on('message', () => void (++answers === count && resolve())));
      for (let i = 0; i < count; i++) client.send(new Uint8Array(100), port, '10.7.0.1');
      const timer = Promise.withResolvers<void>();
      const alarm = setTimeout(timer.resolve, waitMs);
      await Promise.race([all, timer.promise]);
      clearTimeout(alarm);
      return answers;
    } finally {
      server.close();
      client.close();
    }
  }

  [Symbol.dispose](): void {
    this.near.close();
    this.far.close();
  }
}

async function socketIn(namespace: NetworkNamespace, address: string, port: number) {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind({ fd: bindUdp(namespace, address, port) }, resolve));
  return socket;
}

test.each(['tcx', 'clsact'] as const)('real packets at all three hooks, by %s', async (link) => {
  using wire = new Wire();
  await using running = await edge.run(kernel({ interfaces: ['near0'], netns: wire.near, tc: { link } }));
  running.map(tenants).set(4001, 0n);
  expect(await wire.echo(4001, 20)).toBe(20);
  expect(running.map(tenants).get(4001)).toBe(20n * 142n);
  const { xdp, tcIngress, tcEgress, roots } = running.stats();
  expect(xdp.classify.packets).toBeGreaterThanOrEqual(20n);
  expect(tcIngress.account.next).toBe(xdp.classify.packets);
  expect(tcIngress.count.packets).toBe(tcIngress.account.next);
  expect(tcEgress.count.packets).toBeGreaterThanOrEqual(20n);
  expect(running.map(totals).sum(0)?.packets).toBe(tcIngress.count.packets + tcEgress.count.packets);
  expect(roots.tcIngress).toEqual({ misses: 0n, withoutMetadata: 0n });
  // a tenant that nobody knows
  expect(await wire.echo(4002, 5, 300)).toBe(0);
  expect(running.stats().tcIngress.account.verdicts.drop).toBe(5n);
});

test('a stage that stands at both directions is replaced at both', async () => {
  using wire = new Wire();
  await using running = await edge.run(kernel({ interfaces: ['near0'], netns: wire.near }));
  running.map(tenants).set(4001, 0n);
  expect(await wire.echo(4001, 3)).toBe(3);
  const silent = stage({ name: 'silent', hook: 'tc', program: (ctx) => ctx.drop() });
  await running.replace(count, silent);
  const { chains } = running.describe();
  expect([chains.tcIngress, chains.tcEgress].map(({ stages }) => stages.at(-1)?.stage)).toEqual(['silent', 'silent']);
  expect(await wire.echo(4001, 3, 300)).toBe(0);
  await running.replace(count, count);
  expect(await wire.echo(4001, 3)).toBe(3);
  const { tcIngress } = running.stats();
  expect([tcIngress.account.misses, tcIngress.count.misses]).toEqual([0n, 0n]);
});

hooksSuite(kernel({ interfaces: [] }));

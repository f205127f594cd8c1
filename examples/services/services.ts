/**
 * A balancer with services of its own: health is asked over HTTP, time goes fifty times as fast, and what hash maps hold is kept in a
 * folder. Needs no privileges:
 *
 *     npx pnpm@12 exec node examples/services/services.ts
 */
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import { HealthChecker, l4lb, riseAndFall } from '@tailrace/functions/l4lb';
import { packet, parse } from '@tailrace/testing';
import { exhaustMap, filter, firstValueFrom, timer, VirtualAction, VirtualTimeScheduler } from 'rxjs';
import { be32, Clock, hash, ip, MapStore, override, pipeline, stage, u64, userspace } from 'tailrace';

/** A clock: any RxJS scheduler. Timers of streams, controllers and the checks below are due when its time has come. */
class FastClock extends VirtualTimeScheduler implements Disposable {
  readonly #ticks = setInterval(() => this.#pass(500), 10);

  constructor() {
    super(VirtualAction, 0);
  }

  #pass(ms: number): void {
    this.maxFrames += ms;
    this.flush();
    this.frame = this.maxFrames;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#ticks);
  }
}

/** A health checker: asks `GET /health` every second; two good answers in a row make a real well, three bad ones down. */
function httpHealth(clock: Clock): HealthChecker {
  const isWell = ({ address, port }: { address: string; port: number }): Promise<boolean> =>
    fetch(`http://${address}:${port}/health`).then(
      ({ ok }) => ok,
      () => false,
    );
  return {
    watch: (target, wasWell) =>
      timer(0, 1_000, clock).pipe(
        exhaustMap(() => isWell(target)),
        riseAndFall(2, 3, wasWell),
      ),
  };
}

/** A store: hash maps begin with what they held when they were closed last. */
function folderStore(folder: string): MapStore {
  const fileOf = (name: string): string => join(folder, encodeURIComponent(name));
  return {
    opened({ name, map, loaded, isNew }) {
      if (map.type === 'hash' && isNew && existsSync(fileOf(name))) loaded.updateBatch(deserialize(readFileSync(fileOf(name))));
    },
    closing({ name, map, loaded }) {
      if (map.type === 'hash') writeFileSync(fileOf(name), serialize(loaded.readAll()));
    },
  };
}

const clients = hash({ name: 'clients', key: be32, value: u64, maxEntries: 1_024 });
const count = stage({
  name: 'count',
  hook: 'xdp',
  uses: { clients },
  program(ctx, { clients }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    const known = clients.lookup(ip.saddr);
    if (known) known.value += 1n;
    else clients.update(ip.saddr, 1n);
    return ctx.next();
  },
});

const sick = new Set<string>();
const one = await serve('127.0.0.2', 0);
const two = await serve('127.0.0.3', one.port);
using clock = new FastClock();
const folder = mkdtempSync(join(tmpdir(), 'tailrace-maps-'));
try {
  for (const turn of ['first', 'second']) {
    const vip = { address: '198.51.100.1', port: one.port, protocol: 'tcp' } as const;
    const reals = [one, two].map(({ address }) => ({ address, nextHop: '02:00:00:00:00:01' }));
    const web = l4lb({ source: '127.0.0.1', vips: [{ ...vip, reals }] }).on({ notVip: 'next' });
    await using running = await pipeline('edge', { xdp: [count, web] }).run(userspace(), {
      services: [override(Clock, clock), override(HealthChecker, httpHealth(clock)), override(MapStore, folderStore(folder))],
    });
    const { state$ } = running.controller(web);
    const conditions = (...wanted: readonly string[]) =>
      firstValueFrom(state$.pipe(filter(([vip]) => vip?.reals.map(({ condition }) => condition).join() === wanted.join())));

    await conditions('active', 'active');
    const started = clock.now();
    sick.add(two.address);
    await conditions('active', 'down');
    const homes = new Set<unknown>();
    for (let sport = 1; sport <= 100; sport++) {
      const frame = packet().ipv4({ saddr: '192.0.2.7', daddr: vip.address }).tcp({ sport, dport: vip.port, syn: true }).bytes();
      homes.add(parse((await running.inject(frame)).packet)[1]?.fields.daddr);
    }
    sick.clear();
    console.log(`${turn} run: ${two.address} was sick for ${Math.round((clock.now() - started) / 1_000)} s, ${[...homes].join()} got all`);
    console.log(`192.0.2.7 has sent ${running.map(clients).get(ip('192.0.2.7'))} packets`);
  }
} finally {
  rmSync(folder, { recursive: true });
  for (const { server } of [one, two]) server.close();
}

async function serve(address: string, port: number) {
  const server = createServer((_, response) => response.writeHead(sick.has(address) ? 503 : 200).end()).listen(port, address);
  await once(server, 'listening');
  return { address, server, port: (server.address() as AddressInfo).port };
}

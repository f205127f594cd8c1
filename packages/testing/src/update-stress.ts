/**
 * Updates of a whole pipeline under real traffic: numbered datagrams cross XDP and TC ingress of an interface, are echoed, and leave
 * through TC egress, while the pipeline becomes another one again and again. Every stage writes the generation that it belongs to
 * into the packet, so that a packet which comes back tells whether it met stages of two.
 */
import { setImmediate } from 'node:timers/promises';
import { kernel, PacketSocket } from '@tailrace/kernel';
import { pipeline, type Stats } from '@tailrace/pipeline';
import { be32, stage, struct, u32 } from '@tailrace/stage';
import { eventually } from './deadline.ts';
import { packet } from './packet.ts';
import { topology } from './topology.ts';

/** What came of a number of updates. */
export interface StressReport {
  readonly updates: number;
  /** Datagrams that were sent. */
  readonly packets: number;
  /** Datagrams that did not come back. */
  readonly lost: number;
  /** Tail calls that found no program, at stages and roots, and packets that reached TC ingress without what XDP sends. */
  readonly missed: number;
  /** Datagrams that met stages of two generations at one hook, or at XDP and TC ingress. */
  readonly mixed: number;
  /** Datagrams by the generation that they met at XDP, modulo `GENERATIONS`: all of them saw traffic. */
  readonly met: readonly number[];
}

/** How many pipelines take turns: compiled once, and no two neighbours alike. */
export const GENERATIONS = 6;
/** Datagrams that are under way at most: what the sockets hold with ease. */
const WINDOW = 24;
const BURST = 4;
/** Ethernet, IPv4, UDP. */
const HEADERS = 42;
const PORT = { client: 7001, server: 7002 } as const;

/** The payload: its number, and by hook who wrote into it. */
const stamp = struct({ number: be32, in: be32, out: be32, crossed: be32, guard: be32, last: be32, egress: be32, leaves: be32 });
const OFFSET = { number: 0, in: 4, out: 8, crossed: 12, guard: 16, last: 20, egress: 24, leaves: 28 } as const;

/** The pipeline of one generation: neighbours differ in stages, wiring and what crosses. */
function generationOf(generation: number) {
  const uses = { stamp, generation };
  const first = stage({
    name: 'first',
    hook: 'xdp',
    uses,
    writes: { generation: u32, extra: u32 },
    onMiss: 'drop',
    program(ctx, { stamp, generation }) {
      ctx.meta.generation = generation;
      ctx.meta.extra = generation;
      const at = ctx.udp() && ctx.at(stamp, 42);
      if (!at) return ctx.next();
      at.in = generation;
      return (at.number & 1) === 1 ? ctx.exit('odd') : ctx.next();
    },
  });
  const out = stage({
    name: 'out',
    hook: 'xdp',
    uses,
    onMiss: 'drop',
    program(ctx, { stamp, generation }) {
      const at = ctx.udp() && ctx.at(stamp, 42);
      if (at) at.out = generation;
      return ctx.next();
    },
  });
  const guard = stage({
    name: 'guard',
    hook: 'tcIngress',
    uses,
    reads: { generation: u32 },
    onMiss: 'drop',
    program(ctx, { stamp, generation }) {
      const at = ctx.udp() && ctx.at(stamp, 42);
      if (!at) return ctx.next();
      at.crossed = ctx.meta.generation;
      at.guard = generation;
      return ctx.next();
    },
  });
  const wide = stage({
    name: 'wide',
    hook: 'tcIngress',
    reads: { extra: u32 },
    onMiss: 'drop',
    program: (ctx) => (ctx.meta.extra === 0xffff ? ctx.drop() : ctx.next()),
  });
  const last = stage({
    name: 'last',
    hook: 'tcIngress',
    uses,
    onMiss: 'drop',
    program(ctx, { stamp, generation }) {
      const at = ctx.udp() && ctx.at(stamp, 42);
      if (at) at.last = generation;
      return ctx.next();
    },
  });
  const egress = stage({
    name: 'egress',
    hook: 'tcEgress',
    uses,
    onMiss: 'drop',
    program(ctx, { stamp, generation }) {
      const at = ctx.udp() && ctx.at(stamp, 42);
      if (at) at.egress = generation;
      return ctx.next();
    },
  });
  const leaves = stage({
    name: 'leaves',
    hook: 'tcEgress',
    uses,
    onMiss: 'drop',
    program(ctx, { stamp, generation }) {
      const at = ctx.udp() && ctx.at(stamp, 42);
      if (at) at.leaves = generation;
      return ctx.next();
    },
  });
  const spare = stage({ name: `spare${generation % 2}`, hook: 'xdp', onMiss: 'drop', program: (ctx) => ctx.next() });
  return pipeline('stress', {
    xdp: generation % 2 === 0 ? [first.on({ odd: 'next' }), out] : [first.on({ odd: [spare, 'next'] }), out],
    tcIngress: generation % 3 === 0 ? [guard, last] : [guard, wide, last],
    tcEgress: [egress, leaves],
  });
}

/** Makes so many updates under traffic. Needs root. `onUpdate` is told how many are done. */
export async function stressUpdates(updates: number, onUpdate: (done: number) => void = () => undefined): Promise<StressReport> {
  await using net = await topology({
    hosts: { client: {}, server: {} },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.1/24'] },
          { host: 'server', addresses: ['10.0.0.2/24'], xdp: true },
        ],
      },
    ],
  });
  const { client, server } = net.hosts;
  await using _echo = await server.udpEcho({ port: PORT.server });
  await using back = await client.udp({ port: PORT.client });
  // it only sends: what comes in there is told by the socket above, and too much to be kept
  using wire = new PacketSocket(client.namespace, 'server');
  const frame = packet()
    .ethernet({ src: client.mac('server'), dst: server.mac('client') })
    .ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' })
    .udp({ sport: PORT.client, dport: PORT.server })
    .payload(new Uint8Array(stamp.layout.size))
    .bytes();
  // stages write below the checksum: it is left out, as IPv4 allows
  const view = new DataView(frame.buffer, frame.byteOffset);
  view.setUint16(HEADERS - 2, 0);

  const missing = new Set<number>();
  const met = new Array<number>(GENERATIONS).fill(0);
  let [sent, mixed] = [0, 0];
  back.onDatagram(({ payload }) => {
    const fields = new DataView(payload.buffer, payload.byteOffset);
    const at = (field: keyof typeof OFFSET): number => fields.getUint32(OFFSET[field]);
    if (!missing.delete(at('number'))) return;
    const generation = at('in');
    met[generation - 1] = (met[generation - 1] ?? 0) + 1;
    const sameWayIn = (['out', 'crossed', 'guard', 'last'] as const).every((field) => at(field) === generation);
    if (!sameWayIn || at('egress') !== at('leaves')) mixed += 1;
  });

  const shapes = Array.from({ length: GENERATIONS }, (_, i) => generationOf(i + 1));
  const shape = (at: number): ReturnType<typeof generationOf> => shapes[at % GENERATIONS] as ReturnType<typeof generationOf>;
  await using running = await shape(0).run(kernel({ interfaces: ['client'], netns: server.namespace }));
  let going = true;
  const traffic = (async () => {
    while (going) {
      for (let i = 0; i < BURST && missing.size < WINDOW; i++) {
        view.setUint32(HEADERS, sent);
        missing.add(sent);
        sent += 1;
        wire.send(frame);
      }
      await setImmediate();
    }
  })();
  try {
    for (let done = 1; done <= updates; done++) {
      await running.update(shape(done));
      onUpdate(done);
    }
  } finally {
    going = false;
    await traffic;
  }
  await eventually(() => missing.size === 0, 1000, 'the last datagrams').catch(() => undefined);
  return { updates, packets: sent, lost: missing.size, missed: missesIn(running.stats()), mixed, met };
}

/** Stages that are gone by now dropped what they missed: such packets are lost. */
function missesIn({ roots, xdp, tcIngress, tcEgress }: Stats<Readonly<Record<'xdp' | 'tcIngress' | 'tcEgress', string>>>): number {
  const atRoots = Object.values(roots).map(({ misses, withoutMetadata }) => misses + withoutMetadata);
  const atStages = [xdp, tcIngress, tcEgress].flatMap((stages) => Object.values(stages).map(({ misses }) => misses));
  return Number([...atRoots, ...atStages].reduce((sum, misses) => sum + misses, 0n));
}

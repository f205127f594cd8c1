/**
 * Records traffic.pcap, which the demo runs on where it has no privileges: what comes in at a balancer's interface from real
 * network stacks, in namespaces of its own, beside odd frames from a raw socket. Needs root:
 *
 *     npx pnpm@12 exec node examples/l4lb/record.ts [FILE]
 *
 *     far 10.5.0.2 ─(mtu 1400)─ 10.5.0.1 client 10.0.0.2 … 5 ── 10.0.0.1 lb, which has the vips here and serves them itself
 *
 * Another recording has other ports, sequence numbers and times, and a few packets more or less; its odd frames are the same.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Host, packet, topology } from '@tailrace/testing';
import { CaptureWriter } from '@tailrace/userspace';
import { PacketSocket, TailraceError } from 'tailrace';
import { TCP_PORT, UDP_PORT, VIP, VIP6 } from './network.ts';
import { ENDS, oddFrames, ROUNDS, SEED, SeededRandom } from './odd-frames.ts';

/** Local addresses of the client, which requests take turns with. */
const CLIENTS = ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5'] as const;
const CLIENTS6 = ['fd00::2', 'fd00::3', 'fd00::4', 'fd00::5'] as const;
/** Connections that stay open from the first round to the last, over each family. */
const LONG_LIVED = 9;
/** Flows of each kind that a round has of its own. */
const FLOWS = 5;
/** The far client has addresses for each round: how narrow the path to one is, is told once. */
const FAR = Array.from({ length: ROUNDS }, (_, round) => [`10.5.0.${2 + round}/24`, `fd00:5::${2 + round}/64`]).flat();
/** The server answers datagrams that begin so after their sender is gone. */
const LATE = 'late';
const LATE_MS = 20;

/** Every packet is as it is on the wire: whole, with its checksum. */
const offloads = { tso: false, gso: false, gro: false, txChecksum: false } as const;

function network() {
  return topology({
    hosts: {
      client: {
        forwarding: true,
        routes: [
          { to: `${VIP}/32`, via: '10.0.0.1' },
          { to: `${VIP6}/128`, via: 'fd00::1' },
        ],
      },
      lb: {
        loopback: [`${VIP}/32`, `${VIP6}/128`],
        routes: [
          { to: '10.5.0.0/24', via: '10.0.0.2' },
          { to: 'fd00:5::/64', via: 'fd00::2' },
        ],
      },
      far: {
        routes: [
          { to: 'default', via: '10.5.0.1' },
          { to: `${VIP6}/128`, via: 'fd00:5::1' },
        ],
      },
    },
    links: [
      {
        ends: [
          { host: 'client', interface: 'lb', addresses: [...CLIENTS.map((a) => `${a}/24`), ...CLIENTS6.map((a) => `${a}/64`)], offloads },
          { host: 'lb', interface: 'client', addresses: ['10.0.0.1/24', 'fd00::1/64'], offloads },
        ],
      },
      {
        ends: [
          { host: 'far', addresses: FAR, offloads },
          { host: 'client', interface: 'far', addresses: ['10.5.0.1/24', 'fd00:5::1/64'], offloads },
        ],
        mtu: 1_400,
      },
    ],
  });
}

type Hosts = Awaited<ReturnType<typeof network>>['hosts'];

/** Keeps what comes in on an interface, with the time at which it was read. */
class Recorder implements Disposable {
  readonly frames: { readonly bytes: Uint8Array; readonly timestampNs: bigint }[] = [];
  readonly #host: Host;
  readonly #name: string;
  readonly #socket: PacketSocket;
  readonly #watch: Disposable;
  readonly #before: number;

  constructor(host: Host, interfaceName: string) {
    this.#host = host;
    this.#name = interfaceName;
    this.#socket = new PacketSocket(host.namespace, interfaceName);
    this.#before = this.#received();
    this.#watch = this.#socket.watch(() => this.#drain());
  }

  /** Throws TailraceError where the socket has dropped frames. */
  check(): void {
    this.#drain();
    const came = this.#received() - this.#before;
    if (came !== this.frames.length)
      throw new TailraceError('conflict', `${this.frames.length} frames were recorded of ${came} that came`, { hint: 'record again' });
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#socket.close();
  }

  #drain(): void {
    const timestampNs = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1_000n;
    for (let bytes = this.#socket.receive(); bytes !== undefined; bytes = this.#socket.receive()) this.frames.push({ bytes, timestampNs });
  }

  /** Frames that the interface has counted. */
  #received(): number {
    const lines = this.#host.enter(() => readFileSync('/proc/thread-self/net/dev', 'utf8')).split('\n');
    const fields = lines.find((line) => line.trim().startsWith(`${this.#name}:`))?.split(':')[1];
    return Number(fields?.trim().split(/ +/)[1] ?? Number.NaN);
  }
}

/** Serves the vips over TCP and UDP. */
async function serve(lb: Host): Promise<void> {
  await lb.http({ port: TCP_PORT, address: '::' });
  for (const address of [VIP, VIP6]) {
    const socket = await lb.udp({ address, port: UDP_PORT });
    socket.onDatagram(async ({ text, address, port }) => {
      if (text.startsWith(LATE)) await sleep(LATE_MS);
      await socket.send(`lb ${text}`, address, port);
    });
  }
}

/** A flow of datagrams from a port of its own; each is answered before the next goes. */
async function datagrams(host: Host, from: string, to: string, payloads: readonly string[]): Promise<void> {
  await using socket = await host.udp({ address: from });
  for (const payload of payloads) {
    await socket.send(payload, to, UDP_PORT);
    await socket.receive(2_000);
  }
}

/** Sends a datagram and is gone when the answer comes: an ICMP error tells so. */
async function unreachable(host: Host, from: string, to: string): Promise<void> {
  const socket = await host.udp({ address: from });
  await socket.send(`${LATE} ${from}`, to, UDP_PORT);
  await socket.close();
  await sleep(2 * LATE_MS);
}

/** One round of everything but odd frames. */
async function traffic({ client, far }: Hosts, round: number): Promise<void> {
  const turn = (i: number): number => (round + i) % CLIENTS.length;
  for (let i = 0; i < FLOWS; i++) {
    const [from, from6] = [CLIENTS[turn(i)] as string, CLIENTS6[turn(i)] as string];
    await client.request(`http://${VIP}/`, { localAddress: from });
    await client.request(`http://[${VIP6}]/bytes/2000`, { localAddress: from6 });
    await datagrams(client, from, VIP, [`${round}.${i} a`, `${round}.${i} b`]);
    await datagrams(client, from6, VIP6, [`${round}.${i} c`]);
  }
  // a full-sized packet does not fit behind an outer header, one over the narrow link does
  await client.upload(`http://${VIP}/`, 3_000);
  await client.upload(`http://[${VIP6}]/`, 2_000);
  await far.upload(`http://${VIP}/`, 5_000);
  await far.upload(`http://[${VIP6}]/`, 3_000);
  await datagrams(far, '10.5.0.2', VIP, [`far ${round}`]);
  // in fragments
  await datagrams(client, CLIENTS[turn(0)] as string, VIP, ['x'.repeat(3_000)]);
  await datagrams(client, CLIENTS6[turn(0)] as string, VIP6, ['x'.repeat(2_000)]);
  await unreachable(client, CLIENTS[turn(1)] as string, VIP);
  await unreachable(client, CLIENTS6[turn(1)] as string, VIP6);
  for (const [sequence, address] of [VIP, VIP6, VIP, VIP6, '10.0.0.1', 'fd00::1'].entries())
    await client.ping(address, { id: 100 + round, sequence, payload: 56 });
  // not to a vip: another address, another port
  await client.request(`http://10.0.0.1/`);
  await client.request(`http://${VIP}:81/`).catch(() => undefined);
  await client.request(`http://[${VIP6}]:81/`).catch(() => undefined);
}

/** What the narrow link does not take is told to the vips: the answer is three bytes longer than the request, which fits. */
async function tooBig(far: Host, round: number): Promise<void> {
  for (const [from, to, headers] of [
    [`10.5.0.${2 + round}`, VIP, 28],
    [`fd00:5::${2 + round}`, VIP6, 48],
  ] as const) {
    await using socket = await far.udp({ address: from });
    await socket.send('x'.repeat(1_400 - headers), to, UDP_PORT);
    await sleep(50);
  }
}

async function record(file: string | URL): Promise<void> {
  await using net = await network();
  const { client, lb, far } = net.hosts;
  await serve(lb);
  using recorder = new Recorder(lb, 'client');
  using raw = new PacketSocket(client.namespace, 'lb');
  const long = [];
  for (let i = 0; i < LONG_LIVED; i++) {
    const localAddress = CLIENTS[i % CLIENTS.length] as string;
    long.push(await client.connectHttp(`http://${VIP}/`, { localAddress }));
    long.push(await client.connectHttp(`http://[${VIP6}]/`, { localAddress: CLIENTS6[i % CLIENTS6.length] as string }));
  }
  const random = new SeededRandom(SEED);
  for (let round = 0; round < ROUNDS; round++) {
    for (const connection of long) await connection.request('/');
    await traffic(net.hosts, round);
    await tooBig(far, round);
    for (const frame of oddFrames(round, ENDS, random)) raw.send(frame);
    // ask for the neighbour, as after a long silence
    raw.send(
      packet()
        .ethernet({ src: ENDS.src, dst: 'ff:ff:ff:ff:ff:ff' })
        .arp({ senderMac: ENDS.src, senderIp: CLIENTS[0], targetIp: '10.0.0.1' })
        .bytes(),
    );
    await sleep(50);
  }
  for (const connection of long) connection.close();
  await sleep(100);
  recorder.check();
  await using writer = await CaptureWriter.open(file, { precision: 'microseconds' });
  for (const { bytes, timestampNs } of recorder.frames) await writer.write(bytes, timestampNs);
  await writer.close();
  console.log(`${recorder.frames.length} frames in ${file instanceof URL ? fileURLToPath(file) : file}`);
}

await record(process.argv[2] ?? new URL('traffic.pcap', import.meta.url));

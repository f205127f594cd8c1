/** For canary.kernel.test.ts: a pipeline at three hooks whose stages say which of two pipelines they are of, and datagrams that bring it back. */
import { setImmediate } from 'node:timers/promises';
import { eventually, packet, type Topology } from '@tailrace/testing';
import { be32, hash, PacketSocket, packed, pipeline, stage, struct, u8, u16, u32 } from 'tailrace';

/** The two sides of a canary. */
export const SIDE = { present: 1, canary: 2 } as const;
/** Where probes come from, a host that is not there; and where they go to. */
const PROBER = '10.0.0.9';
const SERVER = '10.0.0.2';
export const PORT = { probe: 7002, http: 8080 } as const;
/** Ethernet, IPv4, UDP. */
const HEADERS = 42;

/** The payload of a probe: its number, and by hook the side that it met. */
const stamp = struct({ number: be32, xdp: be32, tcIngress: be32, tcEgress: be32 });
const OFFSET = { number: 0, xdp: 4, tcIngress: 8, tcEgress: 12 } as const;
const mark = struct({ side: be32 });

/** A TCP flow at a hook on a side. */
const met = packed({ port: u16, hook: u8, side: u8 });
/** TCP flows by the client's port, at the hooks and on the sides where they were seen. */
export const flows = hash({ name: 'flows', key: met, value: u32, maxEntries: 16_384 });

/**
 * A pipeline that passes everything. `crossing`: what XDP found goes to TC ingress, which drops packets of another side's XDP chain.
 */
export function edge(side: number, crossing: boolean) {
  /** Counts TCP flows, and writes the side into probes at byte `place`. */
  const tally = (met: number, place: number, isAnswer: boolean) =>
    stage({
      name: 'tally',
      hook: 'xdp',
      uses: { mark, flows, side, met, place, isAnswer },
      onMiss: 'drop',
      program(ctx, { mark, flows, side, met, place, isAnswer }) {
        const ports = ctx.ports();
        if (!ports) return ctx.next();
        const client = isAnswer ? ports.dport : ports.sport;
        if (ctx.tcp()) {
          flows.update({ port: client, hook: met, side }, 1);
          return ctx.exit('tcp');
        }
        const server = isAnswer ? ports.sport : ports.dport;
        const at = server === 7002 ? ctx.at(mark, place) : undefined;
        if (!at) return ctx.next();
        at.side = side;
        return ctx.exit('probe');
      },
    });
  const xdp = tally(1, HEADERS + OFFSET.xdp, false);
  const ingress = tally(2, HEADERS + OFFSET.tcIngress, false).at('tc');
  const egress = tally(3, HEADERS + OFFSET.tcEgress, true).at('tc');
  const guard = stage({
    name: 'guard',
    hook: 'tcIngress',
    uses: { side },
    reads: { side: u32 },
    onMiss: 'drop',
    program: (ctx, { side }) => (ctx.meta.side === side ? ctx.next() : ctx.drop('crossed')),
  });
  const last = stage({
    name: 'last',
    hook: 'xdp',
    uses: { side },
    writes: { side: u32 },
    onMiss: 'drop',
    program(ctx, { side }) {
      ctx.meta.side = side;
      return ctx.next();
    },
  });
  const idle = stage({ name: 'guard', hook: 'tcIngress', onMiss: 'drop', program: (ctx) => ctx.next() });
  const on = { tcp: 'next', probe: 'next' } as const;
  return crossing
    ? pipeline('edge', { xdp: [xdp.on(on), last], tcIngress: [guard, ingress.on(on)], tcEgress: [egress.on(on)] })
    : pipeline('edge', { xdp: [xdp.on(on), last], tcIngress: [idle, ingress.on(on)], tcEgress: [egress.on(on)] });
}

/** A probe that came back: the sides that it met. */
export interface Answered {
  readonly port: number;
  readonly xdp: number;
  readonly tcIngress: number;
  readonly tcEgress: number;
}

/** Numbered datagrams of many flows, one after the other of each, which the server echoes. */
export class Probes implements AsyncDisposable {
  readonly #socket: PacketSocket;
  readonly #frame: Uint8Array;
  readonly #view: DataView;
  readonly #first: number;
  readonly #count: number;
  readonly #missing = new Map<number, number>();
  readonly #traffic: Promise<void>;
  #sent = 0;
  #going = true;
  #isPaused = false;
  #answered: Answered[] = [];

  private constructor(socket: PacketSocket, frame: Uint8Array, ports: { readonly first: number; readonly count: number }) {
    this.#socket = socket;
    this.#frame = frame;
    this.#view = new DataView(frame.buffer, frame.byteOffset);
    this.#first = ports.first;
    this.#count = ports.count;
    this.#traffic = this.#send();
  }

  /** Sends from `count` ports on, from `first` on. */
  static async start(
    { hosts: { client, server } }: Topology<'client' | 'server'>,
    ports: { readonly first: number; readonly count: number },
  ): Promise<Probes> {
    await server.udpEcho({ port: PORT.probe });
    server.route.setNeighbour('client', PROBER, client.mac('server'));
    const frame = packet()
      .ethernet({ src: client.mac('server'), dst: server.mac('client') })
      .ipv4({ saddr: PROBER, daddr: SERVER })
      .udp({ sport: ports.first, dport: PORT.probe })
      .payload(new Uint8Array(stamp.layout.size))
      .bytes();
    // stages write below the checksum: it is left out, as IPv4 allows
    new DataView(frame.buffer, frame.byteOffset).setUint16(HEADERS - 2, 0);
    return new Probes(new PacketSocket(client.namespace, 'server'), frame, ports);
  }

  /** So far. */
  get sent(): number {
    return this.#sent;
  }

  /** Those that have not come back. */
  get missing(): number {
    return this.#missing.size;
  }

  /** Those that came back since this was asked last. */
  take(): readonly Answered[] {
    const answered = this.#answered;
    this.#answered = [];
    return answered;
  }

  /** Sends none until `resume`; resolves once all have come back. Throws TimeoutError. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await eventually(() => this.#missing.size === 0, 2_000, `${this.#missing.size} probes`);
  }

  resume(): void {
    this.#isPaused = false;
  }

  /** So many more. */
  async more(count: number): Promise<void> {
    const until = this.#sent + count;
    await eventually(() => this.#sent >= until, 30_000, `${count} probes`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#going = false;
    await this.#traffic;
    this.#socket.close();
  }

  async #send(): Promise<void> {
    while (this.#going) {
      for (let i = 0; i < BURST && !this.#isPaused && this.#missing.size < WINDOW; i++) {
        const port = this.#first + (this.#sent % this.#count);
        this.#view.setUint16(HEADERS - 8, port);
        this.#view.setUint32(HEADERS, this.#sent);
        this.#missing.set(this.#sent, port);
        this.#sent += 1;
        this.#socket.send(this.#frame);
      }
      await setImmediate();
      this.#receive();
    }
  }

  #receive(): void {
    for (let frame = this.#socket.receive(); frame; frame = this.#socket.receive()) {
      const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
      if (frame.length < HEADERS + stamp.layout.size || view.getUint16(12) !== 0x0800 || view.getUint16(34) !== PORT.probe) continue;
      const at = (field: keyof typeof OFFSET): number => view.getUint32(HEADERS + OFFSET[field]);
      const port = view.getUint16(36);
      if (this.#missing.get(at('number')) !== port) continue;
      this.#missing.delete(at('number'));
      this.#answered.push({ port, xdp: at('xdp'), tcIngress: at('tcIngress'), tcEgress: at('tcEgress') });
    }
  }
}

/** Datagrams that are under way at most: what the sockets hold with ease. */
const WINDOW = 64;
const BURST = 8;

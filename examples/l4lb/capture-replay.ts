/**
 * A capture on its way through the balancer: what came of each packet, at which real each flow is, and the packets that left,
 * as a capture of their own.
 */
import type { CapturedPacket, CaptureWriter } from '@tailrace/userspace';
import type { ChainVerdict } from 'tailrace';
import { balancedFlow } from './balanced-flow.ts';
import type { CaptureBalancer } from './capture-balancer.ts';
import { REALS, type RealName } from './network.ts';

/** A flow that went to another real than before. */
export interface MovedFlow {
  readonly flow: string;
  readonly from: RealName;
  readonly to: RealName;
}

/** What came of some packets in a row. */
export interface ReplayedPart {
  readonly packets: number;
  readonly verdicts: ReadonlyMap<ChainVerdict, number>;
  /** Flows that had packets, by the real that has them. */
  readonly flows: ReadonlyMap<RealName, number>;
  readonly moved: readonly MovedFlow[];
}

/** Packets that are run at a time; the event loop turns between two of these. */
const SLICE = 8;

/** Feeds packets to a balancer in userspace. */
export class CaptureReplay {
  readonly #balancer: CaptureBalancer;
  readonly #writer: CaptureWriter;
  readonly #reals = new Map<string, RealName>();
  readonly #verdicts = new Map<ChainVerdict, number>();
  #packets = 0;

  /** What leaves on the wire (`tx`, `redirect`) goes to `writer`, with the time at which it came in. */
  constructor(balancer: CaptureBalancer, writer: CaptureWriter) {
    this.#balancer = balancer;
    this.#writer = writer;
  }

  /** Packets that came out so far. */
  get packets(): number {
    return this.#packets;
  }

  /** What they came to. */
  get verdicts(): ReadonlyMap<ChainVerdict, number> {
    return this.#verdicts;
  }

  /**
   * Runs packets in their order. `between` is called before each few of them, with the number of those that are through: what
   * it starts goes on while packets flow. Throws what programs throw, and CaptureError.
   */
  async feed(packets: readonly CapturedPacket[], between: (done: number) => void = () => undefined): Promise<ReplayedPart> {
    const verdicts = new Map<ChainVerdict, number>();
    const reals = new Map<string, RealName>();
    const moved: MovedFlow[] = [];
    let count = 0;
    for await (const { index, verdict, packet } of this.#balancer.running.inject(slices(packets, between))) {
      count++;
      this.#packets++;
      for (const counts of [verdicts, this.#verdicts]) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
      if (verdict !== 'tx' && verdict !== 'redirect') continue;
      await this.#writer.write(packet, packets[index]?.timestampNs ?? 0n);
      const balanced = balancedFlow(packet);
      if (balanced === undefined) continue;
      const { flow, real } = balanced;
      const before = this.#reals.get(flow);
      if (before !== undefined && before !== real) moved.push({ flow, from: before, to: real });
      this.#reals.set(flow, real);
      reals.set(flow, real);
    }
    const flows = new Map(REALS.map((name) => [name, [...reals.values()].filter((real) => real === name).length]));
    return { packets: count, verdicts, flows, moved };
  }
}

async function* slices(packets: readonly CapturedPacket[], between: (done: number) => void): AsyncGenerator<readonly Uint8Array[], void> {
  for (let done = 0; done < packets.length; done += SLICE) {
    between(done);
    await new Promise((resolve) => setImmediate(resolve));
    yield packets.slice(done, done + SLICE).map(({ bytes }) => bytes);
  }
}

/** What a run over a capture comes to: packets, verdicts, bytes, time. */
import { leaves } from './packet-runner.ts';
import type { Refusal, Settled } from './settlement.ts';
import { drawWays } from './stats-table.ts';

const refusalTexts: Readonly<Record<Refusal, string>> = {
  'no EtherType': 'without an EtherType',
  'too short': 'shorter than an Ethernet header',
};

/** Counts as packets go by. */
export class Totals {
  readonly #refused = new Map<Refusal, number>();
  readonly #verdicts = new Map<string, number>();
  readonly #began = performance.now();
  #packets = 0;
  #cut = 0;
  #leaving = 0;
  #bytesIn = 0;
  #bytesOut = 0;

  /** Packets that have come to something. */
  get packets(): number {
    return this.#packets;
  }

  /** Packets in each second so far. */
  get rate(): number {
    return Math.round((this.#packets * 1000) / Math.max(performance.now() - this.#began, 0.001));
  }

  take(settled: Settled): void {
    this.#packets++;
    if ('refusal' in settled) {
      count(this.#refused, settled.refusal);
      return;
    }
    const { frame, outcome } = settled;
    if (frame.originalLength > frame.bytes.length) this.#cut++;
    this.#bytesIn += frame.bytes.length;
    count(this.#verdicts, outcome.verdict);
    if (!leaves(outcome.verdict)) return;
    this.#leaving++;
    this.#bytesOut += outcome.packet.length;
  }

  /** Lines without a trailing newline: a heading that begins with `title`, and what there is to tell. */
  draw(title: string): string {
    const refused = [...this.#refused].map(([why, packets]) => `${figure(packets)} ${refusalTexts[why]}`);
    const verdicts = [...this.#verdicts].map(([name, packets]) => [name, BigInt(packets)] as const);
    const milliseconds = performance.now() - this.#began;
    const time = milliseconds < 1000 ? `${milliseconds.toFixed(1)} ms` : `${(milliseconds / 1000).toFixed(2)} s`;
    return [
      `${title}: ${figure(this.#packets)} packets in, ${figure(this.#leaving)} out`,
      ...(refused.length > 0 ? [`  refused   ${refused.join(', ')}`] : []),
      ...(this.#cut > 0 ? [`  cut       ${figure(this.#cut)} by the capture, and run as they are`] : []),
      ...(verdicts.length > 0 ? [`  verdicts  ${drawWays(verdicts)}`] : []),
      `  bytes     ${figure(this.#bytesIn)} in, ${figure(this.#bytesOut)} out`,
      `  time      ${time}, ${figure(this.rate)} packets/s`,
    ].join('\n');
  }
}

function count<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/** With commas between thousands. */
export function figure(value: number): string {
  return value.toLocaleString('en-US');
}

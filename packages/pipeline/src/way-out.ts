/** Records of ways out, read: which stage a packet was in, how it left, and what it was. */
import { ArgumentError } from '@tailrace/bpf';
import { GOES_ON, outcomeNamed, type WayOutRecord } from '@tailrace/compiler';
import { type ChainVerdict, type PacketHook, verdictOf } from './chain-hook.ts';
import type { Observation } from './observation.ts';
import type { PathStep } from './path.ts';

/** A packet as a stage left it. */
export interface SeenPacket {
  /** When, in nanoseconds since boot (CLOCK_MONOTONIC); of the userspace engine as `ctx.now()` there. */
  readonly timeNs: bigint;
  /** Bytes of the whole packet. */
  readonly length: number;
  /** The packet's first bytes, as many as were asked for and it has; absent where none were. */
  readonly header?: Uint8Array;
}

/** A way out of a stage. */
export interface WayOut {
  readonly hook: PacketHook;
  readonly cpu: number;
  /** How the packet left; where it `missed`, the stage is the one whose tail call came back, and its step was told before. */
  readonly step: PathStep | { readonly stage: string; readonly missed: true };
  /** What became of it; absent where it went on to another stage. */
  readonly verdict?: ChainVerdict;
  readonly seen: SeenPacket;
}

/** Reads a record. Throws ArgumentError for one that no stage of the pipeline writes. */
export function wayOutOf(observation: Observation, record: WayOutRecord, hasHeader: boolean): WayOut {
  const told = observation.place(record.place);
  const name = told?.names[record.outcome];
  const verdict = told && record.verdict !== GOES_ON ? verdictOf(told.hook, record.verdict) : undefined;
  if (told === undefined || name === undefined || (verdict === undefined && record.verdict !== GOES_ON))
    throw new ArgumentError(`a record of stage ${record.place}, outcome ${record.outcome}, verdict ${record.verdict}: there is none such`, {
      hint: 'something else writes to this ring',
    });
  const { hook, place: stage } = told;
  const header = hasHeader ? { header: Uint8Array.from((record.bytes ?? []).slice(0, record.captured)) } : {};
  return {
    hook,
    cpu: record.cpu,
    step: name === 'misses' ? { stage, missed: true } : { stage, ...outcomeNamed(name) },
    ...(verdict === undefined ? {} : { verdict }),
    seen: { timeNs: record.time, length: record.length, ...header },
  };
}

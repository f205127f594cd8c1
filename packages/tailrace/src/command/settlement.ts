/** What each packet of a capture comes to: it is made an Ethernet frame and run, or refused. */
import { TailraceError } from '@tailrace/bpf';
import { type CapturedPacket, toEthernet } from '@tailrace/userspace';
import type { Outcome, PacketRunner } from './packet-runner.ts';
import { isTailraceError } from './typed-error.ts';

/** Why a packet is not run. */
export type Refusal = 'no EtherType' | 'too short';

/** What came of one packet; `frame` is what was run. */
export type Settled = { readonly frame: CapturedPacket; readonly outcome: Outcome } | Refused;

interface Refused {
  readonly refusal: Refusal;
  /** Bytes that were captured. */
  readonly length: number;
}

/** The bytes of an Ethernet header: nothing runs without one. */
const SHORTEST = 14;

/**
 * Runs packets that follow each other in a capture, the first of which has the number `from`; gives what they come to in their
 * order, as many at a time as the runner has. Errors of programs say which packet it was.
 */
export async function* settle(
  captured: readonly CapturedPacket[],
  runner: PacketRunner,
  from: number,
): AsyncGenerator<readonly Settled[], void> {
  const packets = captured.map(framed);
  const frames = packets.flatMap((one) => ('refusal' in one ? [] : [one.bytes]));
  let at = 0;
  const upTo = (outcomes: readonly Outcome[]): readonly Settled[] => {
    const settled: Settled[] = [];
    let ran = 0;
    for (let one = packets[at]; one !== undefined; one = packets[++at]) {
      if ('refusal' in one) settled.push(one);
      else if (ran < outcomes.length) settled.push({ frame: one, outcome: outcomes[ran++] as Outcome });
      else break;
    }
    return settled;
  };
  yield upTo([]);
  if (frames.length === 0) return;
  try {
    for await (const outcomes of runner.run(frames)) yield upTo(outcomes);
  } catch (error) {
    throw placed(error, from + at, runner.isOneByOne ? 1 : packets.length - at);
  }
}

function framed(packet: CapturedPacket): CapturedPacket | Refused {
  const frame = toEthernet(packet);
  if (frame === undefined) return { refusal: 'no EtherType', length: packet.bytes.length };
  return frame.bytes.length < SHORTEST ? { refusal: 'too short', length: packet.bytes.length } : frame;
}

/** The same error, with the packets that it can be of. */
function placed(error: unknown, first: number, count: number): unknown {
  if (!isTailraceError(error)) return error;
  const where = count === 1 ? `packet ${first}` : `one of packets ${first} to ${first + count - 1}`;
  const hint = error.hint ?? (count === 1 ? undefined : '--json runs packets one by one, and tells which');
  return new TailraceError(error.code, `${where}: ${error.message}`, { cause: error, ...(hint === undefined ? {} : { hint }) });
}

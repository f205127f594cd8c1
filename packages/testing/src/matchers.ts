/**
 * Vitest matchers for verdicts and packets. `import '@tailrace/testing/matchers'` adds them to `expect` and to its types.
 *
 * Verdict matchers take what `simulate` and `run` give, an engine's test run, or a program's return value (2 is XDP's
 * pass; a test run with an skb is TC's). Packet matchers take bytes, a builder, or any of those with the packet as the
 * stage left it.
 */
import { ArgumentError } from '@tailrace/bpf';
import { expect } from 'vitest';
import { describe, parse } from './description.ts';
import { describeDifferences, packetDifferences } from './difference.ts';
import { describeOutcome, type Outcome, type OutcomeVerdict, outcomeOf } from './outcome.ts';
import { Packet } from './packet.ts';

declare module 'vitest' {
  interface Matchers<R extends void | Promise<void> = void | Promise<void>, T = unknown> {
    /** The packet went on to the network stack. */
    toPass(): R;
    /** The packet was dropped. */
    toDrop(): R;
    /** The packet went back out of the interface that it came in on. */
    toTx(): R;
    /** The packet went to another interface: to this one, and in this way, where they are given and known. */
    toRedirect(ifindex?: number, how?: 'ingress' | 'neighbour' | 'peer'): R;
    /** The program gave up. */
    toAbort(): R;
    /** The stage handed the packet to the next one. */
    toNext(): R;
    /** The stage left through this exit. */
    toExit(label: string): R;
    /** Byte for byte the same; a failure shows the layers and fields that differ. */
    toEqualPacket(expected: Packet | Uint8Array): R;
    /** The packet has checksums, and all of them are right. */
    toHaveValidChecksums(): R;
  }
}

interface MatcherResult {
  readonly pass: boolean;
  readonly message: () => string;
}

expect.extend({
  toPass: (received: unknown) => matchVerdict(received, { verdict: 'pass' }),
  toDrop: (received: unknown) => matchVerdict(received, { verdict: 'drop' }),
  toTx: (received: unknown) => matchVerdict(received, { verdict: 'tx' }),
  toAbort: (received: unknown) => matchVerdict(received, { verdict: 'abort' }),
  toNext: (received: unknown) => matchVerdict(received, { verdict: 'next' }),
  toExit: (received: unknown, exit: string) => matchVerdict(received, { verdict: 'exit', exit }),
  toRedirect: (received: unknown, ifindex?: number, how?: 'ingress' | 'neighbour' | 'peer') =>
    matchVerdict(received, {
      verdict: 'redirect',
      ...(ifindex === undefined ? {} : { redirect: { ifindex, ...(how === undefined ? {} : { how }) } }),
    }),
  toEqualPacket: matchPacket,
  toHaveValidChecksums: matchChecksums,
});

function matchVerdict(received: unknown, expected: Outcome): MatcherResult {
  const actual = receivedOutcome(received);
  const pass = actual.verdict === expected.verdict && actual.exit === expected.exit && sameTarget(actual, expected);
  const message = (): string => {
    const after = receivedPacket(received);
    const line = pass
      ? `expected any outcome but ${describeOutcome(expected)}`
      : `expected ${describeOutcome(expected)}, got ${describeOutcome(actual)}`;
    return after === undefined ? line : `${line}\n\nthe packet after the stage:\n${describe(after)}`;
  };
  return { pass, message };
}

function matchPacket(received: unknown, expected: Packet | Uint8Array): MatcherResult {
  const actual = requiredPacket(received);
  const pass = packetDifferences(expected, actual).length === 0;
  return { pass, message: () => (pass ? `expected another packet than\n${describe(actual)}` : describeDifferences(expected, actual)) };
}

function matchChecksums(received: unknown): MatcherResult {
  const actual = requiredPacket(received);
  const judged = parse(actual).filter((layer) => layer.checksum !== 'none');
  const invalid = judged.filter((layer) => layer.checksum === 'invalid').map((layer) => layer.kind);
  const pass = judged.length > 0 && invalid.length === 0;
  const verdict = judged.length === 0 ? 'the packet has no checksum that can be judged' : `invalid checksum of ${invalid.join(', ')}`;
  return { pass, message: () => `${pass ? 'expected an invalid checksum' : verdict}\n${describe(actual)}` };
}

/** A redirect without a known target matches any: the kernel does not tell where it leads. */
function sameTarget(actual: Outcome, expected: Outcome): boolean {
  if (expected.redirect === undefined || actual.redirect === undefined) return true;
  if (!('ifindex' in expected.redirect && 'ifindex' in actual.redirect)) return false;
  const { ifindex, how = actual.redirect.how } = expected.redirect;
  return ifindex === actual.redirect.ifindex && how === actual.redirect.how;
}

const verdicts: ReadonlySet<unknown> = new Set<OutcomeVerdict>(['abort', 'drop', 'pass', 'tx', 'redirect', 'next', 'exit']);

/** Throws for what has no outcome, so that a negated matcher fails too. */
function receivedOutcome(received: unknown): Outcome {
  const isObject = typeof received === 'object' && received !== null;
  const returned = isObject && 'returnValue' in received ? received.returnValue : received;
  const isTc = isObject && 'skb' in received;
  const outcome = typeof returned === 'number' ? ((isTc ? undefined : outcomeOf(returned)) ?? outcomeOf(returned, 'tc')) : undefined;
  if (outcome !== undefined) return outcome;
  if (typeof received === 'object' && received !== null && 'verdict' in received && verdicts.has(received.verdict))
    return received as Outcome;
  throw new ArgumentError(`${subject(returned)}, expected what a stage gave: a result, a test run or a return value`);
}

function requiredPacket(received: unknown): Uint8Array {
  const found = receivedPacket(received);
  if (found === undefined) throw new ArgumentError(`${subject(received)}, expected a packet or a result with one`);
  return found;
}

function receivedPacket(received: unknown): Uint8Array | undefined {
  if (received instanceof Uint8Array) return received;
  if (received instanceof Packet) return received.bytes();
  if (typeof received !== 'object' || received === null || !('packet' in received)) return undefined;
  return received.packet instanceof Uint8Array ? received.packet : undefined;
}

function subject(value: unknown): string {
  return typeof value === 'object' && value !== null ? 'got another object' : `got ${String(value)}`;
}

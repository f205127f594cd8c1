/** How a packet left a stage: what simulations and runs give, and what the matchers compare. */
import type { ProgramHook } from '@tailrace/compiler';
import type { AnyMap } from '@tailrace/stage';

/** XDP's verdicts in the kernel's order (enum xdp_action). */
const xdpVerdicts = ['abort', 'drop', 'pass', 'tx', 'redirect'] as const;
/** TC's by number (enum tcx_action_base; clsact has the same). */
const tcVerdicts: ReadonlyMap<number, OutcomeVerdict> = new Map([
  [0xffff_ffff, 'pass'],
  [2, 'drop'],
  [7, 'redirect'],
]);

/** Those of stages on sockets' data (enum sk_action); events end in a pass. A redirect is a pass with a target. */
const socketVerdicts = ['drop', 'pass'] as const;

/** A verdict, or a way on along the chain. */
export type OutcomeVerdict = (typeof xdpVerdicts)[number] | 'next' | 'exit';

/** Where a redirect leads: an interface, or what a map of interfaces, CPUs or AF_XDP sockets has under a key. */
export type RedirectTarget =
  | {
      readonly ifindex: number;
      /** In there instead of out, or out with the neighbour's address, or in at its peer. */
      readonly how?: 'ingress' | 'neighbour' | 'peer';
    }
  | { readonly map: AnyMap; readonly key: number }
  | {
      /** Of data: a map of sockets. */
      readonly sockets: AnyMap;
      readonly key: unknown;
      /** In at that socket, instead of out of it. */
      readonly ingress: boolean;
    };

/** How a packet left a stage. */
export interface Outcome {
  readonly verdict: OutcomeVerdict;
  /** The label, where the verdict is `exit`. */
  readonly exit?: string;
  /** Why, where the verdict is `drop` or `abort` and the stage says so. */
  readonly reason?: string;
  /** Where the verdict is `redirect` and the target is known: the kernel does not tell. */
  readonly redirect?: RedirectTarget;
}

/** The outcome behind a program's return value, as its kind of hook numbers verdicts; undefined for what is none. */
export function outcomeOf(returnValue: number, kind: ProgramHook = 'xdp'): Outcome | undefined {
  const verdicts = kind === 'xdp' ? xdpVerdicts : socketVerdicts;
  const verdict = kind === 'tc' ? tcVerdicts.get(returnValue) : verdicts[returnValue];
  return verdict === undefined ? undefined : { verdict };
}

/** `drop`, `drop 'blocked'`, `exit 'expired'`, `redirect to interface 3`. */
export function describeOutcome({ verdict, exit, reason, redirect }: Outcome): string {
  if (verdict === 'exit') return `exit '${exit}'`;
  if (redirect === undefined) return reason === undefined ? verdict : `${verdict} '${reason}'`;
  if ('sockets' in redirect) {
    const key = JSON.stringify(redirect.key, (_, part: unknown) => (typeof part === 'bigint' ? `${part}n` : part));
    return `redirect ${redirect.ingress ? 'in at' : 'out of'} '${redirect.sockets.name}' at ${key}`;
  }
  if (!('ifindex' in redirect)) return `redirect to '${redirect.map.name}' at ${redirect.key}`;
  return `redirect to interface ${redirect.ifindex}${redirect.how === undefined ? '' : ` (${redirect.how})`}`;
}

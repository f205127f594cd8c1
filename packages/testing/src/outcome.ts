/** How a packet left a stage: what simulations and runs give, and what the matchers compare. */
import type { AnyMap } from '@tailrace/stage';

/** XDP's verdicts in the kernel's order (enum xdp_action). */
const xdpVerdicts = ['abort', 'drop', 'pass', 'tx', 'redirect'] as const;

/** A verdict, or a way on along the chain. */
export type OutcomeVerdict = (typeof xdpVerdicts)[number] | 'next' | 'exit';

/** Where a redirect leads: an interface, or what a map of interfaces, CPUs or AF_XDP sockets has under a key. */
export type RedirectTarget = { readonly ifindex: number } | { readonly map: AnyMap; readonly key: number };

/** How a packet left a stage. */
export interface Outcome {
  readonly verdict: OutcomeVerdict;
  /** The label, where the verdict is `exit`. */
  readonly exit?: string;
  /** Where the verdict is `redirect` and the target is known: the kernel does not tell. */
  readonly redirect?: RedirectTarget;
}

/** The outcome behind a program's return value; undefined for what is no XDP verdict. */
export function outcomeOf(returnValue: number): Outcome | undefined {
  const verdict = xdpVerdicts[returnValue];
  return verdict === undefined ? undefined : { verdict };
}

/** `drop`, `exit 'expired'`, `redirect to interface 3`. */
export function describeOutcome({ verdict, exit, redirect }: Outcome): string {
  if (verdict === 'exit') return `exit '${exit}'`;
  if (redirect === undefined) return verdict;
  return 'ifindex' in redirect ? `redirect to interface ${redirect.ifindex}` : `redirect to '${redirect.map.name}' at ${redirect.key}`;
}

/**
 * The way that a test packet took through its chain, read off the counters: every stage counts one outcome for each packet,
 * so what has grown between two readings leads from the first stage along the plan's edges. Counts only grow, and the
 * packet's own are in the difference whatever else passed meanwhile: where a single outcome of a stage has grown it is the
 * packet's, and where several have, nobody can tell. So a path is the packet's, or there is none.
 */
import { type NamedOutcome, outcomeNamed } from '@tailrace/compiler';
import type { ChainVerdict } from './chain-hook.ts';
import { edgesOf, placeIn } from './graph.ts';
import type { ChainPlan } from './plan.ts';
import { MISSES_OFFSET, type StateLayout } from './state.ts';

/** One stage on a packet's way, and how the packet left it. `N` are the names that the stage can have. */
export interface PathStep<N extends string = string> {
  /** The place's name, as in stats and descriptions: a stage that replaced another goes by the first one's. */
  readonly stage: N;
  /** `next`, `exit`, or the verdict that the stage gave itself. */
  readonly verdict: NamedOutcome['verdict'];
  /** The exit's label, where the verdict is `exit`. */
  readonly exit?: string;
  /** Why, where the verdict is `drop` or `abort` and the stage says so. */
  readonly reason?: string;
  /** On the last step: the tail call behind `next` or the exit found no stage, and the packet got this one's `onMiss`. */
  readonly missed?: true;
}

/** What packets follow, and where they are counted. */
export interface CountedPlan {
  readonly plan: ChainPlan;
  readonly state: StateLayout;
}

/**
 * The stages that a packet went through, in order; none where the root found no first stage. `before` and `after` are the
 * state's entry, every CPU's copy, around a run that came to `verdict`. `undefined` where what has grown can be read in more
 * than one way, or in none: other packets passed, or a stage does not count.
 */
export function pathOf(
  { plan, state }: CountedPlan,
  verdict: ChainVerdict,
  before: Uint8Array,
  after: Uint8Array,
): readonly PathStep[] | undefined {
  const growth = new Growth(state, before, after);
  const path: PathStep[] = [];
  const met = new Set<string>();
  let to: { readonly place: string } | { readonly verdict: string } = { place: plan.first };
  let [missed, onMiss] = [growth.has(MISSES_OFFSET), 'pass'];
  while ('place' in to) {
    const place = placeIn(plan.places, to.place);
    // a packet that comes back counts more than once: loop-path.ts looks at how often
    if (met.has(place.name)) return undefined;
    met.add(place.name);
    const [outcome, ...others] = growth.outcomes(place.name);
    // the packet came here, or missed: both, neither and two ways on tell nothing
    if ((outcome !== undefined) === missed || others.length > 0) return undefined;
    if (outcome === undefined) return onMiss === verdict ? withMiss(path) : undefined;
    const wayOut = outcomeNamed(outcome);
    path.push({ stage: place.name, ...wayOut });
    to = edgesOf(place).find(({ label }) => label === outcome)?.to ?? { verdict: wayOut.verdict };
    [missed, onMiss] = [growth.misses(place.name), place.stage.onMiss];
  }
  return to.verdict === verdict ? path : undefined;
}

function withMiss(path: readonly PathStep[]): readonly PathStep[] {
  return path.map((step, i) => (i === path.length - 1 ? { ...step, missed: true } : step));
}

/** Which counters differ between two readings of a state. */
class Growth {
  readonly #state: StateLayout;
  readonly #before: DataView;
  readonly #after: DataView;

  constructor(state: StateLayout, before: Uint8Array, after: Uint8Array) {
    this.#state = state;
    [this.#before, this.#after] = [viewOf(before), viewOf(after)];
  }

  /** Whether the counter at `offset` of the entry differs, on any CPU. */
  has(offset: number): boolean {
    for (let at = offset; at < this.#after.byteLength; at += this.#state.size)
      if (this.#before.getBigUint64(at, true) !== this.#after.getBigUint64(at, true)) return true;
    return false;
  }

  /** Names of the outcomes of a place that differ. */
  outcomes(place: string): readonly string[] {
    return this.#differing(place).filter((name) => name !== 'bytes' && name !== 'misses');
  }

  misses(place: string): boolean {
    return this.#differing(place).includes('misses');
  }

  #differing(place: string): readonly string[] {
    const block = this.#state.counters.get(place);
    return block ? block.names.filter((_, i) => this.has(block.offset + 8 * i)) : [];
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

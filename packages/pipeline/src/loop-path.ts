/**
 * The way of a test packet through a chain with loops: it counted some outcomes more than once. Its way uses up everything that was
 * counted, from the first stage to the one outcome that ended it. It holds for packets that were alone: path.ts tells the others.
 */
import { outcomeNamed } from '@tailrace/compiler';
import type { ChainVerdict } from './chain-hook.ts';
import { type Destination, edgesOf, placeIn } from './graph.ts';
import type { CountedPlan, PathStep } from './path.ts';
import { MISSES_OFFSET } from './state.ts';

/** Steps of the search for a way: orders of what was counted are many where stages have several ways back. */
const SEARCH_LIMIT = 10_000;
/** Stages on a way: what one packet can pass is far below. */
const LENGTH_LIMIT = 1_000;

/** The packet's way; `undefined` where there are several, or none. */
export function loopPathOf(
  counted: CountedPlan,
  verdict: ChainVerdict,
  before: Uint8Array,
  after: Uint8Array,
): readonly PathStep[] | undefined {
  const counts = countsBetween(counted, before, after);
  return counts && new Search(counted, verdict, counts).way();
}

/** How often each outcome was counted, and each miss; at TC a packet counts as its segments, which are the same everywhere. */
interface Counts {
  readonly outcomes: ReadonlyMap<string, Map<string, number>>;
  readonly misses: Map<string, number>;
}

/** `undefined` where the root missed, nothing was counted, or not by one packet. */
function countsBetween({ plan, state }: CountedPlan, before: Uint8Array, after: Uint8Array): Counts | undefined {
  const [was, is] = [before, after].map((bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)) as [DataView, DataView];
  const growth = (offset: number): number => {
    let sum = 0n;
    for (let at = offset; at < is.byteLength; at += state.size) sum += is.getBigUint64(at, true) - was.getBigUint64(at, true);
    return Number(sum);
  };
  const outcomes = new Map<string, Map<string, number>>();
  const misses = new Map<string, number>();
  for (const name of plan.places.keys()) {
    const block = state.counters.get(name);
    const grown = (block?.names ?? []).map((label, i) => [label, growth((block?.offset ?? 0) + 8 * i)] as const);
    outcomes.set(name, new Map(grown.filter(([label, by]) => by > 0 && label !== 'bytes' && label !== 'misses')));
    misses.set(name, grown.find(([label]) => label === 'misses')?.[1] ?? 0);
  }
  const all = [...outcomes.values()].flatMap((counts) => [...counts.values()]);
  const unit = Math.min(...all);
  if (growth(MISSES_OFFSET) !== 0 || all.length === 0 || all.some((by) => by % unit !== 0)) return undefined;
  for (const counts of outcomes.values()) for (const [label, by] of counts) counts.set(label, by / unit);
  for (const [place, by] of misses) misses.set(place, Math.ceil(by / unit));
  return { outcomes, misses };
}

class Search {
  readonly #counted: CountedPlan;
  readonly #verdict: ChainVerdict;
  readonly #counts: Counts;
  readonly #found: (readonly PathStep[])[] = [];
  #left: number;
  #steps = 0;

  constructor(counted: CountedPlan, verdict: ChainVerdict, counts: Counts) {
    this.#counted = counted;
    this.#verdict = verdict;
    this.#counts = counts;
    this.#left = [...counts.outcomes.values()].flatMap((labels) => [...labels.values()]).reduce((sum, by) => sum + by, 0);
  }

  way(): readonly PathStep[] | undefined {
    const misses = [...this.#counts.misses.values()].reduce((sum, by) => sum + by, 0);
    if (this.#left > LENGTH_LIMIT || misses > 1) return undefined;
    this.#from({ place: this.#counted.plan.first }, []);
    return this.#steps > SEARCH_LIMIT || this.#found.length !== 1 ? undefined : this.#found[0];
  }

  #from(to: Destination, path: readonly PathStep[]): void {
    if (this.#found.length > 1 || ++this.#steps > SEARCH_LIMIT || !('place' in to)) return;
    const place = placeIn(this.#counted.plan.places, to.place);
    const counts = this.#counts.outcomes.get(place.name) ?? new Map<string, number>();
    const missed = (this.#counts.misses.get(place.name) ?? 0) > 0;
    for (const [label, by] of counts) {
      if (by === 0) continue;
      counts.set(label, by - 1);
      this.#left -= 1;
      const wayOut = outcomeNamed(label);
      const step: PathStep = { stage: place.name, ...wayOut };
      const next = edgesOf(place).find((edge) => edge.label === label)?.to;
      if (next !== undefined && 'place' in next) {
        if (this.#left > 0) this.#from(next, [...path, step]);
        else if (missed && place.stage.onMiss === this.#verdict) this.#found.push([...path, { ...step, missed: true }]);
      } else if (this.#left === 0 && (next?.verdict ?? wayOut.verdict) === this.#verdict) this.#found.push([...path, step]);
      counts.set(label, by);
      this.#left += 1;
    }
  }
}

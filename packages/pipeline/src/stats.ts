/** Counters of a chain: read from the state map in one lookup, summed over CPUs, and carried on when a stage's block moves. */
import type { LoadedMap } from '@tailrace/bpf';
import { outcomeNamed, type TcVerdict, type XdpVerdict } from '@tailrace/compiler';
import { type ChainHook, type ChainVerdict, verdictNamesOf } from './chain-hook.ts';
import { type CounterBlock, MISSES_OFFSET, MISSING_OFFSET, type StateLayout, telling } from './state.ts';

/** The verdicts of a chain's stages by its name. */
export type VerdictsOf<K> = K extends 'xdp' ? XdpVerdict : TcVerdict;

/**
 * What one stage has done since the pipeline runs. A stage that was replaced counts on under its place's name. `V` are its
 * hook's verdicts; by default those that all hooks have.
 */
export interface StageStats<V extends ChainVerdict = TcVerdict> {
  /** Packets that the stage let go, whichever way. At TC a packet counts as the segments that it stands for, here and below. */
  readonly packets: bigint;
  /** Their bytes, whole packets. */
  readonly bytes: bigint;
  /** Verdicts that the stage gave itself. */
  readonly verdicts: Readonly<Record<V, bigint>>;
  /** Packets that left through `next()`, also where that ends the chain. */
  readonly next: bigint;
  /** Packets that left through each exit, by label, whatever lies behind it. */
  readonly exits: Readonly<Record<string, bigint>>;
  /** Of the verdicts `drop` and `abort`: packets by the reason that the stage gave, where it gave one. */
  readonly drops: Readonly<Record<string, bigint>>;
  /** Of `next` and `exits`: tail calls that found their slot empty or were one too many, and ended with the stage's `onMiss`. */
  readonly misses: bigint;
}

/** What the attached program of a chain has done. */
export interface RootStats {
  /** Packets that found no first stage, and passed. */
  readonly misses: bigint;
  /** TC ingress: packets that came without the metadata that XDP sends; its fields were 0 for them. */
  readonly withoutMetadata: bigint;
}

/** A snapshot: the stages of each chain by name, as the pipeline's layout `L` names them. */
export type Stats<L> = { readonly [K in keyof L]: { readonly [N in L[K] & string]: StageStats<VerdictsOf<K>> } } & {
  /** The programs that are attached, by chain. */
  readonly roots: { readonly [K in keyof L]: RootStats };
  /** Records that found their ring full. */
  readonly lost: Lost;
};

/** Records of `trace$` and `drops$` that found their ring full since the pipeline runs. */
export interface Lost {
  readonly trace: bigint;
  readonly drops: bigint;
}

/** Adds up what chains lost. */
export function sumOf(all: readonly Lost[]): Lost {
  return all.reduce((sum, { trace, drops }) => ({ trace: sum.trace + trace, drops: sum.drops + drops }), { trace: 0n, drops: 0n });
}

/** A snapshot of one chain. */
export interface ChainStats {
  readonly stages: Readonly<Record<string, StageStats>>;
  readonly root: RootStats;
  readonly lost: Lost;
}

/** Counts by place and name that no block of the state has, or that a block has too many where they are negative. */
export type CarriedCounts = ReadonlyMap<string, ReadonlyMap<string, bigint>>;

/** Names records that were lost, beside the places; no stage can be called so. */
const LOST = '(lost)';

/** What is counted in a state, by place. */
function blocksOf({ counters, telling: start }: StateLayout): ReadonlyMap<string, CounterBlock> {
  return start === undefined ? counters : new Map([...counters, [LOST, { offset: start + telling.traceLost, names: ['trace', 'drops'] }]]);
}

/** Reads the counters of one chain. */
export class ChainCounters {
  readonly #hook: ChainHook;
  readonly #map: LoadedMap;
  /** By place: counts of blocks that are no longer written, and of whoever wrote the present block's bytes before. */
  readonly #carried = new Map<string, Map<string, bigint>>();
  #blocks: ReadonlyMap<string, CounterBlock>;
  /** Made by whatever reads the map next: blocks that nobody writes any more stay what they are. */
  #due: ((totals: Totals) => void) | undefined;

  /** `carried` is what another's counters had carried of the same map. */
  constructor(hook: ChainHook, map: LoadedMap, state: StateLayout, carried: CarriedCounts = new Map()) {
    this.#hook = hook;
    this.#map = map;
    this.#blocks = blocksOf(state);
    for (const [place, counts] of carried) this.#carried.set(place, new Map(counts));
  }

  /** By place: what is to be added to its block's counts. Throws what reading the map does. */
  get carried(): CarriedCounts {
    if (this.#due) this.#totals();
    return this.#carried;
  }

  /** Counters of programs that run beside those of this layout, in blocks of their own, from a baseline on. */
  besides(state: StateLayout, baseline: ReadonlyMap<string, readonly bigint[]>): ChainCounters {
    const counters = new ChainCounters(this.#hook, this.#map, state);
    for (const [place, values] of baseline) counters.#carry(place, counters.#blocks.get(place)?.names ?? [], values, -1n);
    return counters;
  }

  /**
   * Goes over to another layout; call it when no program writes the old one's blocks any more. Places that are not in it are
   * forgotten where `forgets` says so.
   */
  move(state: StateLayout, baseline: ReadonlyMap<string, readonly bigint[]>, forgets: boolean): void {
    const blocks = blocksOf(state);
    this.#due = (totals) => {
      for (const [place, block] of this.#blocks)
        if (blocks.get(place)?.offset !== block.offset) this.#carry(place, block.names, blockValues(totals, block), 1n);
      if (forgets) for (const place of this.#carried.keys()) if (!blocks.has(place)) this.#carried.delete(place);
      for (const [place, values] of baseline) this.#carry(place, blocks.get(place)?.names ?? [], values, -1n);
      this.#blocks = blocks;
    };
  }

  /** What lies in the new blocks of a layout before its programs run: to be taken off later. */
  baseline(state: StateLayout): ReadonlyMap<string, readonly bigint[]> {
    const totals = this.#totals();
    const fresh = [...blocksOf(state)].filter(([place, block]) => this.#blocks.get(place)?.offset !== block.offset);
    return new Map(fresh.map(([place, block]) => [place, blockValues(totals, block)]));
  }

  /** All places that ever were, in order. */
  read(): ChainStats {
    const totals = this.#totals();
    const places = new Set([...this.#blocks.keys(), ...this.#carried.keys()]);
    places.delete(LOST);
    const stages = Object.fromEntries([...places].map((place) => [place, this.#stage(place, totals)]));
    const withoutMetadata = this.#hook === 'tcIngress' ? totals(MISSING_OFFSET) : 0n;
    return { stages, root: { misses: totals(MISSES_OFFSET), withoutMetadata }, lost: this.#lost(totals) };
  }

  /** Records that were lost, alone. */
  lost(): Lost {
    return this.#lost(this.#totals());
  }

  /** The entry as it is, one copy for each CPU. */
  snapshot(): Uint8Array {
    return this.#map.lookup(new Uint8Array(this.#map.spec.keySize)) ?? new Uint8Array(this.#map.valueStride);
  }

  #stage(place: string, totals: Totals): StageStats {
    const { bytes = 0n, misses = 0n, ...outcomes } = Object.fromEntries(this.#counts(place, totals));
    const verdicts: Record<string, bigint> = Object.fromEntries(verdictNamesOf(this.#hook).map((name) => [name, 0n]));
    const [exits, drops]: [Record<string, bigint>, Record<string, bigint>] = [{}, {}];
    let [packets, next] = [0n, 0n];
    const add = (to: Record<string, bigint>, name: string, count: bigint): unknown => (to[name] = (to[name] ?? 0n) + count);
    for (const [name, count] of Object.entries(outcomes)) {
      const { verdict, exit, reason } = outcomeNamed(name);
      packets += count;
      if (verdict === 'next') next = count;
      else if (exit !== undefined) add(exits, exit, count);
      else add(verdicts, verdict, count);
      if (reason !== undefined) add(drops, reason, count);
    }
    return { packets, bytes, verdicts: verdicts as Record<TcVerdict, bigint>, next, exits, drops, misses };
  }

  #counts(place: string, totals: Totals): ReadonlyMap<string, bigint> {
    const counts = new Map(this.#carried.get(place));
    const block = this.#blocks.get(place);
    const values = block ? blockValues(totals, block) : [];
    for (const [i, name] of (block?.names ?? []).entries()) counts.set(name, (counts.get(name) ?? 0n) + (values[i] ?? 0n));
    return counts;
  }

  #lost(totals: Totals): Lost {
    const counts = this.#counts(LOST, totals);
    return { trace: counts.get('trace') ?? 0n, drops: counts.get('drops') ?? 0n };
  }

  #carry(place: string, names: readonly string[], values: readonly bigint[], sign: bigint): void {
    const counts = this.#carried.get(place) ?? new Map<string, bigint>();
    for (const [i, name] of names.entries()) counts.set(name, (counts.get(name) ?? 0n) + sign * (values[i] ?? 0n));
    this.#carried.set(place, counts);
  }

  #totals(): Totals {
    const size = this.#map.spec.valueSize;
    const bytes = this.snapshot();
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const totals: Totals = (offset) => {
      let sum = 0n;
      for (let at = offset; at < bytes.length; at += size) sum += view.getBigUint64(at, true);
      return sum;
    };
    this.#due?.(totals);
    this.#due = undefined;
    return totals;
  }
}

/** The u64 at an offset of the entry, summed over CPUs. */
type Totals = (offset: number) => bigint;

function blockValues(totals: Totals, { offset, names }: CounterBlock): readonly bigint[] {
  return names.map((_, i) => totals(offset + 8 * i));
}

/**
 * Chain state: one entry of a per-CPU array for each chain, and what lies where in it. The packet's length and the root's
 * misses come first, then metadata by falling alignment, then the counters of each stage. The entry's size is fixed for the
 * life of a chain, since the root names its map: some room is kept for stages that come later.
 */
import { counterNames, type Placement } from '@tailrace/compiler';
import type { Layout } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import type { Place } from './graph.ts';
import type { ChainPlan } from './plan.ts';

/** The largest value of a per-CPU map: PCPU_MIN_UNIT_SIZE (include/linux/percpu.h). */
export const MAX_STATE_BYTES = 32_768;
/** Room for stages that replace others. */
const RESERVE_BYTES = 1024;

/** Offset of the packet's length, u64. */
export const LENGTH_OFFSET = 0;
/** Offset of the packets that found the root's slot empty, u64. */
export const MISSES_OFFSET = 8;
const HEADER_BYTES = 16;

/** The counters of one place. */
export interface CounterBlock {
  /** Bytes from the entry's start, a multiple of 8. */
  readonly offset: number;
  /** Names in memory order, each a u64. */
  readonly names: readonly string[];
}

/** What lies where. */
export interface StateLayout {
  /** Bytes of the entry. */
  readonly size: number;
  readonly fields: ReadonlyMap<string, { readonly layout: Layout; readonly offset: number }>;
  /** By place. */
  readonly counters: ReadonlyMap<string, CounterBlock>;
}

/**
 * Lays out the state of a plan. With `previous`, whatever stays keeps its offset, and what is new avoids all that is
 * there: packets in flight may still write it. Throws ChainError where the room does not suffice.
 */
export function layoutState(plan: ChainPlan, previous?: StateLayout): StateLayout {
  const taken = previous ? occupied(previous) : [{ start: 0, end: HEADER_BYTES }];
  const size = previous?.size ?? MAX_STATE_BYTES;
  const allocate = (what: string, bytes: number, align: number): number => {
    const offset = firstGap(taken, bytes, align);
    if (offset + bytes > size)
      throw new ChainError('state', `the chain's state has no room for ${what}: ${bytes} bytes, of ${size}`, fullHint);
    taken.push({ start: offset, end: offset + bytes });
    return offset;
  };
  const fields = new Map<string, { readonly layout: Layout; readonly offset: number }>();
  for (const [name, layout] of [...plan.fields].sort(([, a], [, b]) => b.align - a.align)) {
    const kept = previous?.fields.get(name);
    const keeps = kept !== undefined && kept.layout.size === layout.size && kept.layout.align === layout.align;
    fields.set(name, { layout, offset: keeps ? kept.offset : allocate(`metadata '${name}'`, layout.size, layout.align) });
  }
  const counters = new Map<string, CounterBlock>();
  for (const place of plan.places.values()) {
    const names = counterNames('xdp', Object.keys(place.exits));
    const kept = previous?.counters.get(place.name);
    const keeps = kept !== undefined && kept.names.join() === names.join();
    counters.set(place.name, keeps ? kept : { names, offset: allocate(`the counters of '${place.name}'`, names.length * 8, 8) });
  }
  const end = Math.max(...taken.map((range) => range.end));
  return { size: previous?.size ?? Math.min(MAX_STATE_BYTES, Math.ceil((end + RESERVE_BYTES) / 8) * 8), fields, counters };
}

/** The part of the state that one stage's program names. */
export function statePlacement(state: StateLayout, place: Place, map: string): Pick<Placement, 'state' | 'metadata'> {
  const names = new Set([...Object.keys(place.stage.reads), ...Object.keys(place.stage.writes)]);
  const counters = state.counters.get(place.name)?.offset;
  return {
    state: { map, length: LENGTH_OFFSET, ...(counters === undefined ? {} : { counters }) },
    metadata: Object.fromEntries([...state.fields].filter(([name]) => names.has(name))),
  };
}

interface Range {
  readonly start: number;
  readonly end: number;
}

const fullHint = { hint: `a chain's counters and metadata share ${MAX_STATE_BYTES} bytes; stop and run the pipeline anew to pack them` };

function occupied({ fields, counters }: StateLayout): Range[] {
  return [
    { start: 0, end: HEADER_BYTES },
    ...[...fields.values()].map(({ offset, layout }) => ({ start: offset, end: offset + layout.size })),
    ...[...counters.values()].map(({ offset, names }) => ({ start: offset, end: offset + names.length * 8 })),
  ];
}

/** The lowest aligned offset with `bytes` free. */
function firstGap(taken: readonly Range[], bytes: number, align: number): number {
  let offset = 0;
  for (const { start, end } of [...taken].sort((a, b) => a.start - b.start)) {
    if (offset + bytes <= start) return offset;
    offset = Math.max(offset, Math.ceil(end / align) * align);
  }
  return offset;
}

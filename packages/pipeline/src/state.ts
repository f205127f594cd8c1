/**
 * What a chain keeps, and where. Its state is one entry of a per-CPU array: words of the root's, at XDP the metadata by
 * falling alignment, then the counters of each stage. At TC metadata lie with the packet, in `__sk_buff.cb`, those that
 * come from XDP first. The entry's size is fixed for the life of a chain, since the root names its map: some room is kept
 * for stages that come later.
 */
import { CB_BYTES, counterNames, type Placement } from '@tailrace/compiler';
import type { Layout } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { programHook } from './chain-hook.ts';
import type { Place } from './graph.ts';
import type { ChainPlan } from './plan.ts';

/** The largest value of a per-CPU map: PCPU_MIN_UNIT_SIZE (include/linux/percpu.h). */
export const MAX_STATE_BYTES = 32_768;
/** Room for stages that replace others, beside as much as there is already: an update may replace them all. */
const RESERVE_BYTES = 4096;

/** XDP: offset of the packet's length, u64. */
export const LENGTH_OFFSET = 0;
/** TC ingress: offset of the packets that came without the metadata that XDP sends, u64. */
export const MISSING_OFFSET = 0;
/** Offset of the packets that found the root's slot empty, u64. */
export const MISSES_OFFSET = 8;
const HEADER_BYTES = 16;
/**
 * What traces and drops keep, from `StateLayout.telling` on: records that found their ring full, u64; all others u32. XDP has the mark
 * of a packet that is traced there; at TC the last word of `cb` is.
 */
export const telling = { traceLost: 0, dropsLost: 8, traceCountdown: 16, traceSequence: 20, dropsCountdown: 24, mark: 28 } as const;
const TELLING_BYTES = 32;

/** The counters of one place. */
export interface CounterBlock {
  /** Bytes from the entry's start, a multiple of 8. */
  readonly offset: number;
  /** Names in memory order, each a u64. */
  readonly names: readonly string[];
}

/** A metadata field in the state or in `cb`. */
export interface FieldPlace {
  readonly layout: Layout;
  readonly offset: number;
}

/** What lies where. */
export interface StateLayout {
  /** Bytes of the entry. */
  readonly size: number;
  /** Metadata: in the entry at XDP, in `cb` at TC. */
  readonly fields: ReadonlyMap<string, FieldPlace>;
  /** By place; none where counters are off. */
  readonly counters: ReadonlyMap<string, CounterBlock>;
  /** Offset of what traces and drops keep; undefined where neither was asked for yet. */
  readonly telling: number | undefined;
}

/** What a state has to do with another one, and with other chains. */
export interface LayoutOptions {
  /** What lies there now. Whatever stays keeps its offset, and what is new avoids all of it: packets in flight may still write it. */
  readonly previous?: StateLayout | undefined;
  /** No packet meets programs of both layouts: at TC, where metadata lie with the packet, they are laid out anew. */
  readonly apart?: boolean;
  /** Counts of both layouts are told apart: no counters keep their place. */
  readonly countsApart?: boolean;
  /** Fields that TC ingress gets from XDP. */
  readonly crossing?: readonly string[];
  /** What else needs room; default counters alone. */
  readonly observation?: Observed;
}

/** What is counted and told. */
export interface Observed {
  readonly counters: boolean;
  readonly trace?: object | undefined;
  readonly drops?: object | undefined;
}

/** Lays out the state of a plan. Throws ChainError where the room does not suffice. */
export function layoutState(
  plan: ChainPlan,
  { previous, apart = false, countsApart = false, crossing = [], observation = { counters: true } }: LayoutOptions = {},
): StateLayout {
  const tells = observation.trace !== undefined || observation.drops !== undefined;
  const header = { start: 0, end: HEADER_BYTES };
  const entry = new Room([header, ...(previous ? occupied(plan, previous) : [])], previous?.size ?? MAX_STATE_BYTES, {
    what: "the chain's state",
    hint: `a chain's counters and metadata share ${MAX_STATE_BYTES} bytes; stop and run the pipeline anew to pack them`,
  });
  const told = previous?.telling ?? (tells ? entry.take('what traces and drops keep', TELLING_BYTES, 8) : undefined);
  const packetsMet = apart && plan.hook !== 'xdp' ? undefined : previous;
  const fields = layoutFields(
    plan,
    plan.hook === 'xdp' ? entry : controlBlock(packetsMet, observation.trace !== undefined),
    packetsMet,
    crossing,
  );
  const counters = new Map<string, CounterBlock>();
  for (const place of observation.counters ? plan.places.values() : []) {
    const names = outcomeNames(plan, place);
    const kept = previous?.counters.get(place.name);
    const keeps = !countsApart && kept !== undefined && kept.names.join() === names.join();
    counters.set(place.name, keeps ? kept : { names, offset: entry.take(`the counters of '${place.name}'`, names.length * 8, 8) });
  }
  const size = previous?.size ?? Math.min(MAX_STATE_BYTES, 2 * Math.ceil(entry.end / 8) * 8 + RESERVE_BYTES);
  return { size, fields, counters, telling: told };
}

/** The outcomes of a place, as they are counted and told. */
export function outcomeNames({ hook }: ChainPlan, { exits, outcomes }: Place): readonly string[] {
  return counterNames(programHook(hook), Object.keys(exits), outcomes.reasons);
}

/** The part of the state that one stage's program names. */
export function statePlacement(plan: ChainPlan, state: StateLayout, place: Place, map: string): Pick<Placement, 'state' | 'metadata'> {
  const names = new Set([...Object.keys(place.stage.reads), ...Object.keys(place.stage.writes)]);
  const counters = state.counters.get(place.name)?.offset;
  return {
    state: { map, ...(plan.hook === 'xdp' ? { length: LENGTH_OFFSET } : {}), ...(counters === undefined ? {} : { counters }) },
    metadata: Object.fromEntries([...state.fields].filter(([name]) => names.has(name))),
  };
}

/** Crossing fields first, so that they fill whole words from `cb`'s start; then by falling alignment. */
function layoutFields(
  plan: ChainPlan,
  room: Room,
  previous: StateLayout | undefined,
  crossing: readonly string[],
): ReadonlyMap<string, FieldPlace> {
  const fields = new Map<string, FieldPlace>();
  const rank = (name: string): number => (crossing.includes(name) ? 0 : 1);
  for (const [name, layout] of [...plan.fields].sort(([a, x], [b, y]) => rank(a) - rank(b) || y.align - x.align)) {
    const kept = previous?.fields.get(name);
    const keeps = kept !== undefined && kept.layout.size === layout.size && kept.layout.align === layout.align;
    fields.set(name, { layout, offset: keeps ? kept.offset : room.take(`metadata '${name}'`, layout.size, layout.align) });
  }
  return fields;
}

function controlBlock(previous: StateLayout | undefined, isMarked: boolean): Room {
  const mark = isMarked ? [{ start: CB_BYTES - 4, end: CB_BYTES }] : [];
  return new Room([...fieldRanges(previous), ...mark], CB_BYTES, {
    what: '__sk_buff.cb',
    hint: `a chain's metadata at TC, with those that come from XDP${isMarked ? ' and 4 bytes for traces' : ''}, share ${CB_BYTES} bytes`,
  });
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Bytes of which some are taken. */
class Room {
  readonly #taken: Range[];
  readonly #size: number;
  readonly #about: { readonly what: string; readonly hint: string };

  constructor(taken: readonly Range[], size: number, about: { readonly what: string; readonly hint: string }) {
    this.#taken = [...taken];
    this.#size = size;
    this.#about = about;
  }

  /** Behind the last byte that is taken. */
  get end(): number {
    return Math.max(0, ...this.#taken.map((range) => range.end));
  }

  /** Takes the lowest aligned place. Throws ChainError where there is none. */
  take(what: string, bytes: number, align: number): number {
    const start = this.#gap(bytes, align);
    const { what: where, hint } = this.#about;
    if (start + bytes > this.#size)
      throw new ChainError('state', `${where} has no room for ${what}: ${bytes} bytes, of ${this.#size}`, { hint });
    this.#taken.push({ start, end: start + bytes });
    return start;
  }

  #gap(bytes: number, align: number): number {
    let offset = 0;
    for (const { start, end } of [...this.#taken].sort((a, b) => a.start - b.start)) {
      if (offset + bytes <= start) return offset;
      offset = Math.max(offset, Math.ceil(end / align) * align);
    }
    return offset;
  }
}

function occupied({ hook }: ChainPlan, state: StateLayout): Range[] {
  return [
    ...(hook === 'xdp' ? fieldRanges(state) : []),
    ...(state.telling === undefined ? [] : [{ start: state.telling, end: state.telling + TELLING_BYTES }]),
    ...[...state.counters.values()].map(({ offset, names }) => ({ start: offset, end: offset + names.length * 8 })),
  ];
}

function fieldRanges(state: StateLayout | undefined): Range[] {
  return [...(state?.fields.values() ?? [])].map(({ offset, layout }) => ({ start: offset, end: offset + layout.size }));
}

/**
 * How a stage sits in a chain: where each of its edges leads, and where in the chain's state its counters and
 * metadata lie. The pipeline plans it; the compiler turns it into constants.
 *
 * Chain state is one per-CPU array entry for each chain. The kernel runs a packet's whole way through a chain on one
 * CPU without preemption, so the entry serves as scratch memory for the packet (its length, its metadata) and holds
 * every stage's counters: one lookup a stage, all offsets constant.
 */
import type { Layout } from '@tailrace/stage';

/** Verdicts of XDP by name; the order is the kernel's (enum xdp_action). */
export const XdpVerdict = { abort: 0, drop: 1, pass: 2, tx: 3, redirect: 4 } as const;
export type XdpVerdict = keyof typeof XdpVerdict;

/** Where `next()` or an exit leads: to a slot of the chain's program array, or out of the chain with a verdict. */
export type Edge = { readonly slot: number } | { readonly verdict: 'abort' | 'drop' | 'pass' | 'tx' };

/** Where a chain keeps what: byte offsets into the one value of its state map. */
export interface StatePlacement {
  /** Name by which programs refer to the state map (a per-CPU array with one entry). */
  readonly map: string;
  /** The packet's length, u64: the root writes it, stages that move the packet's ends keep it true. Absent: stages ask the kernel. */
  readonly length?: number;
  /** This stage's counters: see `counterNames`. Absent: counters are off. */
  readonly counters?: number;
  /** The metadata fields that this stage reads or writes. */
  readonly fields: Readonly<Record<string, { readonly layout: Layout; readonly offset: number }>>;
}

export interface Placement {
  /** Name by which programs refer to the chain's program array. */
  readonly array: string;
  readonly next: Edge;
  /** One edge for each label that the body leaves through. */
  readonly exits: Readonly<Record<string, Edge>>;
  readonly state?: StatePlacement;
}

/** The counters of an XDP stage in memory order, each a u64: `bytes` and `misses`, then one for each outcome. */
export function counterNames(exits: readonly string[]): readonly string[] {
  return ['bytes', 'misses', ...Object.keys(XdpVerdict), 'next', ...exits.map((label) => `exit:${label}`)];
}

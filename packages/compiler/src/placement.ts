/**
 * How a stage sits in a chain: where each of its edges leads, and where its counters and metadata lie. The pipeline plans
 * it; the compiler turns it into constants.
 *
 * Chain state is one per-CPU array entry for each chain. The kernel runs a packet's whole way through a chain on one
 * CPU without preemption, so the entry serves as scratch memory for the packet (its length at XDP, its metadata there) and
 * holds every stage's counters: one lookup a stage, all offsets constant. At TC a program may send a copy of its packet
 * through the same chain (`ctx.clone`), so metadata lie with the packet, in `__sk_buff.cb`.
 */
import type { Layout } from '@tailrace/stage';

/** The kinds of program that chains are made of. */
export type ProgramHook = 'xdp' | 'tc' | 'skSkb' | 'skMsg' | 'sockOps';

/** Verdicts of XDP by name; the order is the kernel's (enum xdp_action). */
export const XdpVerdict = { abort: 0, drop: 1, pass: 2, tx: 3, redirect: 4 } as const;
export type XdpVerdict = keyof typeof XdpVerdict;

/**
 * Verdicts of TC by name: TCX_NEXT, TCX_DROP and TCX_REDIRECT, which clsact knows by the same numbers (TC_ACT_UNSPEC,
 * TC_ACT_SHOT, TC_ACT_REDIRECT). `pass` lets programs of others on the interface run.
 */
export const TcVerdict = { pass: -1, drop: 2, redirect: 7 } as const;
export type TcVerdict = keyof typeof TcVerdict;

/** Verdicts on a socket's data by name (enum sk_action): a redirect is a pass that a helper has given a target. */
export const SocketVerdict = { drop: 0, pass: 1, redirect: 1 } as const;
export type SocketVerdict = keyof typeof SocketVerdict;

/** What a program on a socket's events returns: nobody looks at it but to know that it is there. */
export const SockOpsVerdict = { pass: 1 } as const;

/** The verdicts of each hook. */
export const hookVerdicts = {
  xdp: XdpVerdict,
  tc: TcVerdict,
  skSkb: SocketVerdict,
  skMsg: SocketVerdict,
  sockOps: SockOpsVerdict,
} as const;

/**
 * Where `next()` or an exit leads: to a slot of the chain's program array, out of the chain with a verdict, or, in a fused
 * program, to another of its parts by name. A fused program keeps metadata to itself: what the programs behind a slot need
 * of them it `carries`.
 */
export type Edge =
  | { readonly slot: number; readonly carries?: readonly MetadataPlace[] }
  | { readonly verdict: 'abort' | 'drop' | 'pass' | 'tx' }
  | { readonly part: string };

/** A metadata field: bytes from the start of the state's entry (XDP), or of `__sk_buff.cb` (TC). */
export interface MetadataPlace {
  readonly layout: Layout;
  readonly offset: number;
}

/** Where a chain keeps what: byte offsets into the one value of its state map. */
export interface StatePlacement {
  /** Name by which programs refer to the state map (a per-CPU array with one entry). */
  readonly map: string;
  /** XDP: the packet's length, u64: the root writes it, stages that move the packet's ends keep it true. Absent: stages ask the kernel. */
  readonly length?: number;
  /** This stage's counters: see `counterNames`. Absent: counters are off. */
  readonly counters?: number;
}

/** Where records go. */
export interface RecordRing {
  /** Name by which programs refer to the ring buffer. */
  readonly map: string;
  /** Offset in the state of a u64 that counts records which found the ring full. */
  readonly lost: number;
  /** Bytes of the packet that go along, 0..MAX_HEADER_BYTES. */
  readonly headerBytes: number;
}

/** What a stage tells of single packets; needs a state. */
export interface ObservePlacement {
  /** The stage's number in records. */
  readonly place: number;
  /** Of packets that the root marked, every way out. `mark`: where, a u32 in the state at XDP, in `cb` at TC. */
  readonly trace?: RecordRing & { readonly mark: number };
  /** Of those that end in a drop or abort, each, or one in `every`: `countdown` is the offset of a u32 in the state. */
  readonly drops?: RecordRing & { readonly every: number; readonly countdown: number };
}

/** How a root marks packets: one in `every`. All but TC's `mark`, which is an offset in `cb`, are offsets of u32 in the state. */
export interface TraceRoot {
  readonly every: number;
  readonly mark: number;
  readonly countdown: number;
  readonly sequence: number;
}

/** Bytes of `__sk_buff.cb`. */
export const CB_BYTES = 20;

/**
 * Metadata that go from XDP to TC ingress in `data_meta`: a tag, u32, that tells them from those of others, and `words` more
 * u32, laid out as in `__sk_buff.cb`.
 */
export interface Crossing {
  readonly tag: number;
  /** 1..5. */
  readonly words: number;
  /** XDP: what goes where. `from` is the field's offset in the state, `to` that in `cb`. */
  readonly fields: readonly { readonly name: string; readonly from: number; readonly to: number; readonly size: number }[];
}

export interface Placement {
  /** Name by which programs refer to the chain's program array. */
  readonly array: string;
  readonly next: Edge;
  /** One edge for each label that the body leaves through. */
  readonly exits: Readonly<Record<string, Edge>>;
  /** The reasons of drops and aborts that are counted for themselves, as in `StageOutcomes`; default none. */
  readonly reasons?: readonly string[];
  readonly state?: StatePlacement;
  readonly observe?: ObservePlacement;
  /** The metadata fields that this stage reads or writes: in the state at XDP, in `cb` at TC. */
  readonly metadata?: Readonly<Record<string, MetadataPlace>>;
  /** XDP: what is put in front of packets that this stage lets out of the chain by `pass`, itself or along an edge. */
  readonly crossing?: Crossing;
}

/**
 * The counters of a stage in memory order, each a u64: `bytes` and `misses`, then one for each outcome. At TC outcomes count
 * segments. A drop for a reason is counted as `drop:` with the reason, and only there.
 */
export function counterNames(hook: ProgramHook, exits: readonly string[], reasons: readonly string[] = []): readonly string[] {
  return ['bytes', 'misses', ...Object.keys(hookVerdicts[hook]), 'next', ...exits.map((label) => `exit:${label}`), ...reasons];
}

/** What the name of an outcome says. */
export interface NamedOutcome {
  /** `next`, `exit`, or the verdict. */
  readonly verdict: XdpVerdict | TcVerdict | 'exit' | 'next';
  /** The label, where the verdict is `exit`. */
  readonly exit?: string;
  /** Why, where the verdict is `drop` or `abort` and the stage says so. */
  readonly reason?: string;
}

/** Reads the name of an outcome's counter. */
export function outcomeNamed(name: string): NamedOutcome {
  const colon = name.indexOf(':');
  if (colon < 0) return { verdict: name as NamedOutcome['verdict'] };
  const [verdict, label] = [name.slice(0, colon) as NamedOutcome['verdict'], name.slice(colon + 1)];
  return verdict === 'exit' ? { verdict, exit: label } : { verdict, reason: label };
}

/** Stages: one eBPF program each, declared as a value. Compiling and loading them are other packages' work. */
import { ArgumentError } from '@tailrace/bpf';
import type { Contexts } from './context.ts';
import type { Hook, Verdict } from './hook.ts';
import type { AnyStage, Wiring } from './member.ts';
import type { Bag, Checked, Empty, phantom } from './resource.ts';
import { hasBytes, type Schemas } from './schema.ts';
import { checkHook, checkStageName, stageOf } from './stage-value.ts';
import type { AnyTraits, MetaView, ReadsBy, TraitsOf } from './traits.ts';
import { checkUses } from './uses.ts';
import type { CheckWiring, HookWired, Wired } from './wiring.ts';

/** What a stage uses, by name. */
export type Uses = Readonly<Record<string, unknown>>;

/** One eBPF program: its name, hook, exits still to be wired, metadata, and what its body uses. Frozen. */
export interface Stage<N extends string, H extends Hook, X extends string, M extends AnyTraits, U extends Uses> extends AnyStage {
  readonly name: N;
  readonly hook: H;
  readonly uses: U;
  readonly [phantom]: { readonly exits: X; readonly traits: M };
  /** Wires exits: to a verdict, to `'next'` (rejoin the chain), to a stage, or to a sub-chain. Throws ArgumentError for a target that does not fit. */
  on<const W extends Wiring<X, H>>(
    wiring: Checked<W, CheckWiring<N, H, X, W>>,
  ): Stage<N, HookWired<H, W>, Exclude<X, keyof W>, Wired<M, W>, U>;
  /** The same stage under another name, so that it can stand in a chain twice. */
  as<const As extends string>(name: As): Stage<As, H, X, M, U>;
  /**
   * The same program at another hook, e.g. `acl.at('tcIngress')`. What its body asks of `ctx` must be there too: the
   * compiler tells. Throws ArgumentError for a hook that there is none of.
   */
  at<const At extends Hook>(hook: At): Stage<N, At, X, M, U>;
  /** The same stage with other constants, or bound to other maps of the same schema. Throws ConflictError where a schema differs. */
  with(uses: { readonly [K in keyof U]?: U[K] }): Stage<N, H, X, M, U>;
}

/**
 * Declares a stage. `X`, its exits, is inferred from what `program` returns.
 * Throws ArgumentError for a name, hook or uses that no pipeline can take.
 */
export function stage<
  const N extends string,
  H extends Hook,
  X extends string = never,
  U extends Uses = Empty,
  R extends Schemas = Empty,
  W extends Schemas = Empty,
>(definition: {
  /** A letter, then letters, digits and `_`; unique in a chain. Dots join it to its function's name. */
  readonly name: N;
  readonly hook: H;
  /** Maps, structures, fns, schemas and constants: everything the body names, next to `ctx`. */
  readonly uses?: U;
  /** Metadata that an earlier stage has to write. */
  readonly reads?: R;
  /** Metadata that this stage writes. */
  readonly writes?: W;
  /** What a tail call counts as that finds its slot empty; `pass` unless said otherwise, guards say `drop`. */
  readonly onMiss?: 'pass' | 'drop';
  readonly program: (this: void, ctx: Contexts<MetaView<R, W>>[H], bag: Bag<U>) => Verdict<NoInfer<H>, X>;
}): Stage<N, H, X, TraitsOf<ReadsBy<keyof R, N>, keyof W & string, never>, U> {
  const { name, hook, uses = {}, reads = {}, writes = {}, onMiss = 'pass', program } = definition;
  checkStageName(name);
  const owner = `stage '${name}'`;
  checkHook(owner, hook);
  if (typeof program !== 'function') throw new ArgumentError(`${owner}: program is ${typeof program}, expected a function`);
  if (onMiss !== 'pass' && onMiss !== 'drop') throw new ArgumentError(`${owner}: onMiss is '${String(onMiss)}', expected 'pass' or 'drop'`);
  return stageOf({
    name,
    hook,
    onMiss,
    program,
    uses: checkUses(owner, uses),
    reads: checkMetadata(`${owner}: reads`, reads),
    writes: checkMetadata(`${owner}: writes`, writes),
    wiring: Object.freeze({}),
  }) as unknown as Stage<N, H, X, TraitsOf<ReadsBy<keyof R, N>, keyof W & string, never>, U>;
}

function checkMetadata(path: string, schemas: Schemas): Schemas {
  for (const [name, { layout }] of Object.entries(schemas)) {
    if (!/^[A-Za-z_]\w*$/.test(name)) throw new ArgumentError(`${path}: field name '${name}', expected a C identifier`);
    if (!hasBytes(layout)) throw new ArgumentError(`${path}.${name} is ${layout.kind}, expected a schema with bytes`);
  }
  return Object.freeze({ ...schemas });
}

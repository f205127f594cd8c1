/** What stands in a chain or behind an exit: stages and functions, without their type parameters, and targets. */
import type { ProgramSpec } from '@tailrace/bpf';
import type { ContainerModule } from 'inversify';
import type { BackTo } from './back-to.ts';
import type { ChainKey, Hook, VerdictNames } from './hook.ts';
import type { parts, phantom } from './resource.ts';
import type { Schemas } from './schema.ts';
import type { Need } from './token.ts';
import type { AnyTraits } from './traits.ts';

/** A stage of whatever name, hook and exits: what the compiler and the pipeline read. */
export interface AnyStage {
  readonly kind: 'stage';
  readonly name: string;
  readonly hook: Hook;
  /** Maps, structures, fns, schemas and constants, frozen. */
  readonly uses: Readonly<Record<string, unknown>>;
  /** Metadata that an earlier stage writes. */
  readonly reads: Schemas;
  /** Metadata that this stage writes. */
  readonly writes: Schemas;
  /** The body: `(ctx, uses) => verdict`. Its source is compiled; it also runs as it is over a simulated ctx. */
  readonly program: (this: void, ...args: never) => unknown;
  /** Set: the program comes out of an object, and `program` only says so. */
  readonly object?: StageObject;
  /** The verdict of a tail call that found an empty slot. */
  readonly onMiss: 'pass' | 'drop';
  /** Exits that were wired, by label. */
  readonly wiring: Readonly<Record<string, AnyTarget>>;
  readonly [phantom]: { readonly exits: string; readonly traits: AnyTraits };
}

/** The program of a stage that comes out of an object. */
export interface StageObject {
  /** Linked. Its maps go by the names that they have in the stage's `uses`. */
  readonly spec: ProgramSpec;
  /** Return values, as unsigned 32-bit numbers, and where they lead: `next`, or `exit:` with a label. All others are verdicts. */
  readonly ways: ReadonlyMap<number, string>;
  /** The verdict that leads to the next stage; undefined where none does. */
  readonly next: string | undefined;
  /** Throws ArgumentError for a hook that the program was not made for; `owner` starts the message. */
  checkHook(owner: string, hook: Hook): void;
  /**
   * What is bound, and the object's own maps under all other names. Throws ConflictError for a map that is not what the program
   * was compiled for, ArgumentError for a name that the object does not know; `owner` starts the message.
   */
  complete(owner: string, bound: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>;
}

/**
 * What a function puts into one chain: its stages' names, the exits they leave open, their traits as a whole.
 * `behind` holds what a user wired to those exits: such stages keep their plain names. Types only.
 */
export interface Part<Names extends string, X extends string, M extends AnyTraits> {
  readonly [phantom]: { readonly names: Names; readonly exits: X; readonly traits: M };
}
/** A part of whatever names. */
export type AnyPart = Part<string, string, AnyTraits>;
/** What a function puts into its chains. */
export type AnyParts = { readonly [K in ChainKey]?: AnyPart };

/** A function's stages by chain, in order. */
export type FunctionStages = { readonly [K in ChainKey]?: readonly AnyStage[] };

/** How a controller is made, as the composition root sees it. */
export interface ControllerRecipe {
  /** Maps and structures give handles, tokens and classes give services. */
  readonly needs: Readonly<Record<string, Need>>;
  /** Called once with what `needs` names, by the same names. */
  create(needs: Readonly<Record<string, unknown>>): unknown;
}

/** A network function of whatever name, controller and stages. */
export interface AnyFunction {
  readonly kind: 'function';
  readonly name: string;
  readonly stages: FunctionStages;
  /** Exits of its stages that were wired from outside, by label. */
  readonly wiring: Readonly<Record<string, AnyTarget>>;
  readonly controller: ControllerRecipe | undefined;
  /** Default bindings of its services. */
  readonly services: ContainerModule | undefined;
  readonly [parts]: AnyParts;
}

/** Stages and functions. A function stands for its stages of that hook. */
export type ChainMember = AnyStage | AnyFunction;
/** Members that become one program where the way of packets allows it; made by `fuse()`. */
export interface AnyFused {
  readonly kind: 'fused';
  readonly members: readonly ChainItem[];
  /** Which of them are programs of their own after all: none, and stages out of objects are refused; those; or all of them. */
  readonly apart: 'none' | 'objects' | 'all';
}
/** What may stand in a chain, or behind an exit. */
export type ChainItem = ChainMember | AnyFused;
/** Where an exit may lead. In a sub-chain, `next()` of the last member is the hook's default verdict. */
export type Target<H extends Hook> =
  | VerdictNames[H]
  | 'next'
  | ChainItem
  | BackTo
  | readonly (ChainItem | BackTo | VerdictNames[H] | 'next')[];
/** A target of whatever hook. */
export type AnyTarget = Target<Hook>;
/** Targets by the labels of the exits `X`. */
export type Wiring<X extends string, H extends Hook> = { readonly [L in X]?: Target<H> };

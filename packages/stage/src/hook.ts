/** Hooks, the chains that pipelines keep for them, and what a stage may return at each. */
import type { phantom } from './resource.ts';

/** Where a stage can be attached; `tc` means it serves both directions. */
export type Hook = 'xdp' | 'tc' | 'tcIngress' | 'tcEgress' | 'skSkb' | 'skMsg' | 'sockOps';

/** What a stage returns. `X` holds the labels it left through, as a union of literals. */
export interface Verdict<H extends Hook, X extends string = never> {
  readonly [phantom]: { readonly hook: H; readonly exit: X };
}

/** The kernel's verdicts that need no argument: these can be wired to an exit by name. */
export interface VerdictNames {
  xdp: 'pass' | 'drop' | 'tx' | 'abort';
  tc: 'pass' | 'drop';
  tcIngress: 'pass' | 'drop';
  tcEgress: 'pass' | 'drop';
  skSkb: 'pass' | 'drop';
  skMsg: 'pass' | 'drop';
  sockOps: 'pass';
}

/** `VerdictNames` as values. */
export const verdictNames: { readonly [H in Hook]: readonly VerdictNames[H][] } = {
  xdp: ['pass', 'drop', 'tx', 'abort'],
  tc: ['pass', 'drop'],
  tcIngress: ['pass', 'drop'],
  tcEgress: ['pass', 'drop'],
  skSkb: ['pass', 'drop'],
  skMsg: ['pass', 'drop'],
  sockOps: ['pass'],
};

/** Hooks whose stages may stand where `H` is asked for. */
export interface Fits {
  xdp: 'xdp';
  tc: 'tc' | 'tcIngress' | 'tcEgress';
  tcIngress: 'tc' | 'tcIngress';
  tcEgress: 'tc' | 'tcEgress';
  skSkb: 'skSkb';
  skMsg: 'skMsg';
  sockOps: 'sockOps';
}

/** `Fits` as values. */
export const fits: { readonly [H in Hook]: readonly Fits[H][] } = {
  xdp: ['xdp'],
  tc: ['tc', 'tcIngress', 'tcEgress'],
  tcIngress: ['tc', 'tcIngress'],
  tcEgress: ['tc', 'tcEgress'],
  skSkb: ['skSkb'],
  skMsg: ['skMsg'],
  sockOps: ['sockOps'],
};

/** The chains of a pipeline or of a function, by the hook they serve. */
export interface ChainHooks {
  xdp: 'xdp';
  tcIngress: 'tcIngress';
  tcEgress: 'tcEgress';
  skSkb: 'skSkb';
  skMsg: 'skMsg';
  sockOps: 'sockOps';
}
/** The name of a chain. */
export type ChainKey = keyof ChainHooks;
/** The chains that a stage of hook `H` may stand in. */
export type ChainOf<H extends Hook> = { [K in ChainKey]: ChainHooks[K] extends Fits[H] ? K : never }[ChainKey];
/** The names of all chains. */
export const chainKeys: readonly ChainKey[] = ['xdp', 'tcIngress', 'tcEgress', 'skSkb', 'skMsg', 'sockOps'];

/** True where a stage of hook `has` may stand at `needed`: the check behind `Fits`. */
export function hookFits(has: Hook, needed: Hook): boolean {
  const fitting: readonly Hook[] = fits[needed];
  return fitting.includes(has);
}

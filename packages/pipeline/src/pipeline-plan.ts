/**
 * The plan of a whole pipeline: a plan for each of its chains, and what they have to do with one another: functions that
 * stand in several, and metadata that go from XDP to TC ingress.
 */

import type { StageOutcomes } from '@tailrace/compiler';
import { type AnyStage, type ChainItem, type Chains, describeLayout, sameLayout } from '@tailrace/stage';
import { ChainError } from './chain-error.ts';
import { type ChainHook, chainHooks } from './chain-hook.ts';
import { functionsIn } from './graph.ts';
import { type MetadataFlow, type MissingField, metadataFlow, unwritten } from './metadata.ts';
import { type ChainPlan, checkDepth, planChain } from './plan.ts';
import { checkSocketMaps } from './socket-attachment.ts';

/** A pipeline, planned. */
export interface PipelinePlan {
  /** In the order in which packets meet them. */
  readonly chains: ReadonlyMap<ChainHook, ChainPlan>;
  /** Fields that TC ingress gets from XDP. */
  readonly crossing: readonly string[];
}

/** What planning needs to know beside the chains. */
export interface PlanOptions {
  readonly outcomesOf: (stage: AnyStage) => StageOutcomes;
  /** By chain: stages that replace the declared ones, by place. */
  readonly replacements?: ReadonlyMap<ChainHook, ReadonlyMap<string, AnyStage>>;
}

/** Plans a pipeline. Throws ChainError. */
export function planPipeline(pipeline: string, chains: Chains, options: PlanOptions): PipelinePlan {
  const members = membersOf(pipeline, chains);
  checkPlaced(members);
  const plans = new Map<ChainHook, ChainPlan>();
  for (const [hook, list] of members) {
    const replacements = options.replacements?.get(hook);
    const plan = planChain(list, { hook, outcomesOf: options.outcomesOf, ...(replacements ? { replacements } : {}) });
    // a stage that was replaced may have been the one that names the map
    if (options.replacements === undefined) checkSocketMaps(plan);
    plans.set(hook, plan);
  }
  const crossing = crossingFields(plans);
  const ingress = plans.get('tcIngress');
  // one tail call more: what XDP sends is taken over in front of the first stage
  if (ingress && crossing.length > 0) plans.set('tcIngress', { ...ingress, depth: checkDepth(ingress, 1) });
  return { chains: plans, crossing };
}

/** The items of every chain, in the order in which packets meet them. Throws ChainError. */
export function membersOf(pipeline: string, chains: Chains): ReadonlyMap<ChainHook, readonly ChainItem[]> {
  const members = new Map(chainHooks.flatMap((hook) => (chains[hook] ? [[hook, chains[hook]] as const] : [])));
  if (members.size === 0) throw new ChainError('empty', `pipeline '${pipeline}' has no chain, expected ${chainHooks.join(', ')}`);
  return members;
}

/** A function must stand in every chain that it has stages for: half of it would not work. */
function checkPlaced(chains: ReadonlyMap<ChainHook, readonly ChainItem[]>): void {
  const placed = new Map([...chains].map(([hook, members]) => [hook, new Set(functionsIn(members).map(({ name }) => name))]));
  for (const { name, stages } of functionsIn([...chains.values()].flat()))
    for (const hook of chainHooks)
      if (stages[hook] !== undefined && placed.get(hook)?.has(name) !== true)
        throw new ChainError('hook', `'${name}' must also be placed in ${hook}`, { hint: `add it to ${hook}: [ … ]` });
}

/** Checks every read of every chain; returns what TC ingress has to get from XDP. */
function crossingFields(plans: ReadonlyMap<ChainHook, ChainPlan>): readonly string[] {
  const crossing = new Set<string>();
  const xdp = plans.get('xdp');
  const before = xdp && metadataFlow(xdp);
  for (const [hook, plan] of plans)
    for (const missing of metadataFlow(plan).missing) {
      if (hook !== 'tcIngress' || !xdp?.fields.has(missing.field)) throw unwritten(plan, missing);
      checkCrossing(plan, xdp, before as MetadataFlow, missing);
      crossing.add(missing.field);
    }
  return [...crossing].sort();
}

function checkCrossing(ingress: ChainPlan, xdp: ChainPlan, { passed }: MetadataFlow, missing: MissingField): void {
  const { place, field } = missing;
  if (!passed.fields.has(field)) {
    const way = passed.without(field);
    const hint = way === undefined ? 'no packet leaves XDP by pass' : `XDP lets packets pass without it: ${way}`;
    throw unwritten(ingress, missing, hint);
  }
  const [ours, theirs] = [xdp.fields.get(field), ingress.fields.get(field)];
  if (ours && theirs && !sameLayout(ours, theirs))
    throw new ChainError('metadata', `metadata '${field}' is ${describeLayout(ours)} at XDP and ${describeLayout(theirs)} in '${place}'`);
}

/** What another process left of a pipeline's chains, as chains to change from: their layouts are known, their programs are not. */
import type { ProgramSpec } from '@tailrace/bpf';
import type { CompiledPipeline } from './change.ts';
import type { CompiledChain } from './generation.ts';
import { type Manifest, occupiedLayout } from './manifest.ts';

/** `declared` has the same hooks. Every change from the result builds generations anew. */
export function compiledLeft(declared: CompiledPipeline, { chains, crossing }: Manifest): CompiledPipeline {
  const left = [...declared.chains].map(([hook, { plan, lead, rings, state }]) => {
    const kept = chains.get(hook);
    const compiled: CompiledChain = {
      // no place is known, so that none is taken for unchanged
      plan: { ...plan, places: new Map(), depth: kept?.depth ?? plan.depth },
      state: kept ? occupiedLayout(kept) : state,
      programs: new Map(),
      lead: hook === 'tcIngress' && crossing.way ? (lead ?? unknownLead) : undefined,
      rings,
    };
    return [hook, compiled] as const;
  });
  return { name: declared.name, chains: new Map(left), observation: declared.observation, crossing };
}

/** Only that there is one is known. */
const unknownLead: ProgramSpec = {
  name: 'lead',
  type: 'schedCls',
  frags: false,
  license: '',
  instructions: [],
  mapReferences: [],
  functions: [],
  lines: [],
};

/**
 * Lowers several stages into one program: their bodies follow each other in one graph, in an order in which edges lead
 * forward. What a path knows of the packet goes along an edge from one to the next, so that headers are looked for once, and
 * paths that lead to one part meet in a join. Metadata are a program's own while packets are in it: they become values.
 */
import type { AnyMap, AnyStage } from '@tailrace/stage';
import type { HookModel } from '../hook-model.ts';
import type { Block, Graph, Value } from '../ir.ts';
import { promoteMetadata } from '../opt/promote.ts';
import type { MetadataPlace, Placement } from '../placement.ts';
import { readSource } from '../source.ts';
import { Ends } from './ends.ts';
import { StageProgram } from './lower.ts';
import { Lowering } from './lowering.ts';
import { startSum } from './packet-sum.ts';
import { metadataOffset, stateAddress } from './state.ts';

/** A stage in a fused program. */
export interface FusedPart {
  /** By which edges of other parts name it. */
  readonly name: string;
  readonly stage: AnyStage;
  readonly placement: Placement;
}

/** Lowers parts, the first one being where packets come in. Throws CompileError with the place in a part's own source. */
export function lowerFused(
  name: string,
  parts: readonly [FusedPart, ...FusedPart[]],
  hook: HookModel,
): { readonly graph: Graph; readonly maps: ReadonlyMap<string, AnyMap> } {
  const [{ stage, placement }] = parts;
  const lowering = new Lowering(name, readSource(stage.program, stage.name), hook);
  lowering.at(lowering.source.node);
  const joins = new Map(parts.map((part) => [part.name, lowering.newJoin()]));
  const shared = { ends: new Ends(joins), maps: new Map<string, AnyMap>() };
  startSum(lowering);
  // looked up once for all parts
  const state = placement.state && stateAddress(lowering, placement.state.map);
  const home = lowering.block;
  for (const [i, part] of parts.entries()) {
    lowering.source = readSource(part.stage.program, part.stage.name);
    const { node } = lowering.source;
    lowering.at(node);
    const join = joins.get(part.name);
    if (i > 0 && join) lowering.enter(join);
    // no packet gets to a part behind an exit that is never taken
    if (lowering.block) new StageProgram(lowering, part.stage, part.placement, shared).run(node);
  }
  shared.ends.finish();
  if (state && home) promote(lowering, parts, { state, home });
  return { graph: lowering.graph, maps: shared.maps };
}

function promote(
  { graph, handed, hook }: Lowering,
  parts: readonly FusedPart[],
  at: { readonly state: Value; readonly home: Block },
): void {
  const extent = ({ layout, offset }: MetadataPlace) => ({ offset: metadataOffset(hook, offset), size: layout.size });
  const places = new Map(parts.flatMap(({ placement }) => Object.entries(placement.metadata ?? {})));
  const fields = [...places.values()].map(extent);
  const carried = new Map([...handed].map(([call, needed]) => [call, needed.map(extent)]));
  if (hook.kind === 'tc') promoteMetadata(graph, { space: 'skb', base: graph.context, home: graph.entry, fields, handed: carried });
  else promoteMetadata(graph, { space: 'map', base: at.state, home: at.home, fields, handed: carried });
}

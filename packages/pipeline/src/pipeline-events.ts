/** All events of a pipeline in one stream: of every `events()` that a stage of it can send to, also those that come with a change. */
import { type Events, isEvents, structuresIn } from '@tailrace/stage';
import { finalize, from, map, mergeMap, type Observable, share, startWith } from 'rxjs';
import type { PipelinePlan } from './pipeline-plan.ts';
import type { MapRegistry } from './registry.ts';

/** An event, and whose it is. */
export interface PipelineEvent {
  /** As the events are declared; `function.name` for those of a function, `stage.name` where two of a pipeline are named alike. */
  readonly name: string;
  readonly event: unknown;
}

/** What events come from. */
export interface EventParts {
  readonly registry: MapRegistry;
  /** What packets follow now; `undefined` once it stops. */
  readonly plan: () => PipelinePlan | undefined;
  /** Emits after each change of it; ends with the pipeline. */
  readonly changed$: Observable<void>;
}

/** Makes the stream. An error of one ring, as of one that somebody else reads, ends it. */
export function pipelineEvents({ registry, plan, changed$ }: EventParts): Observable<PipelineEvent> {
  const reading = new Set<Events<unknown>>();
  return changed$.pipe(
    startWith(undefined),
    mergeMap(() => from([...eventsOf(plan())].filter(([events]) => !reading.has(events)))),
    mergeMap(([events, name]) => {
      reading.add(events);
      return registry.handle(events).events$.pipe(
        map((event) => ({ name, event })),
        finalize(() => reading.delete(events)),
      );
    }),
    share(),
  );
}

/** The events of all stages, with their names. */
function eventsOf(plan: PipelinePlan | undefined): ReadonlyMap<Events<unknown>, string> {
  const names = new Map<Events<unknown>, string>();
  for (const { places } of plan?.chains.values() ?? [])
    for (const { name: place, owner, stage } of places.values())
      for (const structure of structuresIn(stage.uses)) {
        if (!isEvents(structure) || names.has(structure)) continue;
        const scoped = owner === undefined ? structure.name : `${place.slice(0, place.lastIndexOf('.'))}.${structure.name}`;
        names.set(structure, [...names.values()].includes(scoped) ? `${place}.${structure.name}` : scoped);
      }
  return names;
}

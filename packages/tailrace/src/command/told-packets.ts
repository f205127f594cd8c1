/** Packets that a pipeline tells of, as lines: the ways of those that are traced, and those that are dropped. */
import { type Drop, hookTitle, type Running, type TracedPath } from '@tailrace/pipeline';
import { merge, type Observable, tap } from 'rxjs';
import type { RunCommandOptions } from './arguments.ts';
import type { AnyLayout } from './pipeline-module.ts';

/** What `pipeline.run` is asked to tell. */
export function observeOf({ trace, drops }: Pick<RunCommandOptions, 'trace' | 'drops'>) {
  return { ...(trace === undefined ? {} : { trace: { every: trace } }), ...(drops ? { drops: true } : {}) };
}

/** Hands each told packet to `show`, as a line for people, and as data for `--json`. */
export function toldPackets(
  { trace, drops }: Pick<RunCommandOptions, 'trace' | 'drops'>,
  running: Pick<Running<AnyLayout>, 'trace$' | 'drops$'>,
  show: (line: string, data: object) => void,
): Observable<unknown> {
  return merge(
    ...(trace === undefined ? [] : [told(running.trace$, (path) => show(traceLine(path), { trace: path }), show, 'trace')]),
    ...(drops ? [told(running.drops$, (drop) => show(dropLine(drop), { drop }), show, 'drop')] : []),
  );
}

function told<T extends { readonly lost: bigint }>(
  source: Observable<T>,
  showOne: (one: T) => void,
  show: (line: string, data: object) => void,
  what: string,
): Observable<T> {
  let known = 0n;
  return source.pipe(
    tap((one) => {
      if (one.lost > known)
        show(`lost   ${one.lost - known} ${what} records: they come faster than they are read`, { lost: one.lost, of: what });
      known = one.lost;
      showOne(one);
    }),
  );
}

/** `trace  XDP  acl next, steer slow, queue next (missed) ─▶ pass  60 B  1.25 µs` */
export function traceLine({ hook, steps, verdict }: TracedPath): string {
  const way = steps.map(({ stage, missed, ...step }) => `${stage} ${wayOut({ ...step, by: step.verdict })}${missed ? ' (missed)' : ''}`);
  const [first, last] = [steps[0], steps.at(-1)];
  const time = first && last && first !== last ? `  ${(Number(last.timeNs - first.timeNs) / 1000).toFixed(2)} µs` : '';
  return `trace  ${hookTitle[hook]}  ${way.join(', ')} ─▶ ${verdict}  ${last?.length ?? 0} B${time}`;
}

/** `drop   XDP  acl drop 'blocked'  60 B` */
export function dropLine(drop: Drop): string {
  const { hook, stage, verdict, by, length } = drop;
  return `drop   ${hookTitle[hook]}  ${stage} ${wayOut(drop)}${by === verdict ? '' : ` ─▶ ${verdict}`}  ${length} B`;
}

function wayOut({ by, exit, reason }: Pick<Drop, 'by' | 'exit' | 'reason'>): string {
  if (by === 'miss') return 'missed';
  return exit ?? (reason === undefined ? by : `${by} '${reason}'`);
}

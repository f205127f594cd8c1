/** Packets that a pipeline tells of, as lines: the ways of those that are traced, and those that are dropped. */
import { type Drop, hookTitle, type Running, type TracedPath } from '@tailrace/pipeline';
import { type Observable, type Subscription, tap } from 'rxjs';
import type { RunCommandOptions } from './arguments.ts';
import type { AnyLayout } from './pipeline-module.ts';

/** What `pipeline.run` is asked to tell. */
export function observeOf({ trace, drops }: Pick<RunCommandOptions, 'trace' | 'drops'>) {
  return { ...(trace === undefined ? {} : { trace: { every: trace } }), ...(drops ? { drops: true } : {}) };
}

/** Tells of packets of a running pipeline, and switches that on and off. */
export class Telling implements Disposable {
  readonly #running: Pick<Running<AnyLayout>, 'trace$' | 'drops$' | 'observe'>;
  readonly #show: Show;
  readonly #fail: (error: unknown) => void;
  /** Those that are told. */
  readonly #told = new Map<'trace' | 'drops', Subscription>();

  /** Each packet goes to `show`, what reading them throws to `fail`. */
  constructor(running: Pick<Running<AnyLayout>, 'trace$' | 'drops$' | 'observe'>, show: Show, fail: (error: unknown) => void) {
    this.#running = running;
    this.#show = show;
    this.#fail = fail;
  }

  /** Tells what the pipeline was asked to tell from its start. */
  begin({ trace, drops }: Pick<RunCommandOptions, 'trace' | 'drops'>): void {
    if (trace !== undefined) this.#tellTraces();
    if (drops) this.#tellDrops();
  }

  /** Traces one packet in `every`, or none any more. Throws what `Running.observe` throws. */
  async switchTraces(every: number): Promise<void> {
    const isOn = this.#told.has('trace');
    await this.#running.observe({ trace: isOn ? false : { every } });
    if (isOn) this.#end('trace');
    else this.#tellTraces();
  }

  /** The same for dropped packets. */
  async switchDrops(): Promise<void> {
    const isOn = this.#told.has('drops');
    await this.#running.observe({ drops: !isOn });
    if (isOn) this.#end('drops');
    else this.#tellDrops();
  }

  [Symbol.dispose](): void {
    for (const subscription of this.#told.values()) subscription.unsubscribe();
    this.#told.clear();
  }

  #end(kind: 'trace' | 'drops'): void {
    this.#told.get(kind)?.unsubscribe();
    this.#told.delete(kind);
  }

  #tellTraces(): void {
    const paths = told(this.#running.trace$, (path) => this.#show(traceLine(path), { trace: path }), this.#show, 'trace');
    this.#told.set('trace', paths.subscribe({ error: this.#fail }));
  }

  #tellDrops(): void {
    const drops = told(this.#running.drops$, (drop) => this.#show(dropLine(drop), { drop }), this.#show, 'drop');
    this.#told.set('drops', drops.subscribe({ error: this.#fail }));
  }
}

/** Takes a packet that is told of: as a line for people, and as data for `--json`. */
export type Show = (line: string, data: object) => void;

function told<T extends { readonly lost: bigint }>(
  source: Observable<T>,
  showOne: (one: T) => void,
  show: Show,
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

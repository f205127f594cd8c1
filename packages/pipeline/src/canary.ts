/** A canary: some packets go through the next pipeline's chains while the others stay, until it is promoted or rolled back. */
import { type CanaryDescription, describeTraffic } from './canary-description.ts';
import type { ChainHook } from './chain-hook.ts';
import { planOf } from './change.ts';
import type { FunctionsChange } from './composition.ts';
import { describePipeline } from './description.ts';
import type { LoadedUpdate } from './live-pipeline.ts';
import type { CanaryTraffic } from './selector.ts';
import type { ChainStats } from './stats.ts';
import type { Trial } from './trial.ts';
import { type NextPipeline, type PreparedUpdate, prepareUpdate, type UpdateOptions, type UpdateParts } from './update.ts';

/** Who goes through the next pipeline, and its services. */
export type CanaryOptions = CanaryTraffic & Pick<UpdateOptions, 'services'>;

/** A canary that runs, without the types of its pipelines. */
export class LiveCanary {
  readonly #update: LoadedUpdate;
  readonly #trial: Trial;
  readonly #functions: FunctionsChange;
  readonly #description: CanaryDescription;

  private constructor({ update, functions, change }: PreparedUpdate, trial: Trial, traffic: CanaryTraffic) {
    this.#update = update;
    this.#trial = trial;
    this.#functions = functions;
    this.#description = {
      traffic: describeTraffic(traffic),
      hooks: [...change.chains].flatMap(([hook, chain]) => (chain.change.kind === 'none' ? [] : [hook])),
      pipeline: describePipeline(change.compiled.name, planOf(change.compiled)),
    };
  }

  /** Loads the next pipeline beside the present one and leads packets to it. Leaves nothing behind on errors. */
  static async start(parts: UpdateParts, next: NextPipeline, options: CanaryOptions): Promise<LiveCanary> {
    await using undo = new AsyncDisposableStack();
    const prepared = await prepareUpdate(parts, next, options, undo, options);
    const trial = prepared.update.trial();
    await trial.start();
    undo.move();
    return new LiveCanary(prepared, trial, options);
  }

  describe(): CanaryDescription {
    return this.#description;
  }

  stats(): ReadonlyMap<ChainHook, ChainStats> {
    return this.#trial.stats();
  }

  /** Leads all packets to the next pipeline, which is the present one from then on. */
  async promote(): Promise<void> {
    await this.#trial.arrive();
    await this.#update.settle();
    await this.#functions.settle();
  }

  /** Leads all packets back, and closes what was made. */
  async rollBack(): Promise<void> {
    await this.#trial.revert();
    await this.#abandon();
  }

  /** Before the pipeline stops, which takes the programs: as `rollBack`, whatever becomes of the packets. */
  async end(): Promise<void> {
    await this.#trial.revert().catch(() => undefined);
    await this.#abandon();
  }

  async #abandon(): Promise<void> {
    this.#update.abandon();
    await this.#functions.abandon();
  }
}

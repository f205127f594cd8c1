/** `tailrace run --canary`: some packets go through the pipeline of another module, until that is promoted or rolled back. */
import { ArgumentError } from '@tailrace/bpf';
import type { Canary, CanaryPicture, CanaryTraffic, Running, Stats } from '@tailrace/pipeline';
import type { CanaryFileOptions } from './arguments.ts';
import { type AnyLayout, importPipeline, type PipelineModule } from './pipeline-module.ts';

type AnyStats = Stats<AnyLayout>;
type AnyCanary = Canary<Running<AnyLayout>, AnyStats, AnyStats>;

/** The next pipeline, and who goes through it. */
export interface NextModule extends PipelineModule {
  readonly file: string;
  readonly traffic: CanaryTraffic;
}

/** Imports the module of a canary. Throws what that throws, and ArgumentError where nothing says who goes through it. */
export async function importNext({ file, share }: CanaryFileOptions): Promise<NextModule> {
  const module = await importPipeline(file);
  if (share !== undefined) return { ...module, file, traffic: { share } };
  if (module.canary.length > 0) return { ...module, file, traffic: { match: module.canary } };
  throw new ArgumentError(`nothing says who goes through ${file} first`, {
    hint: `say --share PERCENT, or export const canary = stage({ … ctx.exit('canary') …})`,
  });
}

/** How a canary ends. */
export type CanaryEnd = 'promoted' | 'rolled back';

/** A canary of a run. The run's stop rolls it back. */
export class RunCanary {
  readonly #file: string;
  #trial: AnyCanary | undefined;

  private constructor(file: string, trial: AnyCanary) {
    this.#file = file;
    this.#trial = trial;
  }

  /** Begins it. Throws what `Running.canary` throws. */
  static async start(running: Running<AnyLayout>, { file, pipeline, services, traffic }: NextModule): Promise<RunCanary> {
    return new RunCanary(file, await running.canary(pipeline, { ...traffic, services }));
  }

  /** It has not ended. */
  get runs(): boolean {
    return this.#trial !== undefined;
  }

  /** Both sides as they are now; undefined once it has ended. */
  shown(): { readonly stats: AnyStats; readonly canary: CanaryPicture } | undefined {
    if (this.#trial === undefined) return undefined;
    const { present, canary } = this.#trial.stats();
    return { stats: present, canary: { ...this.#trial.describe(), stats: canary } };
  }

  /** Ends it, and gives a line about that; undefined where it has ended already. Throws what that throws: then it goes on. */
  async end(how: CanaryEnd): Promise<string | undefined> {
    const trial = this.#trial;
    if (trial === undefined) return undefined;
    this.#trial = undefined;
    try {
      await (how === 'promoted' ? trial.promote() : trial.rollBack());
    } catch (error) {
      this.#trial = trial;
      throw error;
    }
    return `${this.#file} is ${how}`;
  }
}

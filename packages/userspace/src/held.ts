/** Maps and programs live until they are closed and nothing of the engine needs them any more. */
import { ArgumentError, type LoadedProgram, type ProgramSpec, type TestRunOptions, type TestRunResult } from '@tailrace/bpf';
import type { EngineMemory } from './memory.ts';

/** What others of the engine may hold: it lets go of what it has once it is closed and held by nobody. */
export abstract class Held {
  #holders = 0;
  #isClosed = false;

  /** Whether its user closed it; then only those who hold it may use it. */
  get closed(): boolean {
    return this.#isClosed;
  }

  /** Keeps it alive until `release`. Throws ArgumentError once closed. */
  hold(): void {
    this.checkOpen();
    this.#holders += 1;
  }

  release(): void {
    this.#holders -= 1;
    if (this.#isClosed && this.#holders === 0) this.dispose();
  }

  /** Throws ArgumentError once closed. */
  checkOpen(): void {
    if (this.#isClosed) throw new ArgumentError(`${this.about} is closed`);
  }

  /** Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#holders === 0) this.dispose();
  }

  /** Names it in errors, e.g. `map l4lb/conns`. */
  protected abstract get about(): string;

  /** Lets go; called once. */
  protected abstract dispose(): void;
}

/** A program as program arrays hold it. */
export abstract class HeldProgram extends Held implements LoadedProgram {
  abstract readonly spec: ProgramSpec;
  abstract readonly id: number;
  /** The memory that it runs on. */
  abstract readonly memory: EngineMemory;
  abstract testRun(options: TestRunOptions): Promise<TestRunResult>;

  protected get about(): string {
    return `program ${this.spec.name}`;
  }
}

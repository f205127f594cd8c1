/**
 * A chain as it runs: the program that packets enter and every one that tail calls reach from there, linked into one module.
 * The first packet waits until it is; later changes of program arrays are made by the linker, beside what runs.
 */
import { setImmediate } from 'node:timers/promises';
import { type ProgramSpec, TailraceError } from '@tailrace/bpf';
import { BaseModule } from './base-module.ts';
import { type ChainParts, chainModule, chainModuleSteps, movesPacket, redirectsPacket } from './chain-module.ts';
import { HelperCaller } from './helper-caller.ts';
import { Interpreter } from './interpreter.ts';
import { TRAP_REASON, WORKER_TRAP } from './layout.ts';
import { type ChainProgram, isCurrent, type Linkage, linkageOf, type Reached } from './linkage.ts';
import type { Entry } from './linked-program.ts';
import type { LinkedChain, Relinked, SlotArray, SlotsOf } from './linker.ts';
import { compiledModule, moduleInBackground } from './optimized-module.ts';
import { withoutProofs } from './provenance.ts';
import { RUNTIME_BASE64 } from './runtime-bytes.ts';
import { readTrap, TrapError } from './trap.ts';
import { WebAssembly, type WebAssemblyModule } from './webassembly.ts';
import type { Effort, WorkerContext } from './worker-context.ts';
import type { Share } from './worker-pool.ts';

/** Loops, and blocks behind a dispatcher, that one function may have and still be compiled well. */
const LOOP_LIMIT = 500;
const DISPATCH_LIMIT = 1000;

let base: BaseModule | undefined;

/** The runtime that every chain's module begins with. */
function runtimeBase(): BaseModule {
  base ??= new BaseModule(Uint8Array.from(Buffer.from(RUNTIME_BASE64, 'base64')));
  return base;
}

/** What runs packets on this thread. */
interface Runnable {
  readonly repeat: (times: number) => bigint;
  readonly batch: ((descriptors: number, count: number) => void) | undefined;
}

/** A chain that is ready for packets. */
interface Linked extends Runnable, Linkage {
  /** What worker threads run, in their order. */
  readonly others: readonly WebAssemblyModule[];
  /** Whether anything in it moves packets, or redirects them. */
  readonly moves: boolean;
  readonly redirects: boolean;
}

/** The chain behind one program. */
export class Chain implements LinkedChain {
  readonly #root: ChainProgram;
  readonly #context: WorkerContext;
  readonly #entry: Entry;
  #linked: Linked | undefined;
  /** Its number at the worker threads; 0: they have none. */
  #number = 0;
  #isClosed = false;

  constructor(root: ChainProgram, context: WorkerContext, entry: Entry = 'context') {
    this.#root = root;
    this.#context = context;
    this.#entry = entry;
  }

  /** The program that packets enter. */
  get spec(): ProgramSpec {
    return this.#root.spec;
  }

  /** Runs the packet that is in the worker's area, as often as is asked for; gives the last r0. Throws TrapError. */
  run(times = 1): bigint {
    const linked = this.#link();
    this.#clear();
    try {
      return BigInt.asUintN(64, linked.repeat(times));
    } catch (error) {
      throw this.#trapped(linked, error);
    } finally {
      this.#settle();
    }
  }

  /**
   * Runs packets by their descriptors: the first share here, the others on worker threads. Throws TrapError at the first packet
   * of a share that traps; the other shares are run to their ends.
   */
  batch(shares: readonly Share[]): void {
    const linked = this.#link();
    const { batch } = linked;
    if (batch === undefined) throw new TailraceError('unsupported', 'the interpreter runs one packet at a time');
    this.#clear();
    const [own = { descriptors: 0, count: 0 }, ...others] = shares;
    try {
      const { pool } = this.#context;
      if (pool === undefined) return batch(own.descriptors, own.count);
      const [failure] = pool.run(this.#number, others, () => batch(own.descriptors, own.count));
      if (failure) throw failure.cause === 'trap' ? this.#trapAt(linked, failure.worker) : new TailraceError('trap', failure.cause);
    } catch (error) {
      throw this.#trapped(linked, error);
    } finally {
      this.#settle();
    }
  }

  /** Links where it is not linked; tells what the chain does to packets, and whether it runs batches. */
  prepare(): { readonly moves: boolean; readonly redirects: boolean; readonly runsBatches: boolean } {
    const { moves, redirects, batch } = this.#link();
    return { moves, redirects, runsBatches: batch !== undefined };
  }

  /** Links in the background where it is not linked, so that the first packet need not wait. Throws as `relink` does. */
  async link(): Promise<void> {
    while (this.#linked === undefined && !this.#isClosed) {
      const relinked = await this.relink((array) => array.programs);
      if (this.#linked === undefined && !this.#isClosed && relinked.isCurrent) relinked.exchange();
    }
  }

  reaches(array: SlotArray): boolean {
    return this.#linked?.arrays.has(array) ?? false;
  }

  async relink(slotsOf: SlotsOf): Promise<Relinked> {
    const linkage = this.#linkage(slotsOf);
    const linked =
      this.#context.mode === 'interpreter'
        ? this.#interpreted(linkage)
        : this.#instantiated(
            linkage,
            await Promise.all(this.#partsOf(linkage).map((parts) => compileInTurns(parts, this.#effort(linkage)))),
          );
    return {
      get isCurrent() {
        return isCurrent(linkage);
      },
      exchange: () => this.#exchange(linked),
    };
  }

  unlink(): void {
    if (this.#number !== 0) this.#context.pool?.unload(this.#number);
    this.#number = 0;
    this.#linked = undefined;
  }

  /** No packet enters it any more. */
  close(): void {
    this.#isClosed = true;
    this.#context.linker.remove(this);
    this.unlink();
  }

  #link(): Linked {
    if (this.#linked !== undefined) return this.#linked;
    const linkage = this.#linkage((array) => array.programs);
    const linked =
      this.#context.mode === 'interpreter'
        ? this.#interpreted(linkage)
        : this.#instantiated(
            linkage,
            this.#partsOf(linkage).map((parts) => compiledModule(chainModule(parts), this.#effort(linkage))),
          );
    this.#exchange(linked);
    return linked;
  }

  #exchange(linked: Linked): void {
    const { pool, linker } = this.#context;
    this.unlink();
    if (pool) this.#number = pool.load(linked.others);
    this.#linked = linked;
    linker.add(this);
  }

  #linkage(slotsOf: SlotsOf): Linkage {
    return linkageOf(this.#root, this.#context.memory.view, slotsOf);
  }

  #interpreted(linkage: Linkage): Linked {
    const { memory, worker, turnLimit, onStep } = this.#context;
    const interpreter = new Interpreter({
      view: () => memory.view,
      worker,
      programs: linkage.programs.map(({ linked }) => linked),
      entry: this.#entry,
      turnLimit,
      helpers: new HelperCaller(this.#context),
      onStep,
    });
    const repeat = (times: number): bigint => {
      let result = 0n;
      for (let left = times; left > 0; left--) {
        result = interpreter.run();
        this.#settle();
      }
      return result;
    };
    return linkedFrom(linkage, { repeat, batch: undefined }, []);
  }

  #instantiated(linkage: Linkage, [own, ...others]: readonly WebAssemblyModule[]): Linked {
    const { exports } = new WebAssembly.Instance(own as WebAssemblyModule, { env: { memory: this.#context.memory.memory } });
    return linkedFrom(linkage, exports as unknown as Runnable, others);
  }

  /** What the workers' modules are made of, this thread's first. */
  #partsOf({ programs }: Linkage): readonly ChainParts[] {
    const { turnLimit, pool, proves = true } = this.#context;
    return this.#areas.map((area) => ({
      runtime: runtimeBase(),
      programs: programs.map(({ linked }) => linked),
      provenances: programs.map(({ program: { provenance } }) => (proves ? provenance : withoutProofs(provenance))),
      worker: area,
      isShared: pool !== undefined,
      entry: this.#entry,
      turnLimit,
    }));
  }

  #effort({ programs }: Linkage): Effort | undefined {
    return programs.some(isUnwieldy) ? 'quickly' : this.#context.compile;
  }

  /** Areas of all workers, this thread's first. */
  get #areas(): readonly number[] {
    return [this.#context.worker, ...(this.#context.pool?.areas ?? [])];
  }

  /** Forgets the trap of an earlier run. */
  #clear(): void {
    const { view } = this.#context.memory;
    for (const area of this.#areas) view.setUint32(area + WORKER_TRAP + TRAP_REASON, 0, true);
  }

  /** Throws away records that a run reserved and never handed over, and gives back a lock that it still holds. */
  #settle(): void {
    const { runtime } = this.#context.memory;
    for (const area of this.#areas) {
      runtime.record_close_all(area);
      runtime.each_end(area);
      runtime.spin_release(area);
    }
  }

  #trapped(linked: Linked, error: unknown): unknown {
    if (!(error instanceof WebAssembly.RuntimeError)) return error;
    return this.#trapAt(linked, this.#context.worker, error);
  }

  /** The trap that an area tells of. */
  #trapAt({ programs }: Linked, area: number, error?: Error): TailraceError {
    const trap = readTrap(this.#context.memory.view, area);
    const program = trap && programs[trap.program]?.linked;
    if (trap !== undefined && program !== undefined) return new TrapError(program.spec, trap);
    return new TailraceError('trap', `program ${this.#root.spec.name} broke the engine: ${error?.message ?? 'no trap was left'}`, {
      cause: error,
    });
  }
}

function linkedFrom(linkage: Linkage, { repeat, batch }: Runnable, others: readonly WebAssemblyModule[]): Linked {
  const all = linkage.programs.map(({ linked }) => linked);
  return { ...linkage, repeat, batch, others, moves: all.some(movesPacket), redirects: all.some(redirectsPacket) };
}

/** A module, written while others have their turns of the event loop, and compiled in the background. */
async function compileInTurns(parts: ChainParts, effort: Effort | undefined): Promise<WebAssemblyModule> {
  const steps = chainModuleSteps(parts);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return moduleInBackground(value, effort);
    await setImmediate();
  }
}

/** Whether V8's optimising compiler would take seconds for a function, since its time grows faster than what it compiles. */
function isUnwieldy({ linked: { graphs } }: Reached): boolean {
  return graphs.some(
    ({ blocks, isReducible }) =>
      blocks.filter(({ isLoop }) => isLoop).length > LOOP_LIMIT || (!isReducible && blocks.length > DISPATCH_LIMIT),
  );
}

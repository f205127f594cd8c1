/**
 * A chain as it runs: the program that packets enter and every one that tail calls reach from there, linked into one module.
 * When a program array changes, the chain is linked anew before its next packet.
 */
import { type ProgramSpec, TailraceError } from '@tailrace/bpf';
import { chainModule, movesPacket, redirectsPacket } from './chain-module.ts';
import type { Code } from './code.ts';
import type { FunctionGraph } from './control-flow.ts';
import type { HeldProgram } from './held.ts';
import { HelperCaller } from './helper-caller.ts';
import { Interpreter } from './interpreter.ts';
import { MAP_ENTRY_STRIDE, MAP_SHARED, MAP_VALUE_STRIDE, MAP_VALUES, TRAP_REASON, WORKER_TRAP } from './layout.ts';
import type { Entry, LinkedProgram, MapPlace } from './linked-program.ts';
import type { UserspaceMap } from './map.ts';
import { compiledModule } from './optimized-module.ts';
import { type Provenance, withoutProofs } from './provenance.ts';
import { RUNTIME_BASE64 } from './runtime-bytes.ts';
import { readTrap, TrapError } from './trap.ts';
import { BaseModule } from './wasm-writer.ts';
import { WebAssembly } from './webassembly.ts';
import type { WorkerContext } from './worker-context.ts';
import type { Share } from './worker-pool.ts';

/** A program as chains link it. */
export interface ChainProgram {
  readonly spec: ProgramSpec;
  readonly code: Code;
  readonly graphs: readonly FunctionGraph[];
  readonly provenance: Provenance;
  readonly frames: number;
  /** Maps by the program's names for them. */
  readonly maps: ReadonlyMap<string, UserspaceMap>;
}

/** Loops, and blocks behind a dispatcher, that one function may have and still be compiled well. */
const LOOP_LIMIT = 500;
const DISPATCH_LIMIT = 1000;

let base: BaseModule | undefined;

/** The runtime that every chain's module begins with. */
function runtimeBase(): BaseModule {
  base ??= new BaseModule(Uint8Array.from(Buffer.from(RUNTIME_BASE64, 'base64')));
  return base;
}

/** What runs packets once it is linked. */
interface Linked {
  readonly programs: readonly LinkedProgram[];
  /** Program arrays and the version that was linked. */
  readonly arrays: ReadonlyMap<UserspaceMap, number>;
  readonly run: () => bigint;
  readonly repeat: (times: number) => bigint;
  readonly batch: ((descriptors: number, count: number) => void) | undefined;
  /** Whether anything in it moves packets, or redirects them. */
  readonly moves: boolean;
  readonly redirects: boolean;
}

/** The chain behind one program. */
export class Chain {
  readonly #root: ChainProgram;
  readonly #context: WorkerContext;
  readonly #entry: Entry;
  #linked: Linked | undefined;
  /** Its number at the worker threads. */
  #number = 0;

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
      return BigInt.asUintN(64, times === 1 ? linked.run() : linked.repeat(times));
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

  /** Links now, so that the first packet need not wait; tells what the chain does to packets, and whether it runs batches. */
  prepare(): { readonly moves: boolean; readonly redirects: boolean; readonly runsBatches: boolean } {
    const { moves, redirects, batch } = this.#link();
    return { moves, redirects, runsBatches: batch !== undefined };
  }

  #link(): Linked {
    const known = this.#linked;
    if (known !== undefined && [...known.arrays].every(([array, version]) => array.version === version)) return known;
    const { programs, arrays } = link(this.#root, this.#context.memory.view);
    const { mode } = this.#context;
    const linked = mode === 'interpreter' ? this.#interpreted(programs) : this.#translated(programs);
    const all = programs.map(({ linked: program }) => program);
    this.#linked = { ...linked, programs: all, arrays, moves: all.some(movesPacket), redirects: all.some(redirectsPacket) };
    return this.#linked;
  }

  #interpreted(programs: readonly Reached[]): Pick<Linked, 'run' | 'repeat' | 'batch'> {
    const { memory, worker, turnLimit, onStep } = this.#context;
    const interpreter = new Interpreter({
      view: () => memory.view,
      worker,
      programs: programs.map(({ linked }) => linked),
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
    return { run: () => interpreter.run(), repeat, batch: undefined };
  }

  /** Areas of all workers, this thread's first. */
  get #areas(): readonly number[] {
    return [this.#context.worker, ...(this.#context.pool?.areas ?? [])];
  }

  /** Lets go of what worker threads hold of it. */
  close(): void {
    if (this.#number !== 0) this.#context.pool?.unload(this.#number);
    this.#number = 0;
    this.#linked = undefined;
  }

  #translated(programs: readonly Reached[]): Pick<Linked, 'run' | 'repeat' | 'batch'> {
    const { memory, turnLimit, pool, compile, proves = true } = this.#context;
    const [bytes, ...others] = this.#areas.map((area) =>
      chainModule({
        runtime: runtimeBase(),
        programs: programs.map(({ linked }) => linked),
        provenances: programs.map(({ program: { provenance } }) => (proves ? provenance : withoutProofs(provenance))),
        worker: area,
        isShared: pool !== undefined,
        entry: this.#entry,
        turnLimit,
      }),
    ) as [Uint8Array<ArrayBuffer>, ...Uint8Array<ArrayBuffer>[]];
    if (pool) {
      if (this.#number !== 0) pool.unload(this.#number);
      this.#number = pool.newChain();
      pool.load(this.#number, others);
    }
    const { exports } = new WebAssembly.Instance(compiledModule(bytes, programs.some(isUnwieldy) ? 'quickly' : compile), {
      env: { memory: memory.memory },
    });
    return exports as unknown as Pick<Linked, 'run' | 'repeat' | 'batch'>;
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
    const program = trap && programs[trap.program];
    if (trap !== undefined && program !== undefined) return new TrapError(program.spec, trap);
    return new TailraceError('trap', `program ${this.#root.spec.name} broke the engine: ${error?.message ?? 'no trap was left'}`, {
      cause: error,
    });
  }
}

interface Reached {
  readonly program: ChainProgram;
  readonly linked: LinkedProgram;
}

/** Whether V8's optimising compiler would take seconds for a function, since its time grows faster than what it compiles. */
function isUnwieldy({ linked: { graphs } }: Reached): boolean {
  return graphs.some(
    ({ blocks, isReducible }) =>
      blocks.filter(({ isLoop }) => isLoop).length > LOOP_LIMIT || (!isReducible && blocks.length > DISPATCH_LIMIT),
  );
}

/** Everything that can be reached from a program, the root first. */
function link(
  root: ChainProgram,
  view: DataView,
): { readonly programs: readonly Reached[]; readonly arrays: ReadonlyMap<UserspaceMap, number> } {
  const numbers = new Map<ChainProgram, number>([[root, 0]]);
  const arrays = new Map<UserspaceMap, number>();
  const programs: Reached[] = [];
  // a Map can grow while it is walked
  for (const [program, index] of numbers) {
    const maps = new Map<string, MapPlace>();
    for (const [name, map] of program.maps) {
      const slots = new Map<number, number>();
      if (map.spec.type === 'programArray') {
        arrays.set(map, map.version);
        for (const [slot, target] of map.programs) {
          const reached = target as HeldProgram & ChainProgram;
          if (!numbers.has(reached)) numbers.set(reached, numbers.size);
          slots.set(slot, numbers.get(reached) as number);
        }
      }
      maps.set(name, placeOf(view, map, slots));
    }
    const { spec, code, graphs, frames } = program;
    programs.push({ program, linked: { spec, index, code, graphs, frames, maps } });
  }
  return { programs, arrays };
}

function placeOf(view: DataView, map: UserspaceMap, slots: ReadonlyMap<number, number>): MapPlace {
  const field = (offset: number): number => view.getUint32(map.address + offset, true);
  return {
    spec: map.spec,
    address: map.address,
    tag: map.tag,
    values: field(MAP_VALUES),
    stride: field(MAP_ENTRY_STRIDE),
    valueStride: field(MAP_VALUE_STRIDE),
    isShared: field(MAP_SHARED) !== 0,
    slots,
  };
}

/** Programs of the userspace engine: checked when they are loaded, linked with what they tail-call when they first run. */
import {
  ArgumentError,
  type BatchPacket,
  type BatchResult,
  type LoadedMap,
  type MapSpec,
  type ProgramSpec,
  type TestRunOptions,
  type TestRunResult,
} from '@tailrace/bpf';
import type { AbstractValue } from './abstract-value.ts';
import { argumentBytes } from './argument-bytes.ts';
import { BatchRoom } from './batch.ts';
import { Chain } from './chain.ts';
import { type Code, codeOf, isRegisterCall } from './code.ts';
import { contextFieldKind } from './context.ts';
import { type FunctionGraph, graphsOf } from './control-flow.ts';
import { HeldProgram } from './held.ts';
import { HELPERS } from './helper.ts';
import type { Entry } from './linked-program.ts';
import { UserspaceMap } from './map.ts';
import type { EngineMemory } from './memory.ts';
import { checkContext, checkedFrames, checkHelpers, checkMaps, checkValueAddresses, withoutRegisterCalls } from './program-check.ts';
import { type Provenance, provenanceOf, type Surroundings, type WrittenMemory } from './provenance.ts';
import type { SocketInput, SocketOutcome, SocketProgram } from './socket-program.ts';
import { SocketRoom } from './socket-room.ts';
import { socketTestRun } from './socket-test-run.ts';
import { testRun } from './test-run.ts';
import type { WorkerContext } from './worker-context.ts';

/** What a program knows of the engine that loaded it. */
export interface ProgramSurroundings {
  /** Called when packets ran: readers of rings may have something to read. */
  readonly onRun: () => void;
  /** Lets others have their turn of the event loop, where runs have had it for long. */
  readonly turn: () => Promise<void> | undefined;
  /** The map whose descriptor is at an address. */
  readonly mapAt: (address: number) => UserspaceMap | undefined;
}

/** A live program. Using it after `close` throws ArgumentError. */
export class UserspaceProgram extends HeldProgram implements SocketProgram {
  readonly spec: ProgramSpec;
  readonly id: number;
  readonly code: Code;
  readonly graphs: readonly FunctionGraph[];
  readonly provenance: Provenance;
  readonly frames: number;
  /** Maps by the program's names for them. */
  readonly maps: ReadonlyMap<string, UserspaceMap>;
  readonly #context: WorkerContext;
  readonly #surroundings: ProgramSurroundings;
  #chain: Chain | undefined;
  #room: BatchRoom | undefined;
  #socketRoom: SocketRoom | undefined;

  constructor(
    spec: ProgramSpec,
    id: number,
    maps: ReadonlyMap<string, LoadedMap>,
    context: WorkerContext,
    surroundings: ProgramSurroundings,
  ) {
    super();
    this.spec = spec;
    this.id = id;
    this.#context = context;
    this.#surroundings = surroundings;
    this.maps = referencedMaps(spec, maps);
    const parts = programParts(spec, new Map([...this.maps].map(([name, map]) => [name, map.spec])), 'context');
    this.code = parts.code;
    this.graphs = parts.graphs;
    this.provenance = parts.provenance;
    this.frames = parts.frames;
    for (const map of this.maps.values()) if (map.spec.type === 'programArray') map.admit(spec);
    for (const map of this.maps.values()) map.hold();
  }

  get memory(): EngineMemory {
    return this.#context.memory;
  }

  /** The chain that packets enter through this program, as program arrays have it now. */
  get chain(): Chain {
    this.checkOpen();
    this.#chain ??= new Chain(this, this.#context);
    return this.#chain;
  }

  async testRun(options: TestRunOptions): Promise<TestRunResult> {
    try {
      const { type } = this.spec;
      if (type === 'skSkb' || type === 'skMsg' || type === 'sockOps') return socketTestRun(this, options);
      return testRun(this.chain, this.#context, options);
    } finally {
      this.#surroundings.onRun();
      await this.#surroundings.turn();
    }
  }

  runBatch(packets: readonly BatchPacket[]): readonly BatchResult[] {
    const { chain } = this;
    this.#room ??= new BatchRoom(chain, this.#context, this.#surroundings.mapAt);
    try {
      return this.#room.run(packets);
    } finally {
      this.#surroundings.onRun();
    }
  }

  runOnSocket(input: SocketInput): SocketOutcome {
    // sockets that hold it run it still when its user has closed it
    this.#chain ??= new Chain(this, this.#context);
    this.#socketRoom ??= new SocketRoom(this.#chain, this.#context, this.#surroundings.mapAt);
    try {
      return this.#socketRoom.run(input);
    } finally {
      this.#surroundings.onRun();
    }
  }

  protected dispose(): void {
    this.#room?.close();
    this.#socketRoom?.close();
    this.#chain?.close();
    for (const map of this.maps.values()) map.release();
  }
}

function referencedMaps(spec: ProgramSpec, maps: ReadonlyMap<string, LoadedMap>): ReadonlyMap<string, UserspaceMap> {
  const referenced = new Map<string, UserspaceMap>();
  for (const { map: name } of spec.mapReferences) {
    const map = maps.get(name);
    if (map === undefined) throw new ArgumentError(`program ${spec.name} refers to a map '${name}' that it was not given`);
    if (!(map instanceof UserspaceMap)) throw new ArgumentError(`map ${map.spec.name} was not made by the userspace engine`);
    referenced.set(name, map);
  }
  return referenced;
}

/** What is known of a program before it runs. */
export interface ProgramParts {
  readonly code: Code;
  readonly graphs: readonly FunctionGraph[];
  readonly provenance: Provenance;
  /** Frames that its calls take, the entry point's own counted. */
  readonly frames: number;
}

/**
 * Finds what can be known of a program before it runs. Throws EncodingError, UnsupportedError and ArgumentError for what can
 * never run here.
 */
export function programParts(spec: ProgramSpec, maps: ReadonlyMap<string, MapSpec>, entry: Entry): ProgramParts {
  const surroundings = surroundingsOf(spec, maps, entry);
  const written = codeOf(spec);
  const hasRegisterCalls = written.some((operation) => operation !== undefined && isRegisterCall(operation));
  const code = hasRegisterCalls ? withoutRegisterCalls(spec, written, provenanceOf(written, graphsOf(written), surroundings)) : written;
  checkHelpers(spec, code);
  checkValueAddresses(spec, code, maps);
  const graphs = graphsOf(code);
  const provenance = provenanceOf(code, graphs, surroundings);
  checkContext(spec, code, provenance);
  checkMaps(spec, code, provenance);
  return { code, graphs, provenance, frames: checkedFrames(spec, code, graphs, provenance) };
}

/** What the analyser has to know of a program's surroundings. */
export function surroundingsOf({ type }: ProgramSpec, maps: ReadonlyMap<string, MapSpec>, entry: Entry): Surroundings {
  return {
    maps,
    entry,
    contextField: (offset, size) => contextFieldKind(type, offset, size),
    movesPacket: (helper) => HELPERS.get(helper)?.movesPacket ?? true,
    writes: writtenMemory,
  };
}

/** The memory that a helper writes. */
function writtenMemory(helper: number, given: readonly AbstractValue[]): readonly WrittenMemory[] {
  const args = HELPERS.get(helper)?.args ?? [];
  return args.flatMap((kind, place) =>
    kind === 'outValue' || kind === 'lock' || (typeof kind === 'object' && kind.memory === 'write')
      ? [{ argument: place + 1, bytes: argumentBytes(kind, given) }]
      : [],
  );
}

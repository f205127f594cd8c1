/**
 * Runs one stage on an engine: compiles it alone, loads it, and gives it packets one by one, with typed handles on its
 * maps. What comes of a packet has the same shape as a simulation's result, so that the two can be compared.
 */
import { ArgumentError, type Engine, type EngineInstance, type LoadedMap, type LoadedProgram, TailraceError } from '@tailrace/bpf';
import { type CompiledStage, compileStage, counterNames, exitsOf } from '@tailrace/compiler';
import { createNamespace, kernel, Rtnetlink } from '@tailrace/kernel';
import { EngineMapRegistry } from '@tailrace/pipeline';
import {
  type AnyMap,
  type AnyStage,
  array,
  decode,
  encodeInto,
  perCpuArray,
  type Resource,
  type Schema,
  struct,
  toMapSpec,
  u64,
} from '@tailrace/stage';
import { type Outcome, type OutcomeVerdict, outcomeOf } from './outcome.ts';
import { frameBytes, type Packet } from './packet.ts';

/** Where a stage runs. */
export interface RunnerOptions {
  /**
   * A blueprint is opened for this runner and closed with it; an instance stays open. Default: the kernel, in a namespace
   * of its own.
   */
  readonly engine?: Engine | EngineInstance;
  /**
   * Attaches the program to the engine's interfaces, as pipelines do: the kernel then runs each packet at once, and waits
   * for its readers otherwise. Default: only where the engine is the runner's own.
   */
  readonly attach?: boolean;
}

/** How one packet is run. */
export interface PacketOptions {
  /** Metadata that earlier stages wrote; a field that is not given is zero. */
  readonly meta?: Readonly<Record<string, unknown>>;
}

/** What came of a packet. */
export interface StageRun extends Outcome {
  /** The packet as the stage left it. */
  readonly packet: Uint8Array;
  /** All metadata that the stage declares, as it left it. */
  readonly meta: Readonly<Record<string, unknown>>;
  /** As the engine reports it; one run is far too short to measure anything by it. */
  readonly durationNs: number;
}

/** A stage that is loaded and takes packets. Made by `runner`. */
export class StageRunner implements AsyncDisposable {
  readonly compiled: CompiledStage;
  readonly #instance: EngineInstance;
  readonly #registry: EngineMapRegistry;
  readonly #program: LoadedProgram;
  readonly #state: StageState;
  readonly #stateMap: LoadedMap;
  readonly #resources: AsyncDisposableStack;

  constructor(parts: RunnerParts) {
    this.compiled = parts.compiled;
    this.#instance = parts.instance;
    this.#registry = parts.registry;
    this.#program = parts.program;
    this.#state = parts.state;
    this.#stateMap = parts.stateMap;
    this.#resources = parts.resources;
  }

  /** The typed handle of a map or structure of the stage. Throws ChainError for others. */
  handle<H>(resource: Resource<unknown, H>): H {
    return this.#registry.handle(resource);
  }

  /** The live map behind a declaration. Throws ChainError for maps of others. */
  loaded(map: AnyMap): LoadedMap {
    return this.#registry.loaded(map);
  }

  /** Runs one packet. Throws what the engine throws: the kernel takes 14 bytes and more. */
  async run(frame: Packet | Uint8Array, { meta = {} }: PacketOptions = {}): Promise<StageRun> {
    this.#stateMap.update(KEY, this.#state.initial(meta, this.#instance.cpus));
    const { returnValue, packet, durationNs } = await this.#program.testRun({ packet: frameBytes(frame) });
    const { outcome, meta: left } = this.#state.read(this.#stateMap.lookup(KEY) ?? new Uint8Array(0), this.#instance.cpus);
    const returned = outcomeOf(returnValue);
    const agrees =
      returned !== undefined &&
      (outcome.verdict === 'next' || outcome.verdict === 'exit' ? returned.verdict === 'pass' : returned.verdict === outcome.verdict);
    if (!agrees) throw new TailraceError('compile', `the program returned ${returnValue}, and counted ${outcome.verdict}`);
    return { ...outcome, packet, meta: left, durationNs };
  }

  close(): Promise<void> {
    return this.#resources.disposeAsync();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

interface RunnerParts {
  readonly compiled: CompiledStage;
  readonly instance: EngineInstance;
  readonly registry: EngineMapRegistry;
  readonly program: LoadedProgram;
  readonly state: StageState;
  readonly stateMap: LoadedMap;
  readonly resources: AsyncDisposableStack;
}

/**
 * Compiles a stage and loads it. Its edges all end in a pass, and its counters tell which one a packet took. Throws
 * CompileError, VerifierError and what opening the engine throws, leaving nothing behind.
 */
export async function runner(stage: AnyStage, { engine, attach = engine === undefined }: RunnerOptions = {}): Promise<StageRunner> {
  const state = new StageState(stage);
  const compiled = compileStage(stage, { placement: state.placement });
  await using resources = new AsyncDisposableStack();
  const instance = engine === undefined ? await ownKernel(resources) : 'open' in engine ? resources.use(await engine.open()) : engine;
  const registry = new EngineMapRegistry(instance);
  resources.use(registry.hold([...compiled.maps.values()].map((map) => ({ map, scope: stage.name, user: stage.name }))));
  const stateMap = instance.createMap(toMapSpec(state.map, `${stage.name}/${STATE}`));
  resources.defer(() => stateMap.close());
  const maps = new Map([...compiled.maps].map(([name, map]) => [name, registry.loaded(map)]));
  const program = await instance.loadProgram(compiled.program, maps.set(STATE, stateMap));
  resources.defer(() => program.close());
  if (attach) {
    const attachment = await instance.attach(program, 'xdp');
    resources.defer(() => attachment.detach());
  }
  return new StageRunner({ compiled, instance, registry, program, state, stateMap, resources: resources.move() });
}

/** Runs one packet through a stage: `runner`, once. `prepare` fills its maps before. */
export async function run(
  stage: AnyStage,
  frame: Packet | Uint8Array,
  options: RunnerOptions & PacketOptions & { readonly prepare?: (runner: StageRunner) => void | Promise<void> } = {},
): Promise<StageRun> {
  await using loaded = await runner(stage, options);
  await options.prepare?.(loaded);
  return await loaded.run(frame, options);
}

/** The kernel with an interface that nobody uses. */
async function ownKernel(resources: AsyncDisposableStack): Promise<EngineInstance> {
  const namespace = resources.use(createNamespace());
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'run' }, { name: 'unused' });
  return resources.use(await kernel({ interfaces: ['run'], netns: namespace }).open());
}

/** What the program calls its state map; names of other maps are made of identifiers and dots. */
const STATE = '(state)';
/** The state map's only key. */
const KEY = new Uint8Array(4);

/** The state of a chain of one: counters, by which the outcome is told, and metadata. */
class StageState {
  readonly map: AnyMap;
  readonly placement;
  readonly #names: readonly string[];
  readonly #schema: Schema<unknown>;
  readonly #stride: number;

  constructor(stage: AnyStage) {
    const labels = exitsOf(stage);
    const fields: Readonly<Record<string, Schema<unknown>>> = { ...stage.reads, ...stage.writes };
    this.#names = counterNames('xdp', labels);
    const counters = array(u64, this.#names.length);
    this.#schema = Object.keys(fields).length === 0 ? struct({ counters }) : struct({ counters, meta: struct(fields) });
    this.#stride = Math.ceil(this.#schema.layout.size / 8) * 8;
    this.map = perCpuArray({ name: 'state', value: this.#schema, maxEntries: 1 });
    this.placement = {
      array: '(none)',
      next: { verdict: 'pass' },
      exits: Object.fromEntries(labels.map((label) => [label, { verdict: 'pass' as const }])),
      state: { map: STATE, counters: 0 },
      metadata: this.#fields(),
    } as const;
  }

  /** The same for every CPU: counters at zero, and the metadata `meta`. */
  initial(meta: Readonly<Record<string, unknown>>, cpus: number): Uint8Array {
    const one = new Uint8Array(this.#stride);
    const fields = this.#fields();
    for (const [name, value] of Object.entries(meta)) {
      const field = fields[name];
      if (field === undefined) throw new ArgumentError(`metadata '${name}' is not declared by the stage`);
      encodeInto(field.layout, value, new DataView(one.buffer), field.offset, name);
    }
    const all = new Uint8Array(this.#stride * cpus);
    for (let cpu = 0; cpu < cpus; cpu++) all.set(one, cpu * this.#stride);
    return all;
  }

  /** What the CPU that ran the program counted, and the metadata there. */
  read(bytes: Uint8Array, cpus: number): { readonly outcome: Outcome; readonly meta: Readonly<Record<string, unknown>> } {
    for (let cpu = 0; cpu < cpus; cpu++) {
      const { counters, meta = {} } = decode(this.#schema, bytes.subarray(cpu * this.#stride)) as {
        counters: readonly bigint[];
        meta?: Record<string, unknown>;
      };
      const counted = this.#names.filter((name, index) => name !== 'bytes' && counters[index] === 1n);
      const [name] = counted;
      if (counted.length === 1 && name !== undefined) return { outcome: outcomeNamed(name), meta };
    }
    throw new TailraceError('compile', 'the program counted no outcome, or several');
  }

  /** The metadata fields with their offsets in the whole value. */
  #fields(): Readonly<Record<string, { readonly layout: Schema<unknown>['layout']; readonly offset: number }>> {
    const { layout } = this.#schema;
    const meta = layout.kind === 'struct' ? layout.fields.meta : undefined;
    if (meta?.layout.kind !== 'struct') return {};
    return Object.fromEntries(
      Object.entries(meta.layout.fields).map(([name, field]) => [name, { layout: field.layout, offset: meta.offset + field.offset }]),
    );
  }
}

function outcomeNamed(counter: string): Outcome {
  return counter.startsWith('exit:') ? { verdict: 'exit', exit: counter.slice('exit:'.length) } : { verdict: counter as OutcomeVerdict };
}

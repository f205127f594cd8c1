/**
 * Runs one stage on an engine: compiles it alone, loads it, and gives it packets one by one, with typed handles on its
 * maps. What comes of a packet has the same shape as a simulation's result, so that the two can be compared.
 */
import {
  ArgumentError,
  type AttachHook,
  type Engine,
  type EngineInstance,
  type LoadedMap,
  type LoadedProgram,
  type SkbContext,
  type SkbResult,
  type SocketResult,
  TailraceError,
  type XdpContext,
} from '@tailrace/bpf';
import { type CompiledStage, compileStage } from '@tailrace/compiler';
import { EngineMapRegistry } from '@tailrace/pipeline';
import { type AnyMap, type AnyStage, decode, type Hook, type Resource, toMapSpec } from '@tailrace/stage';
import { userspace } from '@tailrace/userspace';
import { KernelAlone } from './kernel-alone.ts';
import { type Outcome, outcomeOf, type RedirectTarget } from './outcome.ts';
import { frameBytes, type Packet } from './packet.ts';
import { SocketData } from './socket-data.ts';
import { stageAt } from './stage-at.ts';
import { STATE, StageState } from './stage-state.ts';

/** Where a stage runs. */
export interface RunnerOptions {
  /** The hook to run at; default the stage's own. */
  readonly hook?: Hook;
  /**
   * A blueprint is opened for this runner and closed with it; an instance stays open. Default: `userspace()`, which needs no
   * privileges; `kernelAlone()` is the kernel, by itself.
   */
  readonly engine?: Engine | EngineInstance;
  /**
   * Attaches the program to the engine's interfaces, as pipelines do: the kernel then runs each packet at once, and waits
   * for its readers otherwise. Default: only with `kernelAlone()`, whose interface is nobody's.
   */
  readonly attach?: boolean;
}

/** How one packet is run. */
export interface PacketOptions {
  /** Metadata that earlier stages wrote; a field that is not given is zero. */
  readonly meta?: Readonly<Record<string, unknown>>;
  /** At TC: what is known of the packet besides its bytes. */
  readonly skb?: Omit<SkbContext, 'cb'>;
  /** At TC: the packet's sum was taken by the card, and the run fails where the stage leaves it wrong. Linux 6.17 and later. */
  readonly checksumComplete?: boolean;
  /** At XDP: where the packet came in. */
  readonly xdp?: Omit<XdpContext, 'metadata'>;
}

/** What came of a packet. */
export interface StageRun extends Outcome {
  /** The packet, or the data, as the stage left it. */
  readonly packet: Uint8Array;
  /** All metadata that the stage declares, as it left it. */
  readonly meta: Readonly<Record<string, unknown>>;
  /** At TC: mark, priority and what else the engine tells of the packet, as the stage left it. */
  readonly skb?: Omit<SkbResult, 'cb'>;
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

  get engine(): EngineInstance {
    return this.#instance;
  }

  /**
   * Runs one packet, or data or an event of a connection for a stage on sockets, which the kernel cannot do. Throws what the engine
   * throws: both take packets of 14 bytes and more; ArgumentError for options of another hook.
   */
  async run(frame: Packet | Uint8Array | SocketData, options: PacketOptions = {}): Promise<StageRun> {
    const { meta = {}, skb, xdp, checksumComplete } = options;
    const { kind } = this.#state;
    const isOnSockets = kind !== 'xdp' && kind !== 'tc';
    if (isOnSockets !== frame instanceof SocketData)
      throw new ArgumentError(`a stage at ${kind} takes ${isOnSockets ? 'data(…) or established(…)' : 'a packet'}`);
    this.#stateMap.update(KEY, this.#state.initial(meta, this.#instance.cpus));
    const { durationNs, returnValue, ...left } = await this.#program.testRun({
      ...(frame instanceof SocketData ? { packet: frame.bytes, socket: frame.contextAt(kind as Hook) } : { packet: frameBytes(frame) }),
      ...(kind === 'tc' ? { skb: { ...skb, cb: this.#state.controlBlock(meta) } } : skb && { skb }),
      ...(xdp === undefined ? {} : { xdp }),
      ...(checksumComplete === undefined ? {} : { checksumComplete }),
    });
    const counted = this.#stateMap.lookup(KEY) ?? new Uint8Array(0);
    const segments = kind === 'tc' ? Math.max(1, skb?.gsoSegments ?? 0) : 1;
    const { outcome, meta: after } = this.#state.read(counted, this.#instance.cpus, segments, left.skb?.cb);
    const returned = outcomeOf(returnValue, kind);
    const agrees =
      returned !== undefined &&
      (outcome.verdict === 'next' || outcome.verdict === 'exit' || (isOnSockets && outcome.verdict === 'redirect')
        ? returned.verdict === 'pass'
        : returned.verdict === outcome.verdict);
    if (!agrees) throw new TailraceError('compile', `the program returned ${returnValue}, and counted ${outcome.verdict}`);
    const redirect = left.socket?.target && this.#targetOf(left.socket.target);
    return {
      ...outcome,
      ...(redirect ? { redirect } : {}),
      packet: left.packet,
      meta: after,
      durationNs,
      ...(left.skb ? { skb: fieldsOf(left.skb) } : {}),
    };
  }

  #targetOf({ map: loaded, key, ingress }: NonNullable<SocketResult['target']>): RedirectTarget | undefined {
    const sockets = [...this.compiled.maps.values()].find((map) => this.#registry.loaded(map) === loaded);
    return sockets && { sockets, key: decode(sockets.key ?? sockets.value, key), ingress };
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
export async function runner(
  subject: AnyStage,
  { hook = subject.hook, engine = userspace({ compile: 'quickly' }), attach = engine instanceof KernelAlone }: RunnerOptions = {},
): Promise<StageRunner> {
  const stage = stageAt(subject, hook);
  const state = new StageState(stage);
  const compiled = compileStage(stage, { placement: state.placement });
  await using resources = new AsyncDisposableStack();
  const instance = 'open' in engine ? resources.use(await engine.open()) : engine;
  const registry = new EngineMapRegistry(instance);
  resources.use(registry.hold([...compiled.maps.values()].map((map) => ({ map, scope: stage.name, user: stage.name }))));
  const stateMap = instance.createMap(toMapSpec(state.map, `${stage.name}/${STATE}`));
  resources.defer(() => stateMap.close());
  const maps = new Map([...compiled.maps].map(([name, map]) => [name, registry.loaded(map)]));
  const program = await instance.loadProgram(compiled.program, maps.set(STATE, stateMap));
  resources.defer(() => program.close());
  if (attach) {
    const attachment = await instance.attach(program, attachHook(stage));
    resources.defer(() => attachment.detach());
  }
  return new StageRunner({ compiled, instance, registry, program, state, stateMap, resources: resources.move() });
}

/** Runs one packet, data or an event through a stage: `runner`, once. `prepare` fills its maps before. */
export async function run(
  stage: AnyStage,
  frame: Packet | Uint8Array | SocketData,
  options: RunnerOptions & PacketOptions & { readonly prepare?: (runner: StageRunner) => void | Promise<void> } = {},
): Promise<StageRun> {
  await using loaded = await runner(stage, options);
  await options.prepare?.(loaded);
  return await loaded.run(frame, options);
}

/** Where a runner attaches: a stage of `tc` at ingress. Throws ArgumentError for stages of sockets' hooks. */
function attachHook({ name, hook }: AnyStage): AttachHook {
  if (hook === 'tc') return 'tcIngress';
  if (hook === 'xdp' || hook === 'tcIngress' || hook === 'tcEgress') return hook;
  throw new ArgumentError(`stage '${name}' has hook '${hook}', only 'xdp' and those of TC can be attached`);
}

function fieldsOf({ cb: _metadata, ...fields }: SkbResult): Omit<SkbResult, 'cb'> {
  return fields;
}

/** The state's only index. */
const KEY = new Uint8Array(4);

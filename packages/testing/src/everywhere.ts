/**
 * One stage and the same packets on every hook that it can serve: on an engine and simulated, with the same answers
 * everywhere. Where they differ, the error says at which hook and in what.
 */
import { TailraceError } from '@tailrace/bpf';
import { CompileError, compileStage } from '@tailrace/compiler';
import { type AnyMap, type AnyStage, hookFits, type Resource } from '@tailrace/stage';
import { describe } from './description.ts';
import { describeDifferences, packetDifferences } from './difference.ts';
import { describeOutcome, type Outcome } from './outcome.ts';
import { frameBytes, type Packet } from './packet.ts';
import { type PacketOptions, type RunnerOptions, runner, type StageRunner } from './run.ts';
import { simulatedHandle } from './simulated-handle.ts';
import { SimulatedMaps } from './simulated-map.ts';
import { onWire, type SimulationOptions, type SimulationResult, simulate } from './simulation.ts';
import { stageAt } from './stage-at.ts';

/** A hook at which packets are run. */
export type PacketHook = 'xdp' | 'tcIngress' | 'tcEgress';
const packetHooks: readonly PacketHook[] = ['xdp', 'tcIngress', 'tcEgress'];

const engineNames = { kernel: 'the kernel', userspace: 'the userspace engine' } as const;

/** Two runs of one packet differ. */
export class DisagreementError extends TailraceError {
  constructor(message: string) {
    super('compile', message);
  }
}

/**
 * The hooks that a stage can serve: its own, and those where the compiler takes its body. Throws CompileError where it is
 * refused at its own.
 */
export function hooksOf(stage: AnyStage): readonly PacketHook[] {
  return packetHooks.filter((hook) => {
    try {
      compileStage(stageAt(stage, hook));
      return true;
    } catch (error) {
      if (error instanceof CompileError && !hookFits(stage.hook, hook)) return false;
      throw error;
    }
  });
}

/** Gives the handle of a map or structure, of a runner or a simulation. */
export type Handles = <H>(resource: Resource<unknown, H>) => H;

/** How a stage is run everywhere. */
export interface EverywhereOptions extends Pick<RunnerOptions, 'engine' | 'attach'> {
  /** Default: all that the stage can serve. */
  readonly hooks?: readonly PacketHook[];
  /** Fills the maps: at every hook once on the engine, and once simulated. */
  readonly prepare?: (handle: Handles) => void;
}

/** How one packet is run everywhere. */
export interface EverywherePacketOptions extends Pick<PacketOptions, 'meta' | 'skb' | 'checksumComplete'> {
  /** What only simulations can be told. */
  readonly simulation?: Omit<SimulationOptions, 'hook' | 'maps' | 'meta' | 'skb' | 'offloadedVlan'>;
}

interface Place {
  readonly hook: PacketHook;
  readonly live: StageRunner;
  readonly maps: SimulatedMaps;
}

/** A stage that is loaded at several hooks. Made by `everywhere`. */
export class EverywhereRunner implements AsyncDisposable {
  readonly #stage: AnyStage;
  readonly #places: readonly Place[];
  readonly #resources: AsyncDisposableStack;

  constructor(stage: AnyStage, places: readonly Place[], resources: AsyncDisposableStack) {
    this.#stage = stage;
    this.#places = places;
    this.#resources = resources;
  }

  get hooks(): readonly PacketHook[] {
    return this.#places.map(({ hook }) => hook);
  }

  /**
   * Runs one packet at every hook, on the engine and simulated. Gives what all of them say: the outcome, the packet as it
   * goes onto the wire, the metadata. Throws DisagreementError. A frame without its whole IP header is only simulated at
   * TC where the engine is the kernel, whose test runs there refuse it.
   */
  async run(frame: Packet | Uint8Array, options: EverywherePacketOptions = {}): Promise<SimulationResult> {
    const { simulation, meta = {}, skb = {}, checksumComplete } = options;
    const bytes = frameBytes(frame);
    const results: SimulationResult[] = [];
    for (const { hook, live, maps } of this.#places) {
      const expected = simulate(this.#stage, bytes, { ...simulation, hook, maps, meta, ...(hook === 'xdp' ? {} : { skb }) });
      results.push({ ...expected, packet: onWire(expected) });
      const { kind } = live.engine;
      if (kind === 'kernel' && hook !== 'xdp' && !holdsIpHeader(bytes)) continue;
      const atTc = { skb, ...(checksumComplete === undefined ? {} : { checksumComplete }) };
      const actual = await live.run(bytes, { meta, ...(hook === 'xdp' ? {} : atTc) });
      const about = (what: string): string => `stage '${this.#stage.name}' at ${hook}: ${what}`;
      sameOutcome(about(`${engineNames[kind]} against the simulation`), expected, actual, bytes);
      samePacket(about(`the packet, the simulation against ${engineNames[kind]}`), expected.packet, actual.packet, bytes);
      sameJson(about('metadata'), expected.meta, actual.meta, bytes);
      if (expected.skb && actual.skb)
        for (const name of ['mark', 'priority'] as const) sameJson(about(name), expected.skb[name], actual.skb[name], bytes);
    }
    const [first, ...others] = results;
    if (first === undefined) throw new DisagreementError(`stage '${this.#stage.name}' runs at no hook`);
    for (const [index, other] of others.entries()) {
      const about = `stage '${this.#stage.name}': ${this.hooks[index + 1]} against ${this.hooks[0]}`;
      sameOutcome(about, first, other, bytes);
      samePacket(about, first.packet, other.packet, bytes);
      sameJson(`${about}, metadata`, first.meta, other.meta, bytes);
    }
    return first;
  }

  /** Compares what the maps hold, other than per-CPU ones. Throws DisagreementError. */
  compareMaps(): void {
    for (const { hook, live, maps } of this.#places)
      for (const map of live.compiled.maps.values()) {
        if (!comparable.has(map.type)) continue;
        const about = `stage '${this.#stage.name}' at ${hook}: map '${map.name}'`;
        sameJson(about, entries(simulatedHandle(maps, map)), entries(live.handle(map)));
      }
  }

  close(): Promise<void> {
    return this.#resources.disposeAsync();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Loads a stage at every hook that it can serve. Throws as `runner` does, leaving nothing behind. */
export async function everywhere(stage: AnyStage, options: EverywhereOptions = {}): Promise<EverywhereRunner> {
  const { hooks, prepare, ...where } = options;
  await using resources = new AsyncDisposableStack();
  const places: Place[] = [];
  for (const hook of hooks ?? packetHooks) {
    const loading = runner(stage, { ...where, hook });
    // As hooksOf does, without compiling twice.
    const live = await (hooks !== undefined || hookFits(stage.hook, hook) ? loading : unlessRefused(loading));
    if (live === undefined) continue;
    resources.use(live);
    const maps = new SimulatedMaps();
    prepare?.((resource) => live.handle(resource));
    prepare?.((resource) => simulatedHandle(maps, resource));
    places.push({ hook, live, maps });
  }
  return new EverywhereRunner(stage, places, resources.move());
}

/** Runs packets through a stage at every hook that it can serve, and compares the maps in the end. */
export async function runEverywhere(
  stage: AnyStage,
  frames: readonly (Packet | Uint8Array)[],
  options: EverywhereOptions & EverywherePacketOptions = {},
): Promise<readonly SimulationResult[]> {
  await using loaded = await everywhere(stage, options);
  const results: SimulationResult[] = [];
  for (const frame of frames) results.push(await loaded.run(frame, options));
  loaded.compareMaps();
  return results;
}

/** net/bpf/test_run.c, bpf_prog_test_run_skb: the header that the EtherType announces must be there. */
function holdsIpHeader(frame: Uint8Array): boolean {
  const etherType = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0);
  return frame.length >= 14 + (etherType === 0x0800 ? 20 : etherType === 0x86dd ? 40 : 0);
}

/** Undefined where the compiler refuses the stage. */
async function unlessRefused(loading: Promise<StageRunner>): Promise<StageRunner | undefined> {
  try {
    return await loading;
  } catch (error) {
    if (error instanceof CompileError) return undefined;
    throw error;
  }
}

/** Maps whose entries are the same wherever a stage ran; which entries an LRU map evicts is the kernel's choice. */
const comparable: ReadonlySet<AnyMap['type']> = new Set<AnyMap['type']>(['array', 'hash', 'lpmTrie']);

/** All entries in the order of their text. */
function entries(handle: unknown): readonly string[] {
  return (handle as { getAll(): unknown[] }).getAll().map(text).sort();
}

function sameOutcome(about: string, expected: Outcome, actual: Outcome, packet: Uint8Array): void {
  if (expected.verdict === actual.verdict && expected.exit === actual.exit && expected.reason === actual.reason) return;
  throw differ(about, describeOutcome(expected), describeOutcome(actual), packet);
}

function samePacket(about: string, expected: Uint8Array, actual: Uint8Array, packet: Uint8Array): void {
  if (packetDifferences(expected, actual).length === 0) return;
  throw new DisagreementError(`${about}: ${describeDifferences(expected, actual)}\n\nthe packet before:\n${describe(packet)}`);
}

function sameJson(about: string, expected: unknown, actual: unknown, packet?: Uint8Array): void {
  if (text(expected) !== text(actual)) throw differ(about, text(expected), text(actual), packet);
}

function differ(about: string, expected: string, actual: string, packet?: Uint8Array): DisagreementError {
  const before = packet === undefined ? '' : `\n\nthe packet before:\n${describe(packet)}\n${Buffer.from(packet).toString('hex')}`;
  return new DisagreementError(`${about}: expected ${expected}, got ${actual}${before}`);
}

function text(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? `${part}n` : part));
}

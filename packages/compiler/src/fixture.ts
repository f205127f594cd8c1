/**
 * For tests: stages out of source text, and one stage run on an engine and as plain JavaScript, both held to the same
 * outcome, packet, metadata and map contents. Tests hand in @tailrace/testing, which this package may not import.
 */
import { runInThisContext } from 'node:vm';
import { type EngineInstance, isPerCpu, type LoadedMap, type LoadedProgram, type SkbContext } from '@tailrace/bpf';
import { type AnyMap, type AnyStage, decode, type Hook, type Resource, type Schemas, stage, toMapSpec } from '@tailrace/stage';
import { expect } from 'vitest';
import { type CompiledStage, compileStage } from './compile.ts';
import { CompileError, formatDiagnostic } from './diagnostic.ts';
import { hookVerdicts } from './placement.ts';

/** What a stage made of text has beside its body. */
export interface TextOptions {
  readonly name?: string;
  /** Default `xdp`. */
  readonly hook?: Hook;
  readonly uses?: Readonly<Record<string, unknown>>;
  readonly reads?: Schemas;
  readonly writes?: Schemas;
}

/** A function out of its source text, as if `stage.ts` held nothing else. */
export function functionOf(text: string): (...args: never[]) => never {
  return runInThisContext(`(${text})`, { filename: 'stage.ts', columnOffset: -1 }) as (...args: never[]) => never;
}

/** A stage whose whole program is text. */
export function programStage(
  text: string,
  { name = 'sample', hook = 'xdp', uses = {}, reads = {}, writes = {} }: TextOptions = {},
): AnyStage {
  return stage({ name, hook, uses, reads, writes, program: functionOf(text) as never });
}

/** A stage whose body is text; all uses are names in it. */
export function stageOf(body: string, options: TextOptions = {}): AnyStage {
  return programStage(`(ctx, { ${Object.keys(options.uses ?? {}).join(', ')} }) => {\n${body}\n}`, options);
}

/** The formatted diagnostic of a stage, or of a body, that is refused. Fails the test where it is not. */
export function refusal(subject: string | AnyStage, options: TextOptions = {}): string {
  const refused = typeof subject === 'string' ? stageOf(subject, options) : subject;
  try {
    compileStage(refused);
  } catch (error) {
    if (error instanceof CompileError) return formatDiagnostic(error.diagnostic);
    throw error;
  }
  expect.unreachable(`compiled: ${refused.program}`);
}

interface Outcome {
  readonly verdict: string;
  readonly exit?: string;
  readonly reason?: string;
}
interface Result extends Outcome {
  readonly packet: Uint8Array;
  readonly meta: Readonly<Record<string, unknown>>;
  readonly skb?: { readonly mark: number; readonly priority: number };
}
type Meta = Readonly<Record<string, unknown>>;
type Skb = Omit<SkbContext, 'cb'>;
interface Runner extends AsyncDisposable {
  readonly compiled: CompiledStage;
  handle<H>(resource: Resource<unknown, H>): H;
  loaded(map: AnyMap): LoadedMap;
  run(frame: Uint8Array, options: { readonly meta?: Meta; readonly skb?: Skb }): Promise<Result>;
}
interface Simulation<M> {
  readonly maps?: M;
  readonly meta?: Meta;
  readonly skb?: Skb;
}
/** What `agree` takes of @tailrace/testing. */
export interface Testing<M extends { of(map: AnyMap): LoadedMap }> {
  runner(stage: AnyStage, options: { readonly engine: EngineInstance; readonly attach: boolean }): Promise<Runner>;
  simulate(stage: AnyStage, frame: Uint8Array, options: Simulation<M>): Result;
  simulatedHandle<H>(maps: M, resource: Resource<unknown, H>): H;
  readonly SimulatedMaps: new () => M;
}

/** How a stage is run on both sides. */
export interface AgreementOptions {
  /** Fills maps, on either side. */
  readonly prepare?: (handle: <H>(resource: Resource<unknown, H>) => H) => void;
  /** Metadata as an earlier stage left it. */
  readonly meta?: Meta;
  /** At TC: what is known of each packet. */
  readonly skb?: Skb;
}

/** Runs every frame on both sides, one after the other on the same maps, and compares all that can be seen after each. */
export async function agree<M extends { of(map: AnyMap): LoadedMap }>(
  { runner, simulate, simulatedHandle, SimulatedMaps }: Testing<M>,
  engine: EngineInstance,
  subject: AnyStage,
  frames: readonly Uint8Array[],
  { prepare, meta = {}, skb }: AgreementOptions = {},
): Promise<readonly Result[]> {
  await using live = await runner(subject, { engine, attach: true });
  const maps = new SimulatedMaps();
  prepare?.((resource) => simulatedHandle(maps, resource));
  prepare?.((resource) => live.handle(resource));
  const declarations = [...live.compiled.maps.values()];
  const perCpu = declarations.filter(({ type }) => engine.cpus > 1 && isPerCpu(type));
  const results: Result[] = [];
  const given = { meta, ...(skb ? { skb } : {}) };
  for (const [index, frame] of frames.entries()) {
    const about = `packet ${index}: ${hex(frame)}\n${subject.program}`;
    const before = perCpu.map((map) => rawEntries(live.loaded(map)));
    const expected = simulate(subject, frame, { maps, ...given });
    const actual = await live.run(frame, given);
    for (const [i, map] of perCpu.entries()) spread(live.loaded(map), before[i] as Map<string, string>, engine.cpus);
    const ours = told(actual, declarations, (map) => live.loaded(map), engine.cpus);
    const wanted = told(expected, declarations, (map) => maps.of(map), 1);
    expect(ours, about).toBe(wanted);
    results.push(expected);
  }
  return results;
}

/** All that can be seen after a packet, as text. */
function told(
  { verdict, exit, reason, packet, meta, skb }: Result,
  declarations: readonly AnyMap[],
  loaded: (map: AnyMap) => LoadedMap,
  cpus: number,
): string {
  const maps = declarations.map((map) => [map.name, contents(map, loaded(map), isPerCpu(map.type) ? cpus : 1)]);
  const seen = { verdict, exit, reason, packet: hex(packet), meta, mark: skb?.mark, priority: skb?.priority, maps };
  return JSON.stringify(seen, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value), 1);
}

/** A stage at one hook, loaded with maps of its own. */
class Placed implements Disposable {
  readonly program: LoadedProgram;
  readonly maps: ReadonlyMap<AnyMap, LoadedMap>;
  readonly #verdicts: ReadonlyMap<number, string>;

  private constructor(program: LoadedProgram, maps: ReadonlyMap<AnyMap, LoadedMap>, hook: 'xdp' | 'tc') {
    this.program = program;
    this.maps = maps;
    this.#verdicts = new Map(Object.entries(hookVerdicts[hook]).map(([name, number]) => [number >>> 0, name]));
  }

  static async load(engine: EngineInstance, subject: AnyStage): Promise<Placed> {
    const { program, maps } = compileStage(subject);
    const made = new Map([...maps.values()].map((map) => [map, engine.createMap(toMapSpec(map, map.name))]));
    const named = new Map([...maps].map(([name, map]) => [name, made.get(map) as LoadedMap]));
    return new Placed(await engine.loadProgram(program, named), made, subject.hook === 'xdp' ? 'xdp' : 'tc');
  }

  /** What comes of a packet, and what the maps hold after it, on every CPU alike. */
  async run(packet: Uint8Array, cpus: number): Promise<Readonly<Record<string, unknown>>> {
    const before = new Map([...this.maps].map(([map, loaded]) => [map, rawEntries(loaded)]));
    const result = await this.program.testRun({ packet });
    // metadata lie elsewhere at each hook
    const own = [...this.maps].filter(([map]) => map.name !== 'state');
    const left = own.map(([map, loaded]) => {
      const copies = isPerCpu(map.type) ? cpus : 1;
      if (copies > 1) spread(loaded, before.get(map) as Map<string, string>, copies);
      return [map.name, contents(map, loaded, copies)] as const;
    });
    return { verdict: this.#verdicts.get(result.returnValue), packet: hex(result.packet), maps: left };
  }

  [Symbol.dispose](): void {
    this.program.close();
    for (const map of this.maps.values()) map.close();
  }
}

/** Runs every frame through a stage of XDP and the same stage at TC: verdicts, packets and the stage's own maps must be equal. */
export async function sameAtTc(engine: EngineInstance, subject: AnyStage, frames: readonly Uint8Array[]): Promise<void> {
  using xdp = await Placed.load(engine, subject);
  using tc = await Placed.load(engine, (subject as AnyStage & { at(hook: Hook): AnyStage }).at('tcIngress'));
  for (const [index, frame] of frames.entries()) {
    const about = `packet ${index}: ${hex(frame)}\n${subject.program}`;
    expect(await tc.run(frame, engine.cpus), about).toEqual(await xdp.run(frame, engine.cpus));
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Keys to values, in hex. */
function rawEntries(map: LoadedMap): Map<string, string> {
  const { count, keys, values } = map.readAll();
  const slice = (bytes: Uint8Array, size: number, i: number): string => hex(bytes.subarray(i * size, (i + 1) * size));
  return new Map(Array.from({ length: count }, (_, i) => [slice(keys, map.spec.keySize, i), slice(values, map.valueStride, i)]));
}

/** Entries in the order of their keys, of the first CPU: decoded for the reader, and as bytes because of padding. */
function contents({ value }: AnyMap, map: LoadedMap, cpus: number): readonly (readonly [string, unknown, string])[] {
  const first = (bytes: string): string => bytes.slice(0, bytes.length / cpus);
  return [...rawEntries(map)]
    .map(([key, bytes]) => [key, decode(value, Buffer.from(bytes, 'hex')), first(bytes)] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Gives every CPU the values of the one that changed them, so that the next run may be anywhere. */
function spread(map: LoadedMap, before: ReadonlyMap<string, string>, cpus: number): void {
  for (const [key, value] of rawEntries(map)) {
    const stride = value.length / cpus;
    const old = before.get(key) ?? '0'.repeat(value.length);
    const parts = Array.from({ length: cpus }, (_, cpu) => value.slice(cpu * stride, (cpu + 1) * stride));
    const changed = parts.find((part, cpu) => part !== old.slice(cpu * stride, (cpu + 1) * stride));
    if (changed !== undefined) map.update(Buffer.from(key, 'hex'), Buffer.from(changed.repeat(cpus), 'hex'));
  }
}

/**
 * For this package's tests: an engine in memory whose programs are the stages' own bodies, run as plain JavaScript. Tail
 * calls go through the fake's program arrays and count in its maps, so that plans, slots, state and swaps are seen at
 * work without a kernel. Any call can be made to fail.
 */
import {
  ArgumentError,
  type AttachHook,
  type Attachment,
  type Batch,
  type Engine,
  type EngineInstance,
  isKeyless,
  isPerCpu,
  type LoadedMap,
  type LoadedProgram,
  type MapSpec,
  type ProgramSpec,
  type RingReader,
} from '@tailrace/bpf';
import {
  counterNames,
  type Edge,
  hookVerdicts,
  outcomeNamed,
  type Placement,
  type ProgramHook,
  type RootOptions,
} from '@tailrace/compiler';
import { type AnyStage, mapsIn, verdictNames } from '@tailrace/stage';
import type { ChainVerdict } from './chain-hook.ts';
import { MemoryRing } from './memory-ring.ts';
import type { StageCompiler } from './service.ts';

const CPUS = 2;

/** What was compiled, by spec. */
type Source = { readonly stage: AnyStage; readonly placement: Placement } | { readonly root: RootOptions };
const sources = new WeakMap<ProgramSpec, Source>();

/** A compiler that only remembers. Ways out are read off the body's source; each is taken to write all that the stage declares. */
export const fakeCompiler: StageCompiler = {
  outcomesOf(stage) {
    const body = stage.program.toString();
    const exits = [...new Set([...body.matchAll(/exit\(["'](\w+)["']\)/g)].map(([, label]) => label ?? ''))].sort();
    const verdicts = verdictNames[stage.hook].filter((name) => body.includes(`ctx.${name}(`));
    const next = body.includes('ctx.next(');
    const outcomes = [...exits.map((label) => `exit:${label}`), ...verdicts, ...(next ? ['next'] : [])];
    const reasons = [
      ...new Set([...body.matchAll(/(drop|abort)\(["']([^"']+)["']\)/g)].map(([, verdict, why]) => `${verdict}:${why}`)),
    ].sort();
    return { exits, next, reasons, verdicts, writes: Object.fromEntries(outcomes.map((name) => [name, Object.keys(stage.writes)])) };
  },
  compileStage(stage, { name = stage.name, placement } = {}) {
    const program = specOf(name);
    if (placement) sources.set(program, { stage, placement });
    return { program, maps: new Map(mapsIn(stage.uses).map((map, i) => [`map${i}`, map])), stackSize: 0, spills: 0, longest: 0 };
  },
  compileFused(_, { name }) {
    throw new ArgumentError(`program ${name} is fused, which the fake compiler does not do`);
  },
  compileRoot(root) {
    const program = specOf(root.name);
    sources.set(program, { root });
    return program;
  },
};

function specOf(name: string): ProgramSpec {
  return { name, type: 'xdp', frags: true, license: 'Dual MIT/GPL', instructions: [], mapReferences: [], functions: [], lines: [] };
}

/** Thrown by a call that was told to fail. */
export class PlannedFailure extends ArgumentError {}

/** An engine that counts what is open. */
export class FakeEngine implements Engine, EngineInstance {
  readonly kind = 'userspace';
  readonly cpus = CPUS;
  /** Everything that was done, in order, e.g. `load acl`. */
  readonly log: string[] = [];
  readonly open$ = new Set<FakeMap | FakeProgram | Attachment>();
  /** The step that fails, counted from 0 over all calls. */
  failAt = Number.POSITIVE_INFINITY;
  steps = 0;
  /** Runs at each step, before it counts. */
  onStep: (what: string) => void = () => undefined;
  /** Comes before the packet of each test run. */
  onRun: () => void | Promise<void> = () => undefined;
  /** What a grace period lasts for. */
  onGrace: () => void | Promise<void> = () => undefined;
  #ids = 0;

  async open(): Promise<EngineInstance> {
    this.step('open');
    return this;
  }

  createMap(spec: MapSpec): LoadedMap {
    this.step(`map ${spec.name}`);
    return this.#keep(new FakeMap(this, spec, ++this.#ids));
  }

  openRing(map: LoadedMap, onReadable: () => void): RingReader {
    this.step(`ring ${map.spec.name}`);
    return (map as FakeMap).ring.open(onReadable);
  }

  async loadProgram(spec: ProgramSpec, maps: ReadonlyMap<string, LoadedMap>): Promise<LoadedProgram> {
    this.step(`load ${spec.name}`);
    return this.#keep(new FakeProgram(this, spec, maps as ReadonlyMap<string, FakeMap>, ++this.#ids));
  }

  async attach(program: LoadedProgram, hook: AttachHook): Promise<Attachment> {
    this.step(`attach ${program.spec.name} ${hook}`);
    const attachment: Attachment = {
      interfaces: ['fake0'],
      detach: async () => {
        this.log.push('detach');
        this.open$.delete(attachment);
      },
    };
    this.open$.add(attachment);
    return attachment;
  }

  async gracePeriod(): Promise<void> {
    this.step('grace');
    await this.onGrace();
  }

  async close(): Promise<void> {
    this.log.push('close');
    this.open$.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  step(what: string): void {
    this.onStep(what);
    if (this.steps++ === this.failAt) throw new PlannedFailure(`told to fail at ${what}`);
    this.log.push(what);
  }

  /** Names of the open maps and programs, sorted. */
  get openNames(): readonly string[] {
    return [...this.open$].flatMap((thing) => ('spec' in thing ? [thing.spec.name] : [])).sort();
  }

  #keep<T extends FakeMap | FakeProgram>(thing: T): T {
    this.open$.add(thing);
    return thing;
  }
}

/** A map in memory: entries by the hexadecimal key. */
export class FakeMap implements LoadedMap {
  readonly spec: MapSpec;
  readonly id: number;
  readonly valueStride: number;
  readonly programs = new Map<number, LoadedProgram>();
  /** What a ring buffer holds. */
  readonly ring: MemoryRing;
  readonly #engine: FakeEngine;
  readonly #entries = new Map<string, Uint8Array>();
  /** Values of kinds without keys, in the order in which they came. */
  readonly #values: Uint8Array[] = [];
  #closed = false;

  constructor(engine: FakeEngine, spec: MapSpec, id: number) {
    this.#engine = engine;
    this.spec = spec;
    this.id = id;
    this.ring = new MemoryRing(spec);
    this.valueStride = isPerCpu(spec.type) ? Math.ceil(spec.valueSize / 8) * 8 * CPUS : spec.valueSize;
    if (spec.type === 'array' || spec.type === 'perCpuArray')
      for (let i = 0; i < spec.maxEntries; i++) this.#entries.set(hex(indexKey(i)), new Uint8Array(this.valueStride));
  }

  /** The value itself, for the fake's programs. */
  live(key: Uint8Array): Uint8Array | undefined {
    return this.#entries.get(hex(key));
  }

  lookup(key: Uint8Array): Uint8Array | undefined {
    this.#check(key.length, this.spec.keySize);
    if (isKeyless(this.spec.type)) return this.#values.at(this.spec.type === 'stack' ? -1 : 0)?.slice();
    return this.live(key)?.slice();
  }

  update(key: Uint8Array, value: Uint8Array, flag = 'any'): void {
    this.#check(key.length, this.spec.keySize);
    this.#check(value.length, this.valueStride);
    if (isKeyless(this.spec.type)) {
      const full = this.#values.length === this.spec.maxEntries;
      if (full && flag !== 'exist') throw new ArgumentError('E2BIG');
      if (full) this.#values.shift();
      this.#values.push(value.slice());
      return;
    }
    if (flag === 'noexist' && this.#entries.has(hex(key))) throw new ArgumentError('EEXIST');
    this.#entries.set(hex(key), value.slice());
  }

  delete(key: Uint8Array): boolean {
    this.#check(key.length, this.spec.keySize);
    return this.#entries.delete(hex(key));
  }

  nextKey(key?: Uint8Array): Uint8Array | undefined {
    const keys = [...this.#entries.keys()];
    const next = keys[key ? keys.indexOf(hex(key)) + 1 : 0];
    return next === undefined ? undefined : Uint8Array.from(Buffer.from(next, 'hex'));
  }

  readParts(): Iterable<Batch> {
    return [this.readAll()];
  }

  readAll(): Batch {
    this.#check(0, 0);
    return {
      count: this.#entries.size,
      keys: Uint8Array.from(Buffer.from([...this.#entries.keys()].join(''), 'hex')),
      values: Uint8Array.from(Buffer.concat([...this.#entries.values()])),
    };
  }

  updateBatch({ count, keys, values }: Batch): void {
    const { keySize } = this.spec;
    for (let i = 0; i < count; i++)
      this.update(keys.subarray(i * keySize, (i + 1) * keySize), values.subarray(i * this.valueStride, (i + 1) * this.valueStride));
  }

  deleteBatch(keys: Uint8Array, count: number): number {
    let deleted = 0;
    for (let i = 0; i < count; i++) if (this.delete(keys.subarray(i * this.spec.keySize, (i + 1) * this.spec.keySize))) deleted++;
    return deleted;
  }

  pop(): Uint8Array | undefined {
    return this.spec.type === 'stack' ? this.#values.pop() : this.#values.shift();
  }

  has(value: Uint8Array): boolean {
    return this.#values.some((known) => hex(known) === hex(value));
  }

  async setMap(key: Uint8Array, map: LoadedMap): Promise<void> {
    this.#engine.step(`inner ${this.spec.name} = ${map.spec.name}`);
    this.update(key, new Uint8Array(new Uint32Array([map.id]).buffer));
  }

  async clearMap(key: Uint8Array): Promise<boolean> {
    this.#engine.step(`inner ${this.spec.name} cleared`);
    return this.delete(key);
  }

  async setProgram(slot: number, program: LoadedProgram): Promise<void> {
    this.#engine.step(`slot ${this.spec.name}[${slot}] = ${program.spec.name}`);
    this.#check(0, 0);
    if (slot >= this.spec.maxEntries) throw new ArgumentError(`slot ${slot} of ${this.spec.maxEntries}`);
    this.programs.set(slot, program);
  }

  async clearProgram(slot: number): Promise<void> {
    this.#engine.step(`clear ${this.spec.name}[${slot}]`);
    this.programs.delete(slot);
  }

  close(): void {
    this.#closed = true;
    this.#engine.open$.delete(this);
  }

  #check(actual: number, expected: number): void {
    if (this.#closed) throw new ArgumentError(`map ${this.spec.name} is closed`);
    if (actual !== expected) throw new ArgumentError(`map ${this.spec.name}: ${actual} bytes, expected ${expected}`);
  }
}

interface Outcome {
  readonly label: string;
}
interface Step {
  readonly outcome: string;
  readonly verdict: ChainVerdict;
  readonly to?: FakeProgram | undefined;
}

class FakeProgram implements LoadedProgram {
  readonly spec: ProgramSpec;
  readonly id: number;
  readonly #engine: FakeEngine;
  readonly #maps: ReadonlyMap<string, FakeMap>;
  #closed = false;

  constructor(engine: FakeEngine, spec: ProgramSpec, maps: ReadonlyMap<string, FakeMap>, id: number) {
    this.#engine = engine;
    this.spec = spec;
    this.#maps = maps;
    this.id = id;
  }

  async testRun({ packet }: { readonly packet: Uint8Array }) {
    await this.#engine.onRun();
    const meta: Record<string, unknown> = {};
    let program: FakeProgram | undefined = this;
    let verdict: ChainVerdict = 'pass';
    for (let calls = 0; program !== undefined && calls <= 34; calls++) {
      const step: Step = program.#step(packet, meta);
      verdict = step.verdict;
      program = step.to;
    }
    const numbers: Readonly<Partial<Record<ChainVerdict, number>>> = hookVerdicts[this.#hook];
    return { returnValue: (numbers[verdict] ?? 0) >>> 0, packet, durationNs: 1 };
  }

  close(): void {
    this.#closed = true;
    this.#engine.open$.delete(this);
  }

  #step(packet: Uint8Array, meta: Record<string, unknown>): Step {
    if (this.#closed) throw new ArgumentError(`program ${this.spec.name} is closed`);
    const source = sources.get(this.spec);
    if (source === undefined) throw new ArgumentError(`program ${this.spec.name} was not made by the fake compiler`);
    if ('root' in source) {
      const to = this.#target(source.root.array, ('slot' in source.root && source.root.slot) || 0);
      if (!to && source.root.state) this.#count(source.root.state.map, source.root.state.misses);
      return { outcome: 'next', verdict: 'pass', to };
    }
    const { stage, placement } = source;
    const say = (label: string) => ({ label });
    const ctx = {
      length: packet.length,
      meta,
      packet,
      next: () => say('next'),
      exit: (label: string) => say(`exit:${label}`),
      pass: () => say('pass'),
      drop: (reason?: string) => say(reason === undefined ? 'drop' : `drop:${reason}`),
      tx: () => say('tx'),
      abort: (reason?: string) => say(reason === undefined ? 'abort' : `abort:${reason}`),
    };
    const { label } = (stage.program as (ctx: unknown, uses: unknown) => Outcome)(ctx, stage.uses);
    const edge = edgeBehind(placement, label);
    if (edge && 'part' in edge) throw new ArgumentError(`program ${this.spec.name} is fused, which no program of the fake compiler is`);
    const step: Step =
      edge && 'slot' in edge
        ? { outcome: label, verdict: stage.onMiss, to: this.#target(placement.array, edge.slot) }
        : { outcome: label, verdict: edge?.verdict ?? (outcomeNamed(label).verdict as ChainVerdict) };
    this.#countStep(placement, label, packet.length, edge !== undefined && 'slot' in edge && step.to === undefined);
    return step;
  }

  get #hook(): ProgramHook {
    const source = sources.get(this.spec);
    const hook = source && ('root' in source ? source.root.hook : source.stage.hook);
    return hook === undefined || hook === 'xdp' ? 'xdp' : 'tc';
  }

  #target(array: string, slot: number): FakeProgram | undefined {
    return this.#maps.get(array)?.programs.get(slot) as FakeProgram | undefined;
  }

  #countStep({ state, exits, reasons }: Placement, label: string, bytes: number, missed: boolean): void {
    if (state?.counters === undefined) return;
    const names = counterNames(this.#hook, Object.keys(exits), reasons);
    this.#count(state.map, state.counters + names.indexOf('bytes') * 8, BigInt(bytes));
    this.#count(state.map, state.counters + names.indexOf(label) * 8);
    if (missed) this.#count(state.map, state.counters + names.indexOf('misses') * 8);
  }

  /** Adds on the CPU of the packet: always the second. */
  #count(name: string, offset: number, by = 1n): void {
    const map = this.#maps.get(name);
    const bytes = map?.live(new Uint8Array(4));
    if (!map || !bytes) throw new ArgumentError(`program ${this.spec.name} has no state map`);
    const view = new DataView(bytes.buffer, bytes.byteOffset + map.valueStride / CPUS + offset);
    view.setBigUint64(0, view.getBigUint64(0, true) + by, true);
  }
}

function edgeBehind(placement: Placement, label: string): Edge | undefined {
  if (label === 'next') return placement.next;
  return label.startsWith('exit:') ? placement.exits[label.slice('exit:'.length)] : undefined;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function indexKey(index: number): Uint8Array {
  return new Uint8Array(new Uint32Array([index]).buffer);
}

/**
 * What tests of programs share: the same program, maps and packet, run in every way that the engine has: by the interpreter,
 * as WebAssembly, and as WebAssembly that checks what was proved too.
 */
import { assemble, type Instruction, type MapSpec, type ProgramSpec, type ProgramType, TailraceError } from '@tailrace/bpf';
import { expect } from 'vitest';
import { WORKERS } from './layout.ts';
import { Linker } from './linker.ts';
import { UserspaceMap } from './map.ts';
import { EngineMemory } from './memory.ts';
import { enter, leave, roomBytes } from './packet-state.ts';
import { UserspaceProgram } from './program.ts';
import { initializeWorker } from './worker-area.ts';
import type { WorkerContext } from './worker-context.ts';

/** A program with what it needs. */
export interface Sample {
  /** Default `xdp`. */
  readonly type?: ProgramType;
  /** As `assemble` takes it. */
  readonly text: string;
  /** By the names that the text uses. */
  readonly maps?: Readonly<Record<string, MapSpec>>;
  /** What is in maps before, as pairs of key and value. */
  readonly entries?: Readonly<Record<string, readonly (readonly [key: Uint8Array, value: Uint8Array])[]>>;
  /** Maps of maps: the names of maps by key. */
  readonly inner?: Readonly<Record<string, readonly (readonly [key: Uint8Array, map: string])[]>>;
  /** Texts by slot of the program array that the text calls `programs`. */
  readonly programs?: Readonly<Record<number, string>>;
  /** Default 64 bytes that count up. */
  readonly packet?: Uint8Array;
  readonly turnLimit?: number;
}

/** The ways to run a program. */
export const WAYS = ['interpreter', 'wasm', 'unproved'] as const;
export type Way = (typeof WAYS)[number];

/** What a run left. */
export interface Outcome {
  /** r0, unsigned, or what stopped it. */
  readonly result: bigint | string;
  readonly packet: Uint8Array;
  /** Entries of maps that have some, by key, as hex. */
  readonly maps: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** A packet of bytes that count up. */
export function countingPacket(length = 64): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => at & 0xff);
}

/** A blueprint from text. */
export function specOf(text: string, type: ProgramType, name = 'sample'): ProgramSpec {
  const { instructions, mapReferences } = assemble(text);
  return specFrom(instructions, type, { name, mapReferences });
}

/** A blueprint from instructions. */
export function specFrom(instructions: readonly Instruction[], type: ProgramType, rest: Partial<ProgramSpec> = {}): ProgramSpec {
  return {
    name: 'sample',
    type,
    frags: false,
    license: 'Dual MIT/GPL',
    instructions,
    mapReferences: [],
    functions: [],
    lines: [],
    ...rest,
  };
}

/** An engine of one program: loaded in one way, run as often as is wanted. */
export class LoadedSample {
  readonly memory = new EngineMemory();
  readonly program: UserspaceProgram;
  readonly maps = new Map<string, UserspaceMap>();
  readonly #linker = new Linker();
  readonly #context: WorkerContext;
  readonly #type: ProgramType;

  constructor(sample: Sample, way: Way, rest: Partial<WorkerContext> = {}) {
    const { type = 'xdp', turnLimit = 1 << 20 } = sample;
    this.#type = type;
    initializeWorker(this.memory, WORKERS, { cpu: 0, seed: 1n });
    this.#context = {
      memory: this.memory,
      worker: WORKERS,
      linker: this.#linker,
      mode: way === 'interpreter' ? 'interpreter' : 'wasm',
      cpus: 1,
      turnLimit,
      compile: 'quickly',
      proves: way !== 'unproved',
      now: () => 1_000_000_000n,
      ...rest,
    };
    let id = 0;
    for (const [name, spec] of Object.entries(sample.maps ?? {})) {
      const map = new UserspaceMap(this.memory, spec, ++id, 1, false, this.#linker);
      this.maps.set(name, map);
      for (const [key, value] of sample.entries?.[name] ?? []) map.update(key, value);
    }
    for (const [name, maps] of Object.entries(sample.inner ?? {}))
      for (const [key, inner] of maps) void this.maps.get(name)?.setMap(key, this.maps.get(inner) as UserspaceMap);
    this.program = this.#load(specOf(sample.text, type), ++id);
    for (const [slot, text] of Object.entries(sample.programs ?? {}))
      void this.maps.get('programs')?.setProgram(Number(slot), this.#load(specOf(text, type, `sample${slot}`), ++id));
  }

  /** Runs a packet. Throws what is no trap. */
  run(packet = countingPacket()): Outcome {
    const { memory, program } = this;
    const bytes = roomBytes(this.#type, packet.length);
    const floor = memory.allocate(bytes);
    try {
      enter(memory, WORKERS, { floor, ceiling: floor + bytes }, program.spec, { packet });
      const result = this.#result();
      return { result, packet: leave(memory, WORKERS, program.spec).packet, maps: this.#entries() };
    } finally {
      memory.free(floor);
    }
  }

  #result(): bigint | string {
    try {
      return this.program.chain.run();
    } catch (error) {
      if (error instanceof TailraceError && error.code === 'trap') return error.message;
      throw error;
    }
  }

  #load(spec: ProgramSpec, id: number): UserspaceProgram {
    return new UserspaceProgram(spec, id, this.maps, this.#context, { onRun: () => {}, turn: () => undefined, mapAt: () => undefined });
  }

  #entries(): Outcome['maps'] {
    const all: Record<string, Record<string, string>> = {};
    for (const [name, map] of this.maps) {
      const { keySize, type } = map.spec;
      if (keySize === 0 || type === 'xskmap' || type === 'programArray') continue;
      const { count, keys, values } = map.readAll();
      const hex = (bytes: Uint8Array, size: number, at: number): string =>
        Buffer.from(bytes.subarray(at * size, (at + 1) * size)).toString('hex');
      const entries = Array.from({ length: count }, (_, at) => [hex(keys, keySize, at), hex(values, map.valueStride, at)] as const);
      all[name] = Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
    }
    return all;
  }
}

/** Runs a sample in every way; fails where these differ. */
export function runEveryWay(sample: Sample): Outcome {
  const [reference, ...others] = WAYS.map((way) => ({ way, ...new LoadedSample(sample, way).run(sample.packet) }));
  for (const other of others) expect(other).toEqual({ ...reference, way: other.way });
  const { way, ...outcome } = reference as Outcome & { way: Way };
  return outcome;
}

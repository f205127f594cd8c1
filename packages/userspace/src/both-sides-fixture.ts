/**
 * What tests against the kernel share: the same calls of helpers in a row, once made by a program in the kernel and once by the
 * runtime, have to leave the same answers, memory, packet and context.
 */
import {
  ArgumentError,
  type EngineInstance,
  Helper,
  type Instruction,
  insn,
  type LoadedMap,
  type MapSpec,
  type ProgramType,
  reg,
  slotsOf,
  type TestRunOptions,
} from '@tailrace/bpf';
import { expect } from 'vitest';
import { helperFor } from './helper.ts';
import { WORKER_CONTEXT } from './layout.ts';
import { UserspaceMap } from './map.ts';
import { emptySpec, type GivenArgument, RuntimeFixture } from './runtime-fixture.ts';

/** One call, or a look at a field of the context. A text is the name of a map. */
export type Step =
  | readonly [helper: Helper, ...given: readonly (GivenArgument | string)[]]
  | { readonly field: number; readonly bytes?: 4 | 8 };

/** Bytes that one argument in memory may take, and steps that may be made in a row. */
const AREA = 64;
const LIMIT = 40;
const KEY = new Uint8Array(4);

/** What steps left. */
export interface Outcome {
  readonly answers: readonly bigint[];
  readonly memory: readonly Uint8Array[];
  readonly packet?: Uint8Array;
  readonly metadata?: Uint8Array;
  readonly error?: string;
}

/** An engine of the kernel, and a worker of ours for each type of program. */
export class BothSides {
  readonly #engine: EngineInstance;
  readonly #results: LoadedMap;
  readonly #fixtures = new Map<ProgramType, RuntimeFixture>();
  readonly #maps = new Map<string, LoadedMap>();

  constructor(engine: EngineInstance) {
    this.#engine = engine;
    this.#results = engine.createMap({
      name: 'sample/results',
      type: 'array',
      keySize: 4,
      valueSize: LIMIT * (8 + 2 * AREA),
      maxEntries: 1,
      flags: 0,
    });
  }

  /** Runs steps in the kernel. Step `i` has its answer at `8 * i` of the map's value, and two areas of memory behind all answers. */
  async inKernel(type: ProgramType, options: TestRunOptions, steps: readonly Step[]): Promise<Outcome> {
    checkEnds(options, steps);
    const value = new Uint8Array(this.#results.spec.valueSize);
    const instructions: Instruction[] = [insn.mov(6, reg(1))];
    const references: { pc: number; map: string; valueOffset?: number }[] = [];
    const areas: (readonly [at: number, length: number])[] = [];
    let pc = 1;
    const add = (...more: readonly Instruction[]): void => {
      for (const one of more) {
        instructions.push(one);
        pc += slotsOf(one);
      }
    };
    const address = (register: number, valueOffset: number): void => {
      references.push({ pc, map: 'results', valueOffset });
      add(insn.wideMapValue(register, valueOffset));
    };
    for (const [index, step] of steps.entries()) {
      if ('field' in step) add(insn.load(step.bytes ?? 4, 0, 6, step.field));
      else {
        const [helper, ...given] = step;
        let next = 0;
        let area = 0;
        for (const [place, kind] of helperFor(Helper[helper], type).args.entries()) {
          if (kind === 'context') add(insn.mov(place + 1, reg(6)));
          else {
            const argument = given[next++];
            if (argument instanceof Uint8Array) {
              const at = LIMIT * 8 + (2 * index + area++) * AREA;
              value.set(argument, at);
              areas.push([at, argument.length]);
              address(place + 1, at);
            } else if (typeof argument === 'string') {
              references.push({ pc, map: argument });
              add(insn.wideMap(place + 1));
            } else add(insn.wide(place + 1, BigInt(argument as number | bigint)));
          }
        }
        add(insn.call(Helper[helper]));
      }
      address(1, index * 8);
      add(insn.store(8, 1, 0, 0));
    }
    add(insn.mov(0, type === 'xdp' ? 2 : 0), insn.exit());
    this.#results.update(KEY, value);
    const program = await this.#engine.loadProgram(
      { ...emptySpec(type), instructions, mapReferences: references },
      new Map([...this.#maps, ['results', this.#results]]),
    );
    try {
      const run = await program.testRun(options);
      const left = this.#results.lookup(KEY) as Uint8Array;
      const view = new DataView(left.buffer, left.byteOffset);
      return {
        answers: steps.map((_, index) => view.getBigInt64(8 * index, true)),
        memory: areas.map(([at, length]) => left.slice(at, at + length)),
        packet: run.packet,
        ...(run.xdp ? { metadata: run.xdp.metadata } : {}),
      };
    } catch (error) {
      if ((error as { errnoName?: string }).errnoName !== 'EBADMSG') throw error;
      return { answers: [], memory: [], error: 'EBADMSG' };
    } finally {
      program.close();
    }
  }

  /** Runs the same steps by the runtime. */
  inUserspace(type: ProgramType, options: TestRunOptions, steps: readonly Step[]): Outcome {
    const fixture = this.fixture(type, options);
    const memory: Uint8Array[] = [];
    const answers = steps.map((step) => {
      if ('field' in step) {
        const at = fixture.worker + WORKER_CONTEXT + step.field;
        const { view } = fixture.memory;
        return step.bytes === 8 ? view.getBigInt64(at, true) : BigInt(view.getUint32(at, true));
      }
      const [helper, ...given] = step;
      const copies = given.map((argument) =>
        typeof argument === 'string' ? this.#address(argument, fixture) : argument instanceof Uint8Array ? argument.slice() : argument,
      );
      const answer = fixture.call(helper, ...copies);
      memory.push(...copies.filter((argument) => argument instanceof Uint8Array));
      return answer;
    });
    try {
      const { packet, xdp } = fixture.leave();
      return { answers, memory, packet, ...(xdp ? { metadata: xdp.metadata } : {}) };
    } catch (error) {
      if ((error as { errnoName?: string }).errnoName !== 'EBADMSG') throw error;
      return { answers: [], memory: [], error: 'EBADMSG' };
    }
  }

  /** Makes the steps on both sides; fails where they differ. */
  async agree(type: ProgramType, options: TestRunOptions, steps: readonly Step[]): Promise<Outcome> {
    const [theirs, ours] = [await this.inKernel(type, options, steps), this.inUserspace(type, options, steps)];
    expect(ours).toEqual(theirs);
    return theirs;
  }

  /** Our worker for programs of a type, with a packet: one after the other, as in the engine. */
  fixture(type: ProgramType, options: TestRunOptions): RuntimeFixture {
    const known = this.#fixtures.get(type) ?? new RuntimeFixture(type, options);
    this.#fixtures.set(type, known);
    known.enter(options);
    return known;
  }

  /** A map of both sides, by its name; fill it by `update`. */
  createMap(spec: MapSpec): LoadedMap {
    const map = this.#engine.createMap(spec);
    this.#maps.set(spec.name, map);
    return map;
  }

  /** The same map as ours, with what the kernel's has in it. */
  #address(name: string, { memory }: RuntimeFixture): number {
    const theirs = this.#maps.get(name);
    if (theirs === undefined) throw new ArgumentError(`there is no map ${name}`);
    const ours = new UserspaceMap(memory, theirs.spec, 1, 1);
    const { count, keys, values } = theirs.readAll();
    const { keySize } = theirs.spec;
    for (let at = 0; at < count; at++)
      ours.update(keys.subarray(at * keySize, (at + 1) * keySize), values.subarray(at * theirs.valueStride, (at + 1) * theirs.valueStride));
    return ours.address;
  }
}

/**
 * The kernel takes the sum of what lies behind the network header once a run is over, and stops for good (BUG) where the packet
 * ends before that. Such runs are never made.
 */
function checkEnds({ checksumComplete }: TestRunOptions, steps: readonly Step[]): void {
  if (!checksumComplete) return;
  const amounts = (wanted: Helper): number[] =>
    steps.flatMap((step) => (!('field' in step) && step[0] === wanted ? [Number(step[1])] : []));
  const network = amounts('skb_change_head').reduce((sum, bytes) => sum + (bytes < 1000 ? bytes : 0), 14);
  // less than a link header is refused
  const least = Math.min(...amounts('skb_change_tail').filter((bytes) => bytes >= 14));
  if (network > least) throw new ArgumentError(`a packet of ${least} bytes, its network header at ${network}: too short to be summed`);
}

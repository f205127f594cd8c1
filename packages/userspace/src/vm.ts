/** Programs without a hook: r1 points to a block of memory, r2 has its length, r0 is the answer. What test suites of the instruction set run. */
import { ArgumentError, decode, type Instruction, type ProgramSpec } from '@tailrace/bpf';
import { Chain } from './chain.ts';
import { PACKET_CEILING, PACKET_DATA, PACKET_END, PACKET_FLOOR, PACKET_META, WORKER_PACKET, WORKERS } from './layout.ts';
import { Linker } from './linker.ts';
import { EngineMemory } from './memory.ts';
import { programParts } from './program.ts';
import { initializeWorker } from './worker-area.ts';
import type { ExecutionMode } from './worker-context.ts';

/** What `runProgram` takes. */
export interface VmOptions {
  readonly mode?: ExecutionMode;
  /** Turns of loops before the run is stopped; default 1,048,576. */
  readonly turnLimit?: number;
}

/** What a program left. */
export interface VmResult {
  /** r0, unsigned. */
  readonly value: bigint;
  /** The memory as the program left it. */
  readonly memory: Uint8Array;
}

const DEFAULT_TURN_LIMIT = 1 << 20;

/**
 * Runs instructions, or the bytes of some, on a block of memory; without one r1 and r2 are 0. Throws EncodingError and
 * UnsupportedError for programs that are none, TrapError for those that do what they must not do.
 */
export function runProgram(
  program: Uint8Array | readonly Instruction[],
  memory: Uint8Array,
  { mode = 'wasm', turnLimit = DEFAULT_TURN_LIMIT }: VmOptions = {},
): VmResult {
  if (!Number.isInteger(turnLimit) || turnLimit < 1 || turnLimit > 0x7fff_ffff)
    throw new ArgumentError(`turnLimit is ${turnLimit}, expected 1 to ${0x7fff_ffff}`);
  const spec: ProgramSpec = {
    name: 'program',
    type: 'xdp',
    frags: false,
    license: 'Dual MIT/GPL',
    instructions: program instanceof Uint8Array ? decode(program) : program,
    mapReferences: [],
    functions: [],
    lines: [],
  };
  const parts = programParts(spec, new Map(), 'memory');
  const engine = new EngineMemory();
  initializeWorker(engine, WORKERS, { cpu: 0, seed: 1n });
  const address = engine.allocate(Math.max(memory.length, 1));
  engine.u8.set(memory, address);
  const ends = [
    [PACKET_FLOOR, address],
    [PACKET_META, address],
    [PACKET_DATA, address],
    [PACKET_END, address + memory.length],
    [PACKET_CEILING, address + memory.length],
  ] as const;
  for (const [field, value] of ends) engine.view.setUint32(WORKERS + WORKER_PACKET + field, value, true);
  const now = (): bigint => process.hrtime.bigint();
  // it runs once: to compile it well would take longer
  const context = { memory: engine, worker: WORKERS, linker: new Linker(), mode, cpus: 1, turnLimit, compile: 'quickly', now } as const;
  const chain = new Chain({ spec, maps: new Map(), ...parts }, context, 'memory');
  const value = chain.run();
  return { value, memory: engine.u8.slice(address, address + memory.length) };
}

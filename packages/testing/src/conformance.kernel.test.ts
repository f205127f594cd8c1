/**
 * The public cases of the instruction set, in the kernel: what the userspace engine is held to (its own test runs them too) is
 * what the kernel does. Programs run as a subprogram that is given the packet's bytes; all 64 bits of r0 come out by a map.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decode, EncodingError, type Instruction, insn, type LoadedMap, type ProgramSpec, reg, slotCount } from '@tailrace/bpf';
import { type KernelInstance, kernel } from '@tailrace/kernel';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { functionsOf } from './fuzz-side.ts';

interface Case {
  readonly name: string;
  /** Hex. */
  readonly program: string;
  readonly memory: string;
  readonly expect: 'value' | 'reject';
  /** r0, hex. */
  readonly result?: string;
  /** `pass`, or why the kernel refuses it, behind `REJECT:22 `. */
  readonly kernel?: string;
}

const file = join(import.meta.dirname, '../../../../shared/conformance/isa.json');
const isThere = existsSync(file);
if (!isThere) console.warn(`the instruction-set suite is skipped: there is no ${file}`);

/** The kernel runs no packet without a whole Ethernet header. */
const SHORTEST = 14;

describe.skipIf(!isThere)('instruction-set suite', () => {
  const cases: readonly Case[] = isThere ? JSON.parse(readFileSync(file, 'utf8')) : [];
  const runnable = cases.filter((entry) => entry.expect === 'value');
  let engine: KernelInstance;
  let result: LoadedMap;
  beforeAll(async () => {
    engine = await kernel({ interfaces: [] }).open();
    result = engine.createMap({ name: 'sample/result', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 });
  });
  afterAll(() => engine.close());

  /** Loads a case and runs it; r0. */
  async function run({ program: bytes, memory: hex }: Case): Promise<bigint> {
    const memory = Buffer.from(hex, 'hex');
    const spec = wrapped(decode(Buffer.from(bytes, 'hex')), memory.length);
    const program = await engine.loadProgram(spec, new Map([['result', result]]));
    try {
      await program.testRun({ packet: Uint8Array.from({ length: Math.max(SHORTEST, memory.length) }, (_, at) => memory[at] ?? 0) });
    } finally {
      program.close();
    }
    const value = result.lookup(new Uint8Array(4)) as Uint8Array;
    return new DataView(value.buffer, value.byteOffset).getBigUint64(0, true);
  }

  test.each(runnable.filter((entry) => entry.kernel === 'pass').map((entry) => [entry.name, entry] as const))(
    '%s',
    async (_name, entry) => {
      expect(`0x${(await run(entry)).toString(16)}`).toBe(`0x${BigInt(entry.result ?? 0).toString(16)}`);
    },
  );

  test.each(
    runnable.flatMap((entry) =>
      entry.kernel === undefined || entry.kernel === 'pass' ? [] : [[entry.name, entry.kernel, entry] as const],
    ),
  )('%s is refused: %s', async (_name, why, entry) => {
    const error: { readonly code?: string; readonly log?: string } = await run(entry).then(
      () => ({}),
      (failure) => failure,
    );
    expect(error.code).toBe('verifier');
    expect(error.log).toContain(why.replace('REJECT:22 ', ''));
  });

  test.each(cases.filter((entry) => entry.expect === 'reject').map((entry) => [entry.name, entry] as const))(
    '%s is no program',
    (_name, entry) => {
      expect(() => decode(Buffer.from(entry.program, 'hex'))).toThrow(EncodingError);
    },
  );
});

/** The case as a subprogram behind a prologue that shows the verifier how long the packet is. */
function wrapped(instructions: readonly Instruction[], length: number): ProgramSpec {
  const given =
    length === 0
      ? [insn.mov(1, 0), insn.mov(2, 0)]
      : [
          insn.load(4, 2, 1, 4),
          insn.load(4, 1, 1, 0),
          insn.mov(3, reg(1)),
          insn.alu64('add', 3, length),
          // over the rest of this, the call and the store
          insn.jump('gt', 3, reg(2), 5),
          insn.mov(2, length),
        ];
  const behind = [insn.wideMapValue(1, 0), insn.store(8, 1, 0, 0), insn.mov(0, 2), insn.exit()];
  const call = slotCount(given);
  const main = [...given, insn.callSubprogram(slotCount(behind)), ...behind];
  return {
    name: 'sample.case',
    type: 'xdp',
    frags: false,
    license: 'Dual MIT/GPL',
    instructions: [...main, ...instructions],
    mapReferences: [{ pc: call + 1, map: 'result', valueOffset: 0 }],
    functions: functionsOf([...main, ...instructions]),
    lines: [],
  };
}

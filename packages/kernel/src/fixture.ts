/** What this package's tests share: small specs written by hand, and a count of open files. */
import { readdirSync } from 'node:fs';
import { type Instruction, insn, type LineInfo, type MapSpec, type MapType, type ProgramSpec, slotsOf } from '@tailrace/bpf';
import type { InterfaceInfo } from './interface.ts';

/** A program without maps; each instruction has a line, numbered by its slot from 1. */
export function programSpec(name: string, instructions: readonly Instruction[], rest: Partial<ProgramSpec> = {}): ProgramSpec {
  const lines: LineInfo[] = [];
  let pc = 0;
  for (const instruction of instructions) {
    lines.push({ pc, file: '/stages/sample.ts', text: `  line${pc + 1}();`, line: pc + 1, column: 3 });
    pc += slotsOf(instruction);
  }
  return {
    name,
    type: 'xdp',
    frags: true,
    license: 'Dual MIT/GPL',
    instructions,
    mapReferences: [],
    functions: [],
    lines,
    ...rest,
  };
}

/** Returns XDP_PASS. */
export const passProgram = programSpec('sample.pass', [insn.mov(0, 2), insn.exit()]);

/** Returns XDP_DROP. */
export const dropProgram = programSpec('sample.drop', [insn.mov(0, 1), insn.exit()]);

/** A map with 4-byte keys (8 for LPM tries) and 16-byte values (4 for kinds that hold descriptors). */
export function mapSpec(type: MapType, rest: Partial<MapSpec> = {}): MapSpec {
  return {
    name: `sample/${type}`,
    type,
    keySize: type === 'lpmTrie' ? 8 : 4,
    valueSize: type === 'programArray' || type === 'devmap' ? 4 : 16,
    maxEntries: 64,
    flags: type === 'lpmTrie' ? 1 : 0,
    ...rest,
  };
}

/** A u32 in host order. */
export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** Open files of this process, those of directories being read included. */
export function openFds(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Ids of the XDP programs on an interface. */
export function xdpIds(info: InterfaceInfo): number[] {
  return info.xdp.map(({ programId }) => programId);
}

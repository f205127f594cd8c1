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

/** The frames that `tracer` sees: an EtherType for local experiments (IEEE 802, 0x88b5). */
export const tracedFrame = Uint8Array.from({ length: 64 }, (_, at) => [0x88, 0xb5][at - 12] ?? (at < 6 ? 0xff : 2));

/** A TC program that appends a hexadecimal digit to the u64 in map `trace` for each `tracedFrame`, and returns `verdict`. */
export function tracer(digit: number, verdict: number, name = `sample.trace${digit}`): ProgramSpec {
  const instructions = [
    insn.load(4, 2, 1, 16),
    insn.mov(0, -1),
    insn.jump('ne', 2, 0xb588, 7),
    insn.wideMapValue(1, 0),
    insn.load(8, 2, 1, 0),
    insn.alu64('lsh', 2, 4),
    insn.alu64('or', 2, digit),
    insn.store(8, 1, 0, 2),
    insn.mov(0, verdict),
    insn.exit(),
  ];
  return programSpec(name, instructions, { type: 'schedCls', frags: false, mapReferences: [{ pc: 3, map: 'trace', valueOffset: 0 }] });
}

/** The map of `tracer`. */
export const traceMap = mapSpec('array', { maxEntries: 1, valueSize: 8 });

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

/** Objects for tests without a compiler: programs in assembly, and maps, as ELF. */
import { assemble, type MapSource, type ProgramSpec, writeElf } from '@tailrace/bpf';

/** A program in assembly. */
export interface AssembledProgram {
  readonly name: string;
  /** Default `xdp`. */
  readonly type?: 'xdp' | 'schedCls';
  /** As `assemble` takes it. */
  readonly text: string;
  /** Labels where subprograms start. */
  readonly functions?: readonly string[];
}

/** The bytes of an object. Its licence is GPL; every instruction is a line of `assembled.c`, by its pc. Throws AssemblyError, ElfError. */
export function assembledObject(programs: readonly AssembledProgram[], maps: readonly MapSource[] = []): Uint8Array<ArrayBuffer> {
  return writeElf(programs.map(specOf), maps);
}

function specOf({ name, type = 'xdp', text, functions = [] }: AssembledProgram): ProgramSpec {
  const { instructions, mapReferences, labels } = assemble(text);
  const starts = functions.map((label) => ({ pc: labels.get(label) ?? 0, name: label }));
  let pc = 0;
  const lines = instructions.map((instruction) => {
    const line = { pc, file: 'assembled.c', text: `  line ${pc + 1};`, line: pc + 1, column: 3 };
    pc += instruction.immHigh === undefined ? 1 : 2;
    return line;
  });
  return {
    name,
    type,
    frags: false,
    license: 'GPL',
    instructions,
    mapReferences,
    functions: [{ pc: 0, name }, ...starts],
    lines,
  };
}

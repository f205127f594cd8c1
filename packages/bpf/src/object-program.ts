/**
 * A program of an object, linked: its entry, then every function that it calls or hands over as a callback, in one list of
 * instructions; maps by name, types relocated, lines joined.
 */

import type { CoreRelocation, LineRecord } from './btf-ext.ts';
import type { Btf } from './btf-reader.ts';
import type { CoreRelocator } from './core.ts';
import { ElfBinding, type ElfRelocation, ElfRelocationType, ElfSymbolType, UNDEFINED_SECTION } from './elf.ts';
import { decode, SLOT_BYTES } from './encoding.ts';
import { ElfError, EncodingError, UnsupportedError } from './errors.ts';
import { insn } from './insn.ts';
import { type Instruction, slotCount, slotsOf } from './instruction.ts';
import type { ByOffset, CodeFunction, CodeTable } from './object-code.ts';
import type { MapTable } from './object-map.ts';
import { CALL_OPCODE, CallPseudo, WIDE_OPCODE, WidePseudo } from './opcode.ts';
import { type FunctionInfo, type LineInfo, type MapReference, POISON_HELPER, type Poison } from './program.ts';

/** What linking needs of an object. Records are asked for by section. */
export interface LinkContext {
  readonly code: CodeTable;
  readonly maps: MapTable;
  readonly btf: Btf | undefined;
  /** Undefined where no target was given. */
  readonly core: CoreRelocator | undefined;
  /** Whether names that nothing defines are maps of the caller. */
  readonly externMaps: boolean;
  fullName(function_: CodeFunction): string;
  relocations(function_: CodeFunction): ByOffset<ElfRelocation>;
  coreRelocations(function_: CodeFunction): ByOffset<CoreRelocation>;
  lines(function_: CodeFunction): ByOffset<LineRecord>;
}

/** What linking makes. */
export interface LinkedProgram {
  readonly instructions: readonly Instruction[];
  readonly mapReferences: readonly MapReference[];
  readonly functions: readonly FunctionInfo[];
  readonly lines: readonly LineInfo[];
  readonly poisons: readonly Poison[];
}

/** Links the program that starts with a function. Throws ElfError or UnsupportedError. */
export function linkProgram(entry: CodeFunction, context: LinkContext): LinkedProgram {
  const linker = new Linker(entry, context);
  return linker.link();
}

/** A call or callback whose distance is known once all functions have their places. */
interface Fixup {
  readonly at: number;
  readonly pc: number;
  readonly target: CodeFunction;
}

class Linker {
  readonly #context: LinkContext;
  readonly #functions: CodeFunction[];
  readonly #bases = new Map<CodeFunction, number>();
  readonly #known: Set<CodeFunction>;
  readonly #instructions: Instruction[] = [];
  readonly #mapReferences: MapReference[] = [];
  readonly #fixups: Fixup[] = [];
  readonly #lines: LineInfo[] = [];
  readonly #poisons: Poison[] = [];
  #pc = 0;

  constructor(entry: CodeFunction, context: LinkContext) {
    this.#context = context;
    this.#functions = [entry];
    this.#known = new Set(this.#functions);
  }

  link(): LinkedProgram {
    // Grows while it is walked: a function adds those that it names.
    for (const function_ of this.#functions) this.#append(function_);
    for (const { at, pc, target } of this.#fixups) {
      const instruction = this.#instructions[at];
      if (instruction) this.#instructions[at] = { ...instruction, imm: (this.#bases.get(target) ?? 0) - pc - 1 };
    }
    return {
      instructions: this.#instructions,
      mapReferences: this.#mapReferences,
      functions: this.#functions.map((function_) => ({ pc: this.#bases.get(function_) ?? 0, name: this.#context.fullName(function_) })),
      lines: this.#lines,
      poisons: this.#poisons,
    };
  }

  #append(function_: CodeFunction): void {
    const { section, start, end } = function_;
    const base = this.#pc;
    this.#bases.set(function_, base);
    const original = decoded(function_);
    const relocations = this.#context.relocations(function_).range(start, end);
    const core = this.#context.coreRelocations(function_).range(start, end);
    const lines = this.#context.lines(function_).range(start, end);
    const starts = new Set<number>();
    let at = start;
    let [nextRelocation, nextCore] = [0, 0];
    for (const instruction of original) {
      starts.add(at);
      let current: readonly Instruction[] = [instruction];
      for (; core[nextCore]?.offset === at; nextCore++) current = this.#relocateCore(core[nextCore], current, section.name);
      const relocation = relocations[nextRelocation];
      if (relocation?.offset === at) {
        nextRelocation++;
        current = [this.#relocate(function_, relocation, instruction)];
      } else if (current[0] === instruction) current = [this.#link(function_, at, instruction)];
      this.#instructions.push(...current);
      this.#pc += slotCount(current);
      at += slotsOf(instruction) * SLOT_BYTES;
    }
    for (const { offset } of [...relocations.slice(nextRelocation, nextRelocation + 1), ...core.slice(nextCore, nextCore + 1)])
      throw new ElfError(section.name, 'a relocation inside of an instruction, or a second one for it', { offset });
    this.#appendLines(function_, base, lines, starts);
  }

  #relocateCore(relocation: CoreRelocation | undefined, current: readonly Instruction[], section: string): readonly Instruction[] {
    const [instruction, second] = current;
    if (!relocation || !instruction || second) return current;
    const { core } = this.#context;
    if (!core)
      throw new ElfError(section, 'an instruction that depends on types of the target (CO-RE), of which no BTF was given', {
        offset: relocation.offset,
        hint: "give targetBtf: the bytes of /sys/kernel/btf/vmlinux, or 'own' to leave everything as it was compiled",
      });
    const { instructions, poison } = core.relocate(relocation, instruction, section);
    if (poison !== undefined) this.#poisons.push({ pc: this.#pc, reason: poison });
    return instructions;
  }

  /** An instruction that names a symbol. */
  #relocate(function_: CodeFunction, { offset, type, symbol }: ElfRelocation, instruction: Instruction): Instruction {
    const { code, maps, externMaps } = this.#context;
    const { section } = function_;
    const name = symbol.name || `a place in section ${symbol.section}`;
    const fault = (message: string) => new ElfError(section.name, `${message} ${name}`, { offset });
    if (type === ElfRelocationType.call) {
      if (instruction.opcode !== CALL_OPCODE || instruction.src === CallPseudo.helper) throw fault('no call, but a relocation of one to');
      if (symbol.section === UNDEFINED_SECTION) return this.#missingFunction(symbol.name, symbol.binding, offset, section.name);
      return this.#call(function_, symbol.section, symbol.value + (instruction.imm + 1) * SLOT_BYTES, offset, instruction);
    }
    if (type !== ElfRelocationType.wide) throw fault(`a relocation of type ${type} to`);
    if (instruction.opcode !== WIDE_OPCODE || instruction.src !== WidePseudo.value) throw fault('no wide load, but a relocation of one to');
    const { dst, imm } = instruction;
    if (symbol.section === UNDEFINED_SECTION) {
      if (symbol.binding === ElfBinding.weak) return insn.wide(dst, 0n);
      if (!externMaps || symbol.name === '')
        throw new UnsupportedError(`program ${function_.name} refers to ${name}, which the object does not define`, {
          hint: 'variables of the kernel and of its configuration are not supported',
        });
      if (imm !== 0) throw fault(`a place ${imm} bytes behind the extern map`);
      this.#mapReferences.push({ pc: this.#pc, map: symbol.name });
      return insn.wideMap(dst);
    }
    const place = symbol.value + imm;
    const found = maps.at(symbol.section, place);
    if (found) {
      this.#mapReferences.push({ pc: this.#pc, ...found });
      return found.valueOffset === undefined ? insn.wideMap(dst) : insn.wideMapValue(dst, found.valueOffset);
    }
    const callback = code.at(symbol.section, place);
    if (!callback) {
      const kind = symbol.type === ElfSymbolType.func ? 'the middle of a function' : 'no map, variable or function';
      throw fault(`a load of byte ${place}, which is ${kind}:`);
    }
    this.#fix(callback);
    return insn.wideFunction(dst, 0);
  }

  /** An instruction without a relocation: calls within a section need none. */
  #link(function_: CodeFunction, at: number, instruction: Instruction): Instruction {
    const isCall = instruction.opcode === CALL_OPCODE && instruction.src === CallPseudo.subprogram;
    const isCallback = instruction.opcode === WIDE_OPCODE && instruction.src === WidePseudo.func;
    if (!isCall && !isCallback) {
      if (instruction.opcode === CALL_OPCODE && instruction.src === CallPseudo.kfunc)
        throw new UnsupportedError(`program ${function_.name} calls a kernel function by its id, which only one kernel knows`);
      return instruction;
    }
    return this.#call(function_, function_.section.index, at + (instruction.imm + 1) * SLOT_BYTES, at, instruction);
  }

  #call(function_: CodeFunction, section: number, place: number, offset: number, instruction: Instruction): Instruction {
    const target = this.#context.code.at(section, place);
    if (!target)
      throw new ElfError(function_.section.name, `a call to byte ${place} of section ${section}, where no function starts`, { offset });
    this.#fix(target);
    return instruction.opcode === CALL_OPCODE ? insn.callSubprogram(0) : instruction;
  }

  #fix(target: CodeFunction): void {
    if (!this.#known.has(target)) {
      this.#known.add(target);
      this.#functions.push(target);
    }
    this.#fixups.push({ at: this.#instructions.length, pc: this.#pc, target });
  }

  #missingFunction(name: string, binding: number, offset: number, section: string): Instruction {
    if (binding !== ElfBinding.weak)
      throw new UnsupportedError(`${section} at byte ${offset} calls ${name}, which the object does not define`, {
        hint: 'kernel functions (kfuncs) are not supported',
      });
    this.#poisons.push({ pc: this.#pc, reason: `nothing defines the weak function ${name}` });
    return insn.call(POISON_HELPER);
  }

  /** Lines of one function. The kernel wants each function to begin with one, and places that rise. */
  #appendLines({ section, start }: CodeFunction, base: number, records: readonly LineRecord[], starts: ReadonlySet<number>): void {
    const { btf } = this.#context;
    const lines: LineInfo[] = [];
    for (const { offset, file, text, line, column } of btf ? records : []) {
      if (!starts.has(offset)) throw new ElfError(section.name, 'a line that begins inside of an instruction', { offset });
      const pc = base + (offset - start) / SLOT_BYTES;
      // Line 0 is what compilers say of code that no line asked for.
      if (line === 0 || lines.at(-1)?.pc === pc) continue;
      lines.push({ pc, file: btf?.string(file) ?? '', text: btf?.string(text) ?? '', line, column: Math.max(column, 1) });
    }
    const [first] = lines;
    if (first ? first.pc !== base : this.#lines.length > 0)
      lines.unshift({ file: section.name, text: '', line: 1, column: 1, ...first, pc: base });
    // A program whose entry has no lines has none at all.
    if (base === 0 || this.#lines.length > 0) this.#lines.push(...lines);
  }
}

/** A function's instructions before anything is relocated. */
function decoded({ section, start, end, name }: CodeFunction): readonly Instruction[] {
  try {
    return decode(section.bytes.subarray(start, end));
  } catch (error) {
    if (!(error instanceof EncodingError)) throw error;
    const offset = error.pc === undefined ? start : start + error.pc * SLOT_BYTES;
    throw new ElfError(section.name, `function ${name}: ${error.message}`, { offset, cause: error });
  }
}

/** Code sections of an object: the functions in them, and records of places in them, found by place. */

import { ElfBinding, type ElfFile, type ElfSection, ElfSectionFlag, ElfSectionType, ElfSymbolType } from './elf.ts';
import { SLOT_BYTES } from './encoding.ts';
import { ElfError } from './errors.ts';

/** One function, as its symbol says. */
export interface CodeFunction {
  readonly name: string;
  readonly section: ElfSection;
  /** Bytes from the section's start. */
  readonly start: number;
  readonly end: number;
  /** Whether other files can name it: static functions are no programs. */
  readonly isGlobal: boolean;
}

/** All functions of an object, in the order of sections and places. */
export class CodeTable {
  readonly functions: readonly CodeFunction[];
  readonly #sections: ReadonlyMap<number, ByOffset<CodeFunction>>;

  /** Throws ElfError for functions that are cut off or lie in each other. */
  constructor(file: ElfFile) {
    const sections = file.sections.filter(({ type, flags }) => type === ElfSectionType.progbits && (flags & ElfSectionFlag.exec) !== 0);
    const places = new Map(sections.map((section) => [section.index, readFunctions(file, section)]));
    this.functions = [...places.values()].flat();
    this.#sections = new Map([...places].map(([index, list]) => [index, new ByOffset(list, ({ start }) => start)]));
  }

  /** The function that starts at a byte of a section. */
  at(section: number, offset: number): CodeFunction | undefined {
    return this.#sections.get(section)?.range(offset, offset + 1)[0];
  }
}

function readFunctions(file: ElfFile, section: ElfSection): readonly CodeFunction[] {
  const symbols = file.symbols
    .filter(({ section: index, type }) => index === section.index && type === ElfSymbolType.func)
    .sort((left, right) => left.value - right.value || right.binding - left.binding);
  // Of several names for one place (aliases), the first global one counts.
  const distinct = symbols.filter(({ value }, index) => value !== symbols[index - 1]?.value);
  return distinct.map(({ name, value: start, size, binding }, index) => {
    const next = distinct[index + 1]?.value ?? section.size;
    const end = size === 0 ? next : start + size;
    const fault = (message: string) => new ElfError(section.name, `function ${name} ${message}`, { offset: start });
    if (name === '') throw fault('has no name');
    if (start % SLOT_BYTES !== 0 || end % SLOT_BYTES !== 0) throw fault(`has ${end - start} bytes, expected whole instructions`);
    if (end > next || end > section.size || end <= start) throw fault(`ends at ${end}, expected at most ${Math.min(next, section.size)}`);
    return { name, section, start, end, isGlobal: binding !== ElfBinding.local };
  });
}

/** Records with places, sorted. */
export class ByOffset<T> {
  readonly #records: readonly T[];
  readonly #place: (record: T) => number;

  constructor(records: readonly T[], place: (record: T) => number) {
    this.#records = records.toSorted((left, right) => place(left) - place(right));
    this.#place = place;
  }

  /** The records from `start` on and before `end`. */
  range(start: number, end: number): readonly T[] {
    return this.#records.slice(this.#first(start), this.#first(end));
  }

  #first(offset: number): number {
    let low = 0;
    let high = this.#records.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const record = this.#records[middle];
      if (record !== undefined && this.#place(record) < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

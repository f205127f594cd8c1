/**
 * A module to begin with: its sections, read from bytes (WebAssembly Core Specification 2.0, chapter 5), and the calls in its
 * functions, so that these can be numbered anew.
 */
import { TailraceError } from '@tailrace/bpf';
import { ByteReader } from './byte-reader.ts';
import { codeFrom, type FunctionCode } from './function-code.ts';

/** Numbers of sections. */
export const Section = {
  type: 1,
  import: 2,
  function: 3,
  table: 4,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  code: 10,
  data: 11,
  dataCount: 12,
} as const;
/** What an export is. */
export const ExportKind = { function: 0, memory: 2 } as const;

/** What is taken over of a module. */
export interface Sections {
  readonly types: readonly Uint8Array[];
  readonly imports: Uint8Array;
  readonly functions: readonly number[];
  readonly globals: readonly Uint8Array[];
  readonly exports: ReadonlyMap<string, number>;
  readonly code: readonly FunctionCode[];
}

/** A module to begin with: one that imports its memory and nothing else, and has no table, start function or data. */
export class BaseModule {
  readonly sections: Sections;

  /** Takes the module's bytes. Throws TailraceError for one that has what cannot be taken over. */
  constructor(bytes: Uint8Array) {
    this.sections = readSections(bytes);
  }

  /** The number of an exported function. Throws TailraceError where there is none. */
  functionNamed(name: string): number {
    const index = this.sections.exports.get(name);
    if (index === undefined) throw new TailraceError('compile', `the runtime has no function ${name}`);
    return index;
  }
}

function readSections(bytes: Uint8Array): Sections {
  const found = {
    types: [] as Uint8Array[],
    imports: Uint8Array.of(0) as Uint8Array,
    functions: [] as number[],
    globals: [] as Uint8Array[],
  };
  const exports = new Map<string, number>();
  const code: FunctionCode[] = [];
  const reader = new ByteReader(bytes, 8);
  const items = (read: () => void): void => {
    for (let count = reader.u32(); count > 0; count--) read();
  };
  const skipExpression = (): void => {
    // constants only: an opcode, a number, the end
    reader.byte();
    reader.u32();
    reader.byte();
  };
  while (reader.at < bytes.length) {
    const id = reader.byte();
    const length = reader.u32();
    const end = reader.at + length;
    if (id === Section.type)
      items(() => {
        const start = reader.at;
        reader.byte();
        reader.take(reader.u32());
        reader.take(reader.u32());
        found.types.push(reader.since(start));
      });
    else if (id === Section.import) found.imports = bytes.subarray(reader.at, end);
    else if (id === Section.function) items(() => found.functions.push(reader.u32()));
    else if (id === Section.global)
      items(() => {
        const start = reader.at;
        reader.take(2);
        skipExpression();
        found.globals.push(reader.since(start));
      });
    else if (id === Section.export)
      items(() => {
        const name = new TextDecoder().decode(Uint8Array.from(reader.take(reader.u32())));
        const kind = reader.byte();
        const index = reader.u32();
        if (kind === ExportKind.function) exports.set(name, index);
      });
    else if (id === Section.code)
      items(() => {
        code.push(codeFrom(reader.take(reader.u32())));
      });
    else if (id !== 0) throw new TailraceError('compile', `the runtime has a section ${id}, expected none of tables, data or a start`);
    reader.at = end;
  }
  return { ...found, exports, code };
}

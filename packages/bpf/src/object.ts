/**
 * Reads an ELF object that `clang -target bpf` or `writeElf` made: its programs and maps as specs, for any engine. Own code
 * in C then runs beside TypeScript. What only one program or map needs is looked at when that one is asked for, so that an
 * object may also hold what Tailrace does not run.
 */
import { readBtfExt } from './btf-ext.ts';
import { Btf, readBtf } from './btf-reader.ts';
import { ByteReader } from './byte-reader.ts';
import { CoreRelocator } from './core.ts';
import { type ElfFile, ElfRelocationType, type ElfSection, readElfFile } from './elf.ts';
import type { AttachHook } from './engine.ts';
import { ElfError, TailraceError, UnsupportedError } from './errors.ts';
import { ByOffset, type CodeFunction, CodeTable } from './object-code.ts';
import { type MapDefinition, type ObjectMap, readMaps } from './object-map.ts';
import { nameTags } from './object-name.ts';
import { type LinkContext, linkProgram } from './object-program.ts';
import { sectionKind } from './object-section.ts';
import type { ProgramSpec } from './program.ts';

export type { MapDefinition, ObjectMap };

/** How to read an object. */
export interface ElfOptions {
  /**
   * Types of the machine that programs are meant for, which CO-RE relocations follow: the bytes of /sys/kernel/btf/vmlinux,
   * or a blob that was read already. `own`: everything stays as it was compiled. Absent: programs with such relocations
   * are refused.
   */
  readonly targetBtf?: Uint8Array | Btf | 'own';
  /** Names that the object declares and does not define are maps that the caller has; otherwise they are refused. */
  readonly externMaps?: boolean;
}

/** A program of an object. */
export interface ObjectProgram {
  /** Its function. */
  readonly name: string;
  /** E.g. `xdp` or `kprobe/tcp_connect`. */
  readonly section: string;
  /** Where it runs, as far as the section says so. */
  readonly hook: AttachHook | undefined;
  /**
   * The linked program. Throws UnsupportedError that names the section for kinds that Tailrace does not run, and for what
   * the object leaves to the kernel; ElfError for damage.
   */
  spec(): ProgramSpec;
}

/** What an object holds. */
export interface ElfObject {
  /** The programs by their functions' names, in the order of sections. */
  readonly programs: ReadonlyMap<string, ObjectProgram>;
  /** The maps by name. */
  readonly maps: ReadonlyMap<string, ObjectMap>;
  /** Empty where the object has none; the kernel then refuses helpers that are for GPL programs only. */
  readonly license: string;
}

/** Reads an object. Throws ElfError for what is cut, damaged, big-endian or no eBPF object. */
export function readElf(bytes: Uint8Array, options: ElfOptions = {}): ElfObject {
  const file = readElfFile(bytes);
  const types = sectionNamed(file, '.BTF');
  const btf = types && readBtf(relocatedBytes(file, types));
  const places = sectionNamed(file, '.BTF.ext');
  const ext = btf && places && readBtfExt(relocatedBytes(file, places), btf);
  const code = new CodeTable(file);
  const names = btf ? nameTags(btf) : new Map<number, string>();
  const records = <T extends { readonly offset: number }>(sections: ReadonlyMap<string, readonly T[]> | undefined) =>
    memo((section: string) => new ByOffset(sections?.get(section) ?? [], ({ offset }) => offset));
  const functionRecords = records(ext?.functions);
  const fullName = ({ section, start, name }: CodeFunction) =>
    names.get(functionRecords(section.name).range(start, start + 1)[0]?.type ?? 0) ?? name;
  const programAt = (section: number, offset: number) => {
    const function_ = code.at(section, offset);
    return function_ && fullName(function_);
  };
  const maps = readMaps(file, { btf, programAt, fullName: (variable) => names.get(variable) });
  const relocations = memo((section: ElfSection) => new ByOffset(file.relocations(section), ({ offset }) => offset));
  const [coreRecords, lineRecords] = [records(ext?.core), records(ext?.lines)];
  const target = btf && ext && ext.core.size > 0 ? targetTypes(options, btf) : undefined;
  const context: LinkContext = {
    code,
    maps,
    btf,
    core: btf && target && new CoreRelocator(btf, target),
    externMaps: options.externMaps ?? false,
    fullName,
    relocations: ({ section }) => relocations(section),
    coreRelocations: ({ section }) => coreRecords(section.name),
    lines: ({ section }) => lineRecords(section.name),
  };
  const license = readLicense(file);
  const programs = new Map<string, ObjectProgram>();
  for (const function_ of code.functions) {
    // What other functions call lies in .text, or is static.
    if (!function_.isGlobal || function_.section.name === '.text') continue;
    const program = objectProgram(function_, license, context);
    if (programs.has(program.name)) throw new ElfError(program.section, `two programs ${program.name}, expected one`);
    programs.set(program.name, program);
  }
  return { programs, maps: maps.maps, license };
}

function objectProgram(function_: CodeFunction, license: string, context: LinkContext): ObjectProgram {
  const name = context.fullName(function_);
  const section = function_.section.name;
  const kind = sectionKind(section);
  let known: ProgramSpec | undefined;
  const link = (): ProgramSpec => {
    if (!kind)
      throw new UnsupportedError(
        `program ${name} is in section ${section}, expected xdp, xdp.frags, tc, tcx/ingress, tcx/egress, socket, sk_skb, sk_msg or sockops`,
      );
    const { instructions, mapReferences, functions, lines, poisons } = typed(section, () => linkProgram(function_, context));
    const { type, frags } = kind;
    return { name, type, frags, license, instructions, mapReferences, functions, lines, ...(poisons.length > 0 ? { poisons } : {}) };
  };
  return {
    name,
    section,
    hook: kind?.hook,
    spec: () => {
      known ??= link();
      return known;
    },
  };
}

/** An instruction that relocation made impossible is the object's fault. */
function typed<T>(section: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof TailraceError) || error.code !== 'encoding') throw error;
    throw new ElfError(section, error.message, { cause: error });
  }
}

function targetTypes({ targetBtf }: ElfOptions, own: Btf): Btf | undefined {
  if (targetBtf === undefined || targetBtf instanceof Btf) return targetBtf;
  return targetBtf === 'own' ? own : readBtf(targetBtf, 'target BTF');
}

/**
 * The bytes of .BTF or .BTF.ext with the places of symbols added: compilers leave the offsets of variables open. Symbols of
 * sections are at 0, and what lies in debug information is of no interest.
 */
function relocatedBytes(file: ElfFile, section: ElfSection): Uint8Array {
  const moved = file.relocations(section).filter(({ symbol }) => symbol.value !== 0);
  if (moved.length === 0) return section.bytes;
  const copy = section.bytes.slice();
  const reader = new ByteReader(section.name, copy);
  const view = new DataView(copy.buffer);
  for (const { offset, type, symbol } of moved) {
    if (type !== ElfRelocationType.nodyld32 && type !== ElfRelocationType.abs32 && type !== ElfRelocationType.call)
      throw reader.fault(`a relocation of type ${type}, expected ${ElfRelocationType.nodyld32}`, offset);
    view.setUint32(offset, (reader.u32(offset) + symbol.value) >>> 0, true);
  }
  return copy;
}

function readLicense(file: ElfFile): string {
  const section = sectionNamed(file, 'license');
  if (!section || section.size === 0) return '';
  const end = section.bytes.indexOf(0);
  return new TextDecoder().decode(section.bytes.subarray(0, end < 0 ? Math.min(section.size, 128) : Math.min(end, 128)));
}

function sectionNamed(file: ElfFile, wanted: string): ElfSection | undefined {
  return file.sections.find(({ name, size }) => name === wanted && size > 0);
}

function memo<K, V>(make: (key: K) => V): (key: K) => V {
  const known = new Map<K, V>();
  return (key) => {
    const value = known.get(key) ?? make(key);
    known.set(key, value);
    return value;
  };
}

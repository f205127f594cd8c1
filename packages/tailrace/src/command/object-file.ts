/**
 * Object files that a user names instead of a module: told by what they begin with, and the choice of a program in them.
 * Loading is left to object-load.ts.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import {
  ArgumentError,
  type AttachHook,
  type ElfObject,
  type ElfOptions,
  type ObjectProgram,
  readElf,
  UnsupportedError,
} from '@tailrace/bpf';
import type { Direction } from './arguments.ts';

/** A program of an object file. */
export interface ChosenProgram {
  readonly object: ElfObject;
  readonly program: ObjectProgram;
  /** As messages name it: `xdp of drop.o`. */
  readonly title: string;
}

const MAGIC = [0x7f, 0x45, 0x4c, 0x46];
/** The types of the kernel that runs. */
const KERNEL_BTF = '/sys/kernel/btf/vmlinux';

/** The bytes of an ELF file; undefined for any other file, and where there is none. Throws ArgumentError for a file that cannot be read. */
export function objectBytes(file: string): Uint8Array | undefined {
  try {
    if (!statSync(file, { throwIfNoEntry: false })?.isFile() || !isElf(file)) return undefined;
    return readFileSync(file);
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause)) throw cause;
    throw new ArgumentError(`${file} cannot be read: ${cause.code}`, { cause });
  }
}

function isElf(file: string): boolean {
  const fd = openSync(file, 'r');
  try {
    const start = new Uint8Array(MAGIC.length);
    return readSync(fd, start) === MAGIC.length && MAGIC.every((byte, at) => start[at] === byte);
  } finally {
    closeSync(fd);
  }
}

/**
 * Reads an object and takes the program of a section, or of a name; without either, its only one. CO-RE relocations follow
 * the types of the engine: the kernel's, or in userspace those that the object was compiled with. Throws ElfError, and
 * ArgumentError that lists what there is.
 */
export function chooseProgram(bytes: Uint8Array, file: string, engine: 'kernel' | 'userspace', wanted?: string): ChosenProgram {
  const object = readElf(bytes, typesFor(engine));
  const all = [...object.programs.values()];
  if (all.length === 0) throw new ArgumentError(`${file} has no programs, expected one`);
  const program = wanted === undefined ? onlyOne(all, file) : byName(all, file, wanted);
  return { object, program, title: `${titleOf(program)} of ${basename(file)}` };
}

/** Where packets of a program come in. Throws UnsupportedError for programs of sockets, ArgumentError where `direction` is another. */
export function hookOf({ program, title }: ChosenProgram, direction: Direction | undefined): AttachHook {
  const { type } = program.spec();
  if (type === 'socketFilter')
    throw new UnsupportedError(`${title} is a socket filter, which no interface takes`, { hint: 'run it over a capture: --pcap FILE' });
  const { hook } = program;
  if (hook === undefined) {
    if (direction !== undefined) return direction === 'ingress' ? 'tcIngress' : 'tcEgress';
    throw new ArgumentError(`${title} may be for either way`, { hint: 'say which: --direction ingress or --direction egress' });
  }
  if (direction !== undefined && (hook === 'tcEgress') !== (direction === 'egress'))
    throw new ArgumentError(`${title} is not for ${direction}`, { hint: 'its section says where it goes: leave --direction out' });
  return hook;
}

function typesFor(engine: 'kernel' | 'userspace'): ElfOptions {
  if (engine === 'userspace') return { targetBtf: 'own' };
  return existsSync(KERNEL_BTF) ? { targetBtf: readFileSync(KERNEL_BTF) } : {};
}

function onlyOne(all: readonly ObjectProgram[], file: string): ObjectProgram {
  const [first] = all;
  if (all.length === 1 && first !== undefined) return first;
  throw new ArgumentError(`${file} has ${all.length} programs, expected --section NAME`, { hint: listOf(all) });
}

/** A section's only program, or a program by the name of its function. */
function byName(all: readonly ObjectProgram[], file: string, wanted: string): ObjectProgram {
  const inSection = all.filter(({ section }) => section === wanted);
  const found = (inSection.length === 1 ? inSection[0] : undefined) ?? all.find(({ name }) => name === wanted);
  if (found !== undefined) return found;
  if (inSection.length > 1)
    throw new ArgumentError(`section ${wanted} of ${file} has ${inSection.length} programs, expected the name of one`, {
      hint: listOf(inSection),
    });
  throw new ArgumentError(`${file} has no section or program '${wanted}'`, { hint: listOf(all) });
}

function listOf(programs: readonly ObjectProgram[]): string {
  return `it has ${programs.map(titleOf).join(', ')}`;
}

function titleOf({ name, section }: ObjectProgram): string {
  return `${section} (${name})`;
}

/**
 * Pins: names in a BPF file system that hold maps, programs and links beyond their process. What is read from there belongs to
 * this user alone, or is refused. Names are anything; a path never has more of them than letters, digits, `_`, `-` and `%`.
 */
import { lstatSync, readdirSync, type Stats } from 'node:fs';
import { ArgumentError, RollbackError, TailraceError } from '@tailrace/bpf';
import { bpf } from './bpf.ts';
import { Errno, SyscallError } from './errno.ts';
import { allocateCopy, type Memory } from './memory.ts';
import { syscall, trySyscall } from './syscall.ts';

/** AT_REMOVEDIR (include/uapi/linux/fcntl.h). */
const AT_REMOVEDIR = 0x200;
const ENOTEMPTY = 39;
/** NAME_MAX (include/uapi/linux/limits.h). */
const longestName = 255;

/** The file name of a pin: bytes other than letters, digits, `_` and `-` as `%2F` and the like. Throws ArgumentError beyond 255 bytes. */
export function pinFile(name: string): string {
  const file = [...new TextEncoder().encode(name)]
    .map((byte) =>
      /[\w-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
    )
    .join('');
  if (file.length > 0 && file.length <= longestName) return file;
  throw new ArgumentError(`pin '${name}': its file name takes ${file.length} bytes, expected 1 to ${longestName}`);
}

/** The name that a file of `pinFile` stands for; undefined for files of others. */
export function pinName(file: string): string | undefined {
  if (!/^(?:[\w-]|%[0-9A-F]{2})+$/.test(file)) return undefined;
  try {
    return decodeURIComponent(file);
  } catch (error) {
    if (error instanceof URIError) return undefined;
    throw error;
  }
}

/** Pins what is behind an fd. Throws SyscallError (EEXIST where the path is taken). */
export function pinFd(fd: number, path: string, about: string): void {
  const pathname = pathMemory(path);
  bpf('BPF_OBJ_PIN', { pathname: pathname.address, bpf_fd: fd }, `${about} at ${path}`, [pathname]);
}

/** Opens what is pinned and returns its fd, which is the caller's. Throws SyscallError (ENOENT). */
export function openPin(path: string): number {
  const pathname = pathMemory(path);
  return bpf('BPF_OBJ_GET', { pathname: pathname.address }, path, [pathname]).result;
}

/** Takes a pin away: its object goes where nothing else holds it. False where there was none. Throws SyscallError. */
export function removePin(path: string): boolean {
  return remove(path, 0);
}

/**
 * Puts a pin in the place of another, which goes, in one step. Where it fails the old one stays and the new one goes. Throws SyscallError,
 * and RollbackError where both stay.
 */
export function exchangePin(next: string, path: string): void {
  const [from, to] = [pathMemory(next), pathMemory(path)];
  try {
    syscall('renameat', `${next} to ${path}`, 0, from.address, 0, to.address);
  } catch (error) {
    try {
      removePin(next);
    } catch (failure) {
      throw new RollbackError(error, [failure]);
    }
    throw error;
  }
}

/**
 * Makes a folder for this user alone, or finds one that is; whether it was made. Throws PinFolderError where it is somebody else's,
 * SyscallError.
 */
export function ownFolder(path: string): boolean {
  const memory = pathMemory(path);
  const result = trySyscall('mkdirat', 0, memory.address, 0o700);
  if (result < 0 && result !== -Errno.EEXIST) throw new SyscallError('mkdirat', -result, path);
  checkOwn(path, requireStatus(path));
  return result >= 0;
}

/** Takes a folder away unless something is in it, or somebody else did. Throws SyscallError. */
export function removeIfEmpty(path: string): void {
  try {
    remove(path, AT_REMOVEDIR);
  } catch (error) {
    if (!(error instanceof SyscallError && (error.errno === ENOTEMPTY || error.errno === Errno.ENOENT))) throw error;
  }
}

/** The names of the pins in a folder, sorted; files of others are left out. Throws SyscallError. */
export function pinsIn(path: string): readonly string[] {
  const files = attempt('getdents64', path, () => readdirSync(path, { withFileTypes: true }));
  return files.flatMap((file) => (file.isDirectory() ? [] : (pinName(file.name) ?? []))).sort();
}

/** The folders in a folder by the names that they stand for, sorted; none where it is not there. Throws SyscallError. */
export function foldersIn(path: string): readonly string[] {
  if (status(path) === undefined) return [];
  const files = attempt('getdents64', path, () => readdirSync(path, { withFileTypes: true }));
  return files.flatMap((file) => (file.isDirectory() ? (pinName(file.name) ?? []) : [])).sort();
}

/** What there is at a path, links not followed; undefined where nothing is. Throws SyscallError. */
export function status(path: string): Stats | undefined {
  return attempt('lstat', path, () => lstatSync(path, { throwIfNoEntry: false }));
}

/** A folder for pins is not this user's, or open to others. */
export class PinFolderError extends TailraceError {
  readonly path: string;

  constructor(path: string, problem: string) {
    super('conflict', `${path} ${problem}, expected a folder of this user's that nobody else can use`, {
      hint: `look who made it, and remove it: rm -r ${path}`,
    });
    this.path = path;
  }
}

/** Throws PinFolderError unless that is a folder which this user alone can use. */
export function checkOwn(path: string, found: Stats): void {
  if (!found.isDirectory()) throw new PinFolderError(path, 'is no folder');
  if (found.uid !== process.geteuid?.()) throw new PinFolderError(path, `belongs to user ${found.uid}`);
  if ((found.mode & 0o077) !== 0) throw new PinFolderError(path, `has mode ${(found.mode & 0o777).toString(8)}`);
}

/** A path as the kernel takes it. The result has to outlive the call. */
export function pathMemory(path: string): Memory {
  return allocateCopy(new TextEncoder().encode(`${path}\0`));
}

function remove(path: string, flags: number): boolean {
  const memory = pathMemory(path);
  const result = trySyscall('unlinkat', 0, memory.address, flags);
  if (result === -Errno.ENOENT) return false;
  if (result < 0) throw new SyscallError('unlinkat', -result, path);
  return true;
}

function requireStatus(path: string): Stats {
  const found = status(path);
  if (found === undefined) throw new SyscallError('lstat', Errno.ENOENT, path);
  return found;
}

/** Node's own errors of the file system, as this package's. */
function attempt<T>(call: string, path: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') throw new SyscallError(call, -error.errno, path);
    throw error;
  }
}

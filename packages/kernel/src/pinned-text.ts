/**
 * Text in a BPF file system, which holds no files: the value of a map with one entry that nobody can write any more. It is
 * replaced whole, by renaming a new map over the old one, so that a reader and a process that dies find one or the other.
 */
import { MapFlag, type MapSpec, TailraceError } from '@tailrace/bpf';
import { closeOnError, objectInfo } from './bpf.ts';
import { Errno, SyscallError } from './errno.ts';
import { createMap, KernelMap } from './map.ts';
import { exchangePin, openPin, pinFd, removePin } from './pin.ts';

/** The file of a folder's text; pins of `pinFile` names with a prefix never meet it. */
export const TEXT_FILE = 'manifest';

const context = { cpus: 1 };
const key = new Uint8Array(4);

/** What is pinned where text is expected is no such map. */
export class PinnedTextError extends TailraceError {
  readonly path: string;

  constructor(path: string, type: number) {
    super('conflict', `${path} is a map of type ${type}, expected an array that holds text`, {
      hint: 'somebody else pinned it: remove it',
    });
    this.path = path;
  }
}

/** Writes text in one step. Throws SyscallError, and then the old text stays. */
export function writePinnedText(path: string, text: string): void {
  const bytes = new TextEncoder().encode(text);
  const next = `${path}-next`;
  using map = createMap(specOf(path, bytes.length), context);
  map.update(key, bytes);
  map.freeze();
  // of a process that died here
  removePin(next);
  pinFd(map.fd, next, 'a text');
  exchangePin(next, path);
}

/** Reads text; undefined where there is none. Throws PinnedTextError, SyscallError. */
export function readPinnedText(path: string): string | undefined {
  let fd: number;
  try {
    fd = openPin(path);
  } catch (error) {
    if (error instanceof SyscallError && error.errno === Errno.ENOENT) return undefined;
    throw error;
  }
  using map = closeOnError(fd, () => {
    // struct bpf_map_info: u32 type, id, key_size, value_size, max_entries
    const info = objectInfo(fd, 20, path);
    const [type, id, valueSize] = [0, 4, 12].map((at) => info.getUint32(at, true)) as [number, number, number];
    if (type !== 2) throw new PinnedTextError(path, type);
    return new KernelMap(specOf(path, valueSize), fd, id, context);
  });
  const bytes = map.lookup(key);
  return bytes && new TextDecoder().decode(bytes);
}

function specOf(name: string, valueSize: number): MapSpec {
  return { name, type: 'array', keySize: 4, valueSize, maxEntries: 1, flags: MapFlag.readOnlyProgram };
}

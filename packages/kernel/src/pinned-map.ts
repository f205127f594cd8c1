/** What the kernel tells of a pinned map: whether it is what its spec says (whoever knows schemas compares those), and how full it is. */
import { type MapSpec, MapType, TailraceError } from '@tailrace/bpf';
import { closeOnError, objectInfo } from './bpf.ts';
import { Errno, SyscallError } from './errno.ts';
import { KernelMap, type MapContext } from './map.ts';
import { openPin } from './pin.ts';

/** A pinned map is not what was expected. */
export class PinnedMapError extends TailraceError {
  readonly path: string;
  /** What differs, e.g. `maxEntries`. */
  readonly field: string;

  constructor(path: string, field: string, pinned: string | number, expected: string | number) {
    super('conflict', `the map pinned at ${path} has ${field} ${pinned}, expected ${expected}`, {
      hint: 'it was pinned by something else, or remove it to start without its entries',
    });
    this.path = path;
    this.field = field;
  }
}

/** Throws PinnedMapError where the map behind an fd is another kind, of other sizes, limits or flags. */
export function checkPinnedMap(fd: number, spec: MapSpec, path: string): void {
  // struct bpf_map_info: u32 type, id, key_size, value_size, max_entries, map_flags
  const info = objectInfo(fd, 24, path);
  const at = (offset: number): number => info.getUint32(offset, true);
  const ignored = kernelFlags[spec.type] ?? 0;
  const fields: readonly (readonly [field: string, pinned: string | number, expected: string | number])[] = [
    ['type', typeName(at(0)), spec.type],
    ['keySize', at(8), spec.keySize],
    ['valueSize', at(12), spec.valueSize],
    ['maxEntries', at(16), spec.maxEntries],
    ['flags', at(20) & ~ignored, spec.flags & ~ignored],
  ];
  for (const [field, pinned, expected] of fields) if (pinned !== expected) throw new PinnedMapError(path, field, pinned, expected);
}

/** Kinds that entries come into and go from, and that can be read by key. */
const countable: readonly string[] = ['hash', 'lruHash', 'perCpuHash', 'lruPerCpuHash', 'lpmTrie', 'hashOfMaps', 'devmapHash'];

/** As `PinStore.count`, by the path of the pin. */
export function countPinned(path: string, context: MapContext): number | undefined {
  let fd: number;
  try {
    fd = openPin(path);
  } catch (error) {
    if (error instanceof SyscallError && error.errno === Errno.ENOENT) return undefined;
    throw error;
  }
  using map = closeOnError(fd, () => {
    const info = objectInfo(fd, 24, path);
    const at = (offset: number): number => info.getUint32(offset, true);
    const size = { keySize: at(8), valueSize: at(12), maxEntries: at(16), flags: at(20) };
    return new KernelMap({ name: path, type: typeName(at(0)) as MapType, ...size }, fd, at(4), context);
  });
  if (!countable.includes(map.spec.type)) return undefined;
  let count = 0;
  try {
    for (const part of map.readParts()) count += part.count;
  } catch (error) {
    if (error instanceof TailraceError && error.code === 'conflict') return undefined;
    throw error;
  }
  return count;
}

/** Flags that the kernel adds by itself: BPF_F_RDONLY_PROG (kernel/bpf/devmap.c, dev_map_alloc_check). */
const kernelFlags: Partial<Record<MapType, number>> = { devmap: 1 << 7, devmapHash: 1 << 7 };

function typeName(number: number): string {
  return Object.entries(MapType).find(([, known]) => known === number)?.[0] ?? `type ${number}`;
}

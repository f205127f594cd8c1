/**
 * Memory that a map shares with this process (mmap). JavaScript sees it as an ArrayBuffer, which is detached before the
 * memory goes: whoever kept a view then gets a TypeError, where an access of unmapped memory would end the process.
 */
import koffi from 'koffi';
import { syscall } from './syscall.ts';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;

/** A piece of shared memory. */
export interface Mapping {
  /** Writing to what is mapped for reading ends the process. */
  readonly buffer: ArrayBuffer;
  /** Detaches `buffer`, then gives the memory back. To be called once. */
  unmap(): void;
}

/** What to map of a descriptor, in bytes; `offset` is a multiple of the page size. */
export interface MappingPart {
  readonly offset: number;
  readonly length: number;
  readonly writable: boolean;
}

/** Maps a part of what is behind `fd`. Throws SyscallError (ENOMEM, EPERM); `about` names the object in it. */
export function mapMemory(fd: number, part: MappingPart, about: string): Mapping {
  const { offset, length, writable } = part;
  const address = syscall('mmap', about, 0, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, offset);
  const buffer = koffi.view(address, length);
  return {
    buffer,
    unmap() {
      buffer.transfer(0);
      syscall('munmap', about, address, length);
    },
  };
}

let known: number | undefined;

/** Bytes of a page of memory: 4,096 on x86-64, up to 65,536 on arm64. */
export function pageSize(): number {
  known ??= koffi.load(null).func('int getpagesize()')() as number;
  return known;
}

/**
 * The engine's linear memory: made once, shared with everything that runs on it, handed out in blocks. Blocks are zeros when
 * they are handed out. What is free is known here only, outside of the memory, so that nothing that runs in it can harm it.
 */
import { ArgumentError, Errno, SyscallError } from '@tailrace/bpf';
import { HEAP, MAP_LIMIT, TAG_MAPS } from './layout.ts';
import { RUNTIME_BASE64 } from './runtime-bytes.ts';
import type { RuntimeExports } from './runtime-exports.ts';
import { WebAssembly, type WebAssemblyMemory, type WebAssemblyModule } from './webassembly.ts';

const PAGE = 65_536;
const MAXIMUM_PAGES = 65_536;
/** The last page stays empty: the end of a block is an address too. */
const END = (MAXIMUM_PAGES - 1) * PAGE;
/** Pages that the memory grows by at least. */
const GROWTH = 16;

interface Block {
  readonly address: number;
  readonly bytes: number;
}

let compiled: WebAssemblyModule | undefined;

/** The runtime, compiled once a process. */
function runtimeModule(): WebAssemblyModule {
  compiled ??= new WebAssembly.Module(Uint8Array.from(Buffer.from(RUNTIME_BASE64, 'base64')));
  return compiled;
}

/** One engine's memory. Only the thread that made it allocates. */
export class EngineMemory {
  readonly memory: WebAssemblyMemory = new WebAssembly.Memory({ initial: HEAP / PAGE, maximum: MAXIMUM_PAGES, shared: true });
  /** The runtime over this memory, for handles and interpreters. */
  readonly runtime: RuntimeExports;
  #u8 = new Uint8Array(this.memory.buffer);
  #view = new DataView(this.memory.buffer);
  /** By address, with no two that touch. */
  readonly #free: Block[] = [{ address: HEAP, bytes: END - HEAP }];
  readonly #taken = new Map<number, number>();
  /** Nothing from here on was ever handed out. */
  #fresh = HEAP;
  #scratch: Block = { address: 0, bytes: 0 };
  #nextTag = TAG_MAPS;
  /** In the order in which they were given back. */
  readonly #freeTags: number[] = [];

  constructor() {
    const { exports } = new WebAssembly.Instance(runtimeModule(), { env: { memory: this.memory } });
    this.runtime = exports as unknown as RuntimeExports;
  }

  /** All of it as bytes; another array once it has grown. */
  get u8(): Uint8Array<SharedArrayBuffer> {
    return this.#u8;
  }

  /** All of it, for numbers; another view once it has grown. */
  get view(): DataView<SharedArrayBuffer> {
    return this.#view;
  }

  /** Bytes in blocks that are handed out. */
  get used(): number {
    let sum = 0;
    for (const bytes of this.#taken.values()) sum += bytes;
    return sum;
  }

  /**
   * Address of a block of zeros. `align` is a power of two; `about` names what it is for. Throws SyscallError (ENOMEM) where
   * the memory has no such block left.
   */
  allocate(bytes: number, align = 64, about = `${bytes} bytes`): number {
    const size = Math.max(8, Math.ceil(bytes / 8) * 8);
    const index = this.#bestFit(size, align);
    const block = this.#free[index];
    if (block === undefined) throw outOfMemory(about);
    const address = alignUp(block.address, align);
    this.#grow(address + size, about);
    this.#free.splice(index, 1, ...pieces(block, address, size));
    this.#taken.set(address, size);
    // What was never handed out is zero as it comes.
    this.#u8.fill(0, address, Math.max(address, Math.min(address + size, this.#fresh)));
    this.#fresh = Math.max(this.#fresh, address + size);
    return address;
  }

  /** Gives a block back. */
  free(address: number): void {
    const bytes = this.#taken.get(address);
    if (bytes === undefined) throw new ArgumentError(`no block of memory starts at ${address}`);
    this.#taken.delete(address);
    const found = this.#free.findIndex((block) => block.address > address);
    const index = found < 0 ? this.#free.length : found;
    const before = this.#free[index - 1];
    const after = this.#free[index];
    const joinsBefore = before !== undefined && before.address + before.bytes === address;
    const joinsAfter = after !== undefined && address + bytes === after.address;
    const joined: Block = {
      address: joinsBefore ? before.address : address,
      bytes: bytes + (joinsBefore ? before.bytes : 0) + (joinsAfter ? after.bytes : 0),
    };
    this.#free.splice(index - (joinsBefore ? 1 : 0), (joinsBefore ? 1 : 0) + (joinsAfter ? 1 : 0), joined);
  }

  /** Address of at least so many bytes that are good until the next call of this. */
  scratch(bytes: number): number {
    if (this.#scratch.bytes < bytes) {
      const size = Math.max(4096, bytes);
      const address = this.allocate(size);
      if (this.#scratch.address !== 0) this.free(this.#scratch.address);
      this.#scratch = { address, bytes: size };
    }
    return this.#scratch.address;
  }

  /** A map's tag. Throws SyscallError (ENOSPC) where all are taken. */
  takeTag(about = 'a map'): number {
    if (this.#nextTag < TAG_MAPS + MAP_LIMIT) return this.#nextTag++;
    const tag = this.#freeTags.shift();
    if (tag !== undefined) return tag;
    throw new SyscallError('bpf(BPF_MAP_CREATE)', Errno.ENOSPC, about, { hint: `an engine has at most ${MAP_LIMIT} maps at a time` });
  }

  freeTag(tag: number): void {
    this.#freeTags.push(tag);
  }

  /** Index of the smallest free block that will do, -1 where there is none. */
  #bestFit(bytes: number, align: number): number {
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    for (const [index, block] of this.#free.entries()) {
      const padding = alignUp(block.address, align) - block.address;
      if (padding + bytes > block.bytes || block.bytes >= least) continue;
      best = index;
      least = block.bytes;
    }
    return best;
  }

  #grow(end: number, about: string): void {
    const have = this.#u8.length / PAGE;
    const needed = Math.ceil(end / PAGE) - have;
    if (needed <= 0) return;
    try {
      this.memory.grow(Math.min(Math.max(needed, GROWTH), MAXIMUM_PAGES - have));
    } catch (cause) {
      throw outOfMemory(about, cause);
    }
    this.#u8 = new Uint8Array(this.memory.buffer);
    this.#view = new DataView(this.memory.buffer);
  }
}

/** What is left of a free block besides the part that is taken. */
function pieces({ address, bytes }: Block, from: number, size: number): Block[] {
  const before = { address, bytes: from - address };
  const after = { address: from + size, bytes: address + bytes - from - size };
  return [before, after].filter((piece) => piece.bytes > 0);
}

function alignUp(address: number, align: number): number {
  return Math.ceil(address / align) * align;
}

function outOfMemory(about: string, cause?: unknown): SyscallError {
  return new SyscallError('memory.grow', Errno.ENOMEM, about, { hint: 'an engine has 4 GiB: lower maxEntries or close maps', cause });
}

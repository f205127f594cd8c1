/** The folders of pins of an engine: `tailrace/PIPELINE` in a BPF file system, for this user alone. */
import type { PinnedPipeline, PinStore } from '@tailrace/bpf';
import { foldersIn, pinFile } from './pin.ts';
import { KernelPinFolder, linksIn, objectFile, type PinContext } from './pin-folder.ts';
import { lockFolder, lockOwner } from './pin-lock.ts';
import { countPinned } from './pinned-map.ts';
import { readPinnedText, TEXT_FILE } from './pinned-text.ts';
import { requireBpffs } from './privilege.ts';

/** Pins below one mount of bpffs. */
export class KernelPinStore implements PinStore {
  readonly #bpffs: string;
  readonly #context: PinContext;
  readonly #taken: KernelPinFolder[] = [];

  constructor(bpffs: string, context: PinContext) {
    this.#bpffs = bpffs;
    this.#context = context;
  }

  list(): readonly PinnedPipeline[] {
    requireBpffs(this.#bpffs);
    return foldersIn(this.#root).map((name) => ({ name, owner: lockOwner(this.#path(name)), links: linksIn(this.#path(name)) }));
  }

  read(name: string): string | undefined {
    requireBpffs(this.#bpffs);
    return readPinnedText(`${this.#path(name)}/${TEXT_FILE}`);
  }

  count(name: string, pin: string): number | undefined {
    requireBpffs(this.#bpffs);
    return countPinned(`${this.#path(name)}/${objectFile(pin)}`, this.#context.map);
  }

  take(name: string): KernelPinFolder {
    requireBpffs(this.#bpffs);
    const path = this.#path(name);
    const folder = new KernelPinFolder(path, lockFolder(path, name), this.#context);
    this.#taken.push(folder);
    return folder;
  }

  /** Lets others have every folder that was taken here: the engine is closed. */
  release(): void {
    for (const folder of this.#taken.splice(0)) folder.release();
  }

  get #root(): string {
    return `${this.#bpffs}/tailrace`;
  }

  #path(name: string): string {
    return `${this.#root}/${pinFile(name)}`;
  }
}

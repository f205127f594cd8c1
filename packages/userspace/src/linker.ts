/**
 * Changes of program arrays under chains that run. Packets go on in the modules that are there while the new ones are compiled;
 * then arrays and chains are exchanged together, between two batches. Changes that come meanwhile wait, and are made as one.
 */
import type { HeldProgram } from './held.ts';

/** A program array, as changes are made to it. */
export interface SlotArray {
  readonly programs: ReadonlyMap<number, HeldProgram>;
  /** Another number after each change of a slot. */
  readonly version: number;
  /** Writes a slot, at once; the array holds the program already. */
  put(slot: number, program: HeldProgram | undefined): void;
  /** Throws ArgumentError once closed. */
  checkOpen(): void;
}

/** What is in the slots of an array, or will be. */
export type SlotsOf = (array: SlotArray) => ReadonlyMap<number, HeldProgram>;

/** What comes into a slot; nothing where it is emptied. */
export interface SlotChange {
  readonly array: SlotArray;
  readonly slot: number;
  readonly program: HeldProgram | undefined;
}

/** A chain made ready for other slots. */
export interface Relinked {
  /** False once a slot that it was made for has changed. */
  readonly isCurrent: boolean;
  /** Lets packets into it from now on. */
  exchange(): void;
}

/** A chain that packets enter. */
export interface LinkedChain {
  /** Whether its packets can come to an array. */
  reaches(array: SlotArray): boolean;
  /** Makes it ready in the background. Throws TailraceError where its module is refused. */
  relink(slotsOf: SlotsOf): Promise<Relinked>;
  /** Forgets what was linked: its next packet waits until it is linked anew. */
  unlink(): void;
}

interface Request {
  readonly change: SlotChange;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** The chains of one engine, and the changes that are on their way to them. */
export class Linker {
  readonly #chains = new Set<LinkedChain>();
  #waiting: Request[] = [];
  #work: Promise<void> | undefined;

  /** Keeps a chain linked from now on. */
  add(chain: LinkedChain): void {
    this.#chains.add(chain);
  }

  remove(chain: LinkedChain): void {
    this.#chains.delete(chain);
  }

  /**
   * Makes a change, in the order of the calls: at once where no packet can come to the array. Resolves when every packet from
   * then on meets it. Rejects, with the array and all chains as they were, with what linking throws, and with ArgumentError
   * where the array is closed meanwhile.
   */
  change(change: SlotChange): Promise<void> {
    if (this.#work === undefined && this.#affected([change]).length === 0) {
      change.array.put(change.slot, change.program);
      return Promise.resolve();
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ change, resolve, reject });
    this.#work ??= this.#makeAll();
    return promise;
  }

  /** An array has changed already: chains that reach it are linked anew before their next packet. */
  changed(array: SlotArray): void {
    for (const chain of this.#chains) if (chain.reaches(array)) chain.unlink();
  }

  /** Returns once no change is on its way. */
  async idle(): Promise<void> {
    await this.#work;
  }

  async #makeAll(): Promise<void> {
    // what is asked for in the same turn goes together
    await undefined;
    while (this.#waiting.length > 0) {
      const requests = this.#waiting.splice(0);
      if (await this.#make(requests)) continue;
      // one of several may be at fault: the others are made without it
      for (const request of requests) await this.#make([request]);
    }
    this.#work = undefined;
  }

  /** Makes changes as one and tells who asked for them. False, and nobody is told, where several cannot be made together. */
  async #make(requests: readonly Request[]): Promise<boolean> {
    try {
      await this.#exchange(requests.map(({ change }) => change));
    } catch (error) {
      if (requests.length > 1) return false;
      for (const { reject } of requests) reject(error);
      return true;
    }
    for (const { resolve } of requests) resolve();
    return true;
  }

  async #exchange(changes: readonly SlotChange[]): Promise<void> {
    const ready = new Map<LinkedChain, Relinked>();
    for (;;) {
      for (const { array } of changes) array.checkOpen();
      const affected = this.#affected(changes);
      // chains may have come meanwhile, and slots changed that nobody waits for
      const stale = affected.filter((chain) => !ready.get(chain)?.isCurrent);
      if (stale.length === 0) {
        for (const { array, slot, program } of changes) array.put(slot, program);
        for (const chain of affected) ready.get(chain)?.exchange();
        return;
      }
      await Promise.all(stale.map(async (chain) => ready.set(chain, await chain.relink(slotsAfter(changes)))));
    }
  }

  #affected(changes: readonly SlotChange[]): readonly LinkedChain[] {
    return [...this.#chains].filter((chain) => changes.some(({ array }) => chain.reaches(array)));
  }
}

/** Slots as they will be. */
function slotsAfter(changes: readonly SlotChange[]): SlotsOf {
  return (array) => {
    const own = changes.filter((change) => change.array === array);
    if (own.length === 0) return array.programs;
    const slots = new Map(array.programs);
    for (const { slot, program } of own) {
      if (program) slots.set(slot, program);
      else slots.delete(slot);
    }
    return slots;
  };
}

/** What stands between a root and two generations of a chain, while packets go to both: a program, and an array of its own. */
import type { LoadedMap, LoadedProgram } from '@tailrace/bpf';
import type { CompiledStage } from '@tailrace/compiler';
import { frontSlot } from './change.ts';
import { type Generation, reference, type Workshop } from './generation.ts';

/** A front as it is loaded. Packets have to be through it, and through what it led them to, before it is closed. */
export class Front implements Disposable {
  readonly program: LoadedProgram;
  readonly #array: LoadedMap;

  private constructor(program: LoadedProgram, array: LoadedMap) {
    this.program = program;
    this.#array = array;
  }

  /** Loads it and fills its slots. Leaves nothing behind on errors. */
  static async load(
    { instance, registry, name, state }: Workshop,
    { program: spec, maps }: Pick<CompiledStage, 'program' | 'maps'>,
    old: Generation,
    next: Generation,
  ): Promise<Front> {
    using undo = new DisposableStack();
    const size = { keySize: 4, valueSize: 4, maxEntries: 2, flags: 0 };
    const array = instance.createMap({ name: `${name}.front`, type: 'programArray', ...size });
    undo.defer(() => array.close());
    const own = [...maps].map(([reference, map]) => [reference, registry.loaded(map)] as const);
    const references = new Map([...own, [reference.front, array] as const, [reference.state, state] as const]);
    const program = await instance.loadProgram(spec, references);
    undo.defer(() => program.close());
    await array.setProgram(frontSlot.old, old.head);
    await array.setProgram(frontSlot.new, next.head);
    undo.move();
    return new Front(program, array);
  }

  [Symbol.dispose](): void {
    this.program.close();
    this.#array.close();
  }
}

/**
 * Which bytes of its metadata a path has written. Each byte is a variable of the environment, so that where paths meet only
 * what all of them have written stays known.
 */
import type { Layout } from '@tailrace/stage';
import type { Value } from '../ir.ts';
import { UNDEFINED, type Variable } from './operand.ts';
import type { Environment } from './path.ts';

export class Written {
  readonly #bases = new Set<Value>();
  readonly #bytes = new Map<number, Variable>();

  /** Stores of bytes at `offset` from `base` count from now on. */
  watch(base: Value, offset: number, size: number): void {
    this.#bases.add(base);
    for (let at = offset; at < offset + size; at++)
      if (!this.#bytes.has(at)) this.#bytes.set(at, { name: `(written ${at})`, constant: false });
  }

  stored({ values }: Environment, base: Value, offset: number, size: number): void {
    if (!this.#isWatched(base)) return;
    for (let at = offset; at < offset + size; at++) {
      const byte = this.#bytes.get(at);
      if (byte) values.set(byte, UNDEFINED);
    }
  }

  /** True where the path has written all of a field, its padding aside. */
  isWhole(environment: Environment, offset: number, layout: Layout): boolean {
    switch (layout.kind) {
      case 'struct':
        return Object.values(layout.fields).every((field) => this.isWhole(environment, offset + field.offset, field.layout));
      case 'array':
        return Array.from({ length: layout.length }, (_, i) => offset + i * layout.item.size).every((at) =>
          this.isWhole(environment, at, layout.item),
        );
      default:
        return Array.from({ length: layout.size }, (_, i) => this.#bytes.get(offset + i)).every(
          (byte) => byte && environment.values.has(byte),
        );
    }
  }

  /** The state may have been looked up on each of the paths that meet. */
  #isWatched(base: Value): boolean {
    return this.#bases.has(base) || (base.kind === 'phi' && base.inputs.length > 0 && base.inputs.every((input) => this.#bases.has(input)));
  }
}

/**
 * Fields of the packet that a path has read: a second read gives the same operand, with all that tests have said of it
 * since. Stores that may change the bytes make the path forget them, and so do moves of the packet and meeting a path that
 * read something else. Fields of maps are read each time: other CPUs may write them in between.
 */
import type { Space, Value } from '../ir.ts';
import { mayOverlap } from './access.ts';
import type { Operand, RefOperand, Variable } from './operand.ts';
import type { Environment } from './path.ts';

interface Field {
  readonly variable: Variable;
  readonly place: RefOperand;
}

/** Fields that a path remembers at most; the oldest go first. */
const LIMIT = 64;

export class Fields {
  readonly #byPlace = new Map<string, Field>();

  /** What the path has read at a place, or what `read` gives now. */
  remembered(environment: () => Environment, place: RefOperand, read: () => Operand): Operand {
    const { layout, space, base, offset } = place;
    if (layout.kind !== 'int' || space !== 'packet') return read();
    const { size, signed, bigEndian, bigint } = layout;
    const name = `packet ${base.id}+${offset}:${size}${signed}${bigEndian}${bigint}`;
    const field = this.#byPlace.get(name) ?? { variable: { name: `(${name})`, constant: false, ofPath: true }, place };
    const known = environment().values.get(field.variable);
    if (known) return known;
    const value = read();
    const { values } = environment();
    this.#byPlace.delete(name);
    this.#byPlace.set(name, field);
    values.set(field.variable, value);
    for (const [oldest, { variable }] of this.#byPlace) {
      if (this.#byPlace.size <= LIMIT) break;
      this.#byPlace.delete(oldest);
      values.delete(variable);
    }
    return value;
  }

  /** Forgets what a store may have changed. */
  written({ values }: Environment, space: Space, base: Value, offset: number, size: number): void {
    for (const { variable, place } of this.#byPlace.values()) {
      if (mayOverlap({ space, base, offset, size }, { ...place, size: place.layout.size })) values.delete(variable);
    }
  }

  /** Forgets all of them: the packet moved. */
  forget({ values }: Environment): void {
    for (const { variable } of this.#byPlace.values()) values.delete(variable);
  }
}

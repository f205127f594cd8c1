/**
 * Things that a path remembers once it has computed them: data and data_end, parsed headers, the chain's state. Each is
 * a variable of the environment, so that what paths share is shared and what differs is forgotten.
 */
import type { Value } from '../ir.ts';
import { range } from '../range.ts';
import type { Lowering } from './lowering.ts';
import type { Operand, Variable } from './operand.ts';

const facts = new Map<string, Variable>();

export function fact(name: string): Variable {
  let variable = facts.get(name);
  if (!variable) {
    variable = { name: `(${name})`, constant: false };
    facts.set(name, variable);
  }
  return variable;
}

/** Is the variable a fact, and none of the program's own? */
export function isFact(variable: Variable): boolean {
  return facts.get(variable.name.slice(1, -1)) === variable;
}

/**
 * The remembered operand, or the one that `make` computes now. Conflicts between paths are computed anew, and so is what
 * paths found after each had moved the packet.
 */
export function remembered(lowering: Lowering, name: string, make: () => Operand): Operand {
  const variable = fact(name);
  const known = current(lowering, variable);
  if (known) return known;
  const made = make();
  lowering.write(variable, made);
  return made;
}

/** What the path remembers, as far as it still holds. */
export function current(lowering: Lowering, variable: Variable): Operand | undefined {
  const known = lowering.read(variable);
  const stale = known?.kind === 'ref' && known.epoch && known.epoch !== lowering.environment.epoch;
  return known?.kind === 'conflict' || stale ? undefined : known;
}

/** A machine value that is remembered as it is. */
export function rememberedValue(lowering: Lowering, name: string, make: () => Value): Value {
  const variable = fact(name);
  const known = lowering.read(variable);
  if (known?.kind === 'number' && known.exact) return known.exact;
  const value = make();
  lowering.write(variable, { kind: 'number', range: range(0n, 1n << 52n), exact: value });
  return value;
}

/** Forgets all that hung on where the packet lies. */
export function forgetPacket(lowering: Lowering): void {
  forgetFacts(lowering, () => true);
}

/** Forgets facts of the packet whose names match. */
export function forgetFacts(lowering: Lowering, matches: (name: string) => boolean): void {
  for (const [name, variable] of facts) if (name.startsWith('packet:') && matches(name)) lowering.environment.values.delete(variable);
}

/** Forgets single facts. */
export function forget(lowering: Lowering, names: readonly string[]): void {
  for (const name of names) {
    const variable = facts.get(name);
    if (variable) lowering.environment.values.delete(variable);
  }
}

/**
 * What a body may name next to its arguments: maps, structures, fns, schemas (for `ctx.at`), and constants. A constant is a number, bigint,
 * boolean or string, or an array or plain object of those; it is copied and frozen, so that what was compiled stays true.
 */
import { ArgumentError } from '@tailrace/bpf';
import type { Schema } from './schema.ts';

/** A value that is known when a stage is compiled. */
export type Constant = number | bigint | boolean | string | readonly Constant[] | { readonly [name: string]: Constant };

/** What is no constant, by its `kind`. */
const DECLARED: ReadonlySet<unknown> = new Set(['map', 'structure', 'fn', 'intrinsic']);

/** True for maps, structures and fns, false for constants. */
export function isDeclared(value: unknown): value is { readonly kind: 'map' | 'structure' | 'fn' | 'intrinsic' } {
  return typeof value === 'object' && value !== null && 'kind' in value && DECLARED.has(value.kind) && Object.isFrozen(value);
}

/** True for schemas. */
export function isSchema(value: unknown): value is Schema<unknown> {
  if (typeof value !== 'object' || value === null || !Object.isFrozen(value) || !('layout' in value)) return false;
  const { layout } = value;
  return typeof layout === 'object' && layout !== null && Object.isFrozen(layout) && 'kind' in layout && 'size' in layout;
}

/** Checks and freezes `uses`; `owner` starts the message. Throws ArgumentError that names the value at fault. */
export function checkUses(owner: string, uses: unknown): Readonly<Record<string, unknown>> {
  if (!isPlain(uses)) throw new ArgumentError(`${owner}: uses is ${nameOf(uses)}, expected an object`);
  const checked: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(uses))
    checked[name] = isDeclared(value) || isSchema(value) ? value : constant(value, `${owner}: uses.${name}`);
  return Object.freeze(checked);
}

function constant(value: unknown, path: string): Constant {
  switch (typeof value) {
    case 'number':
      if (!Number.isFinite(value)) throw new ArgumentError(`${path} is ${value}, expected a finite number`);
      return value;
    case 'bigint':
    case 'boolean':
    case 'string':
      return value;
    default:
      if (Array.isArray(value)) return Object.freeze(value.map((item: unknown, i) => constant(item, `${path}[${i}]`)));
      if (isPlain(value))
        return Object.freeze(Object.fromEntries(Object.entries(value).map(([name, item]) => [name, constant(item, `${path}.${name}`)])));
      throw new ArgumentError(`${path} is ${nameOf(value)}, expected a map, structure, fn, schema or constant`, {
        hint: 'a constant is a number, bigint, boolean, string, or an array or plain object of those',
      });
  }
}

function isPlain(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function nameOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return typeof value === 'object' ? `an instance of ${value.constructor?.name ?? 'nothing'}` : `a ${typeof value}`;
}

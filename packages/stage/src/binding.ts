/** Which declarations may take each other's place, and how it is said where they may not. */
import { ArgumentError, TailraceError } from '@tailrace/bpf';
import type { FnDecl, Intrinsic } from './fn.ts';
import { describeLayout, type Layout, sameLayout } from './layout.ts';
import type { AnyMap } from './map.ts';
import type { AnyStructure } from './structure.ts';
import { isDeclared, isSchema } from './uses.ts';

/** One field in which two declarations differ, e.g. `value.packets`, `u64`, `u32`. */
export interface Difference {
  readonly field: string;
  readonly ours: string;
  readonly theirs: string;
}

/** Two declarations that would have to be one are not alike. */
export class ConflictError extends TailraceError {
  readonly differences: readonly Difference[];

  constructor(subject: string, differences: readonly Difference[], hint?: string) {
    const list = differences.map(({ field, ours, theirs }) => `${field} is ${ours} and ${theirs}`).join(', ');
    super('conflict', `${subject}: ${list}`, hint === undefined ? {} : { hint });
    this.differences = differences;
  }
}

/** Where two maps differ in kind and schemas: empty where one can be bound in place of the other. */
export function schemaDifferences(ours: AnyMap, theirs: AnyMap): readonly Difference[] {
  return [
    ...different('type', ours.type, theirs.type),
    ...layoutDifferences('key', ours.key?.layout, theirs.key?.layout),
    ...layoutDifferences('value', ours.value.layout, theirs.value.layout),
    ...innerDifferences(ours.inner, theirs.inner, schemaDifferences),
  ];
}

function innerDifferences(
  ours: AnyMap | undefined,
  theirs: AnyMap | undefined,
  differences: typeof schemaDifferences,
): readonly Difference[] {
  return ours && theirs ? differences(ours, theirs).map((d) => ({ ...d, field: `inner.${d.field}` })) : [];
}

/** Where two maps differ at all, but for their names: empty where both describe the same kernel map. */
export function mapDifferences(ours: AnyMap, theirs: AnyMap): readonly Difference[] {
  return [...schemaDifferences(ours, theirs), ...sizeDifferences(ours, theirs)];
}

/** What the kernel takes where a bloom filter does not say (bloom_map_alloc, kernel/bpf/bloom_filter.c). */
const DEFAULT_HASHES = 5;

function sizeDifferences(ours: AnyMap, theirs: AnyMap): readonly Difference[] {
  return [
    ...different('maxEntries', ours.maxEntries, theirs.maxEntries),
    ...different('flags', ours.flags, theirs.flags),
    ...different('hashes', ours.hashes ?? DEFAULT_HASHES, theirs.hashes ?? DEFAULT_HASHES),
    ...innerDifferences(ours.inner, theirs.inner, sizeDifferences),
  ];
}

/** Throws where `theirs` cannot stand for `ours`: ConflictError by schema, ArgumentError where it is another kind of thing. */
export function checkBinding(path: string, ours: unknown, theirs: unknown): void {
  const [ourKind, theirKind] = [kindOf(ours), kindOf(theirs)];
  if (ourKind !== theirKind) throw new ArgumentError(`${path} is a ${theirKind}, expected a ${ourKind}`);
  const differences =
    isSchema(ours) && isSchema(theirs)
      ? layoutDifferences('layout', ours.layout, theirs.layout)
      : useDifferences(ours as Declared, theirs as Declared);
  if (differences.length > 0) throw new ConflictError(path, differences);
}

type Declared = AnyMap | AnyStructure | FnDecl | Intrinsic;

function useDifferences(ours: Declared, theirs: Declared): readonly Difference[] {
  if (ours.kind === 'map' && theirs.kind === 'map') return schemaDifferences(ours, theirs);
  if (ours.kind === 'structure' && theirs.kind === 'structure')
    return [...memberDifferences('maps', ours.maps, theirs.maps), ...memberDifferences('fns', ours.fns, theirs.fns)];
  if (ours.kind === 'fn' && theirs.kind === 'fn') return different('signature', signature(ours), signature(theirs));
  if (ours.kind === 'intrinsic' && theirs.kind === 'intrinsic')
    return [...different('name', ours.name, theirs.name), ...layoutDifferences('key', ours.schema.layout, theirs.schema.layout)];
  return [];
}

function memberDifferences(
  side: string,
  ours: Readonly<Record<string, unknown>>,
  theirs: Readonly<Record<string, unknown>>,
): readonly Difference[] {
  return [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].flatMap((name) => {
    const [a, b] = [ours[name], theirs[name]];
    if (a === undefined || b === undefined || kindOf(a) !== kindOf(b))
      return different(`${side}.${name}`, a === undefined ? 'missing' : kindOf(a), b === undefined ? 'missing' : kindOf(b));
    return useDifferences(a as Declared, b as Declared).map((d) => ({ ...d, field: `${side}.${name}.${d.field}` }));
  });
}

function layoutDifferences(path: string, ours: Layout | undefined, theirs: Layout | undefined): readonly Difference[] {
  if (ours === undefined || theirs === undefined)
    return different(path, ours ? describeLayout(ours) : 'missing', theirs ? describeLayout(theirs) : 'missing');
  if (sameLayout(ours, theirs)) return [];
  if (ours.kind === 'struct' && theirs.kind === 'struct') {
    const names = [...new Set([...Object.keys(ours.fields), ...Object.keys(theirs.fields)])];
    const fields = names.flatMap((name) => {
      const [a, b] = [ours.fields[name], theirs.fields[name]];
      const inside = layoutDifferences(`${path}.${name}`, a?.layout, b?.layout);
      return inside.length > 0 ? inside : different(`${path}.${name}`, `at byte ${a?.offset}`, `at byte ${b?.offset}`);
    });
    if (fields.length > 0) return fields;
  }
  const [ourText, theirText] = [describeLayout(ours), describeLayout(theirs)];
  if (ourText !== theirText) return different(path, ourText, theirText);
  return different(path, `${ours.size} bytes aligned to ${ours.align}`, `${theirs.size} bytes aligned to ${theirs.align}`);
}

function different(field: string, ours: string | number, theirs: string | number): readonly Difference[] {
  return ours === theirs ? [] : [{ field, ours: String(ours), theirs: String(theirs) }];
}

function signature({ args, returns }: FnDecl): string {
  return `(${args.map((arg) => describeLayout(arg.layout)).join(', ')}) => ${describeLayout(returns.layout)}`;
}

function kindOf(value: unknown): string {
  if (isDeclared(value)) return value.kind;
  if (isSchema(value)) return 'schema';
  return Array.isArray(value) ? 'constant array' : `constant ${typeof value}`;
}

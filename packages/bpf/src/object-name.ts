/**
 * Names that C does not know, in objects: `l4lb/conns` is the variable `l4lb_conns` with a BTF tag that has the whole name,
 * so that an object read again is the one that was written. Other readers see the variable.
 */
import { type BtfBuilder, type BtfTypeId, btfIdentifier } from './btf.ts';
import type { Btf } from './btf-reader.ts';

const PREFIX = 'tailrace.name:';

/** The full names of functions and variables, by type id. */
export function nameTags(btf: Btf): ReadonlyMap<BtfTypeId, string> {
  const names = new Map<BtfTypeId, string>();
  for (let id = 1; id < btf.length; id++) {
    const type = btf.type(id);
    if (type.kind === 'declTag' && type.component === -1 && type.name.startsWith(PREFIX))
      names.set(type.type, type.name.slice(PREFIX.length));
  }
  return names;
}

/** Gives out identifiers, each once. */
export class Identifiers {
  readonly #taken = new Set<string>();

  /** An identifier for a name. */
  claim(name: string): string {
    const wanted = btfIdentifier(name);
    let identifier = wanted;
    for (let count = 2; this.#taken.has(identifier); count++) identifier = `${wanted.slice(0, 110)}_${count}`;
    this.#taken.add(identifier);
    return identifier;
  }
}

/** Notes a full name where the identifier is another. */
export function tagName(builder: BtfBuilder, id: BtfTypeId, identifier: string, name: string): void {
  if (identifier !== name) builder.declTag(`${PREFIX}${name}`, id);
}

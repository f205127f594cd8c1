/** Groups of members that become one program: what they know of a packet is found out once, and no tail call lies between. */
import { ArgumentError } from '@tailrace/bpf';
import type { AnyFused, ChainItem } from './member.ts';
import { isFused, isMember } from './wiring.ts';

/** A fused group of the members `M`. */
export interface Fused<M extends readonly ChainItem[]> extends AnyFused {
  readonly members: M;
}

/**
 * Members of a chain or a sub-chain that become one program, with the stages behind their exits: what they do stays the same.
 * A stage that packets also reach from outside of the group, and a stage that they reach by two programs, begins another
 * program, so that each stage is compiled once. Groups in groups are one with the outermost.
 * Throws ArgumentError without members, and for what is no member.
 */
export function fuse<const M extends readonly [ChainItem, ...ChainItem[]]>(...members: M): Fused<M> {
  if (members.length === 0) throw new ArgumentError('fuse: no members, expected at least one');
  for (const member of members)
    if (!isMember(member) && !isFused(member))
      throw new ArgumentError(`fuse: a member is ${typeof member}, expected a stage, a function or a fused group`);
  return Object.freeze<Fused<M>>({ kind: 'fused', members: Object.freeze(members), apart: 'none' });
}

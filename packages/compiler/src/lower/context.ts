/** The members of `ctx`: which there are at a stage's hook, and what the machine knows. */
import { Helper } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import { SK_BUFF, XDP_MD } from '../hook-model.ts';
import * as R from '../range.ts';
import { AT_DATA, AT_FRAMES, AT_XDP, type Member, type Members, only } from './context-member.ts';
import { copyBytes } from './copy.ts';
import { FRAME_MEMBERS } from './frame-member.ts';
import { MOVES, trimHead } from './move.ts';
import type { Operand } from './operand.ts';
import { PACKET_MEMBERS } from './packet-member.ts';
import type { Program } from './program.ts';
import { SOCKET_MEMBERS } from './socket-member.ts';
import { contextWord, packetLength } from './state.ts';
import { TC_MEMBERS } from './tc-member.ts';
import { VERDICTS } from './verdict.ts';

const COMMON: Members = {
  length: { hooks: [...AT_FRAMES, ...AT_DATA], get: packetLength },
  copy: {
    hooks: ['skSkb'],
    hint: 'read in place with ctx.at(schema, offset)',
    call: ({ lowering }, node, args) => copyBytes(lowering, node, args),
  },
  trimHead,
  meta: { get: () => ({ kind: 'meta' }) },
  ingressIfindex: {
    hooks: AT_FRAMES,
    get: ({ lowering }) => contextWord(lowering, lowering.hook.kind === 'xdp' ? XDP_MD.ingressIfindex : SK_BUFF.ingressIfindex),
  },
  rxQueue: { hooks: AT_XDP, hint: 'ctx.queue is the transmit queue', get: ({ lowering }) => contextWord(lowering, XDP_MD.rxQueue) },
};

const MACHINE: Members = {
  now: { call: ({ lowering }) => ({ kind: 'bigint', range: TIME, value: lowering.call(Helper.ktime_get_ns, []) }) },
  nowCoarse: { call: ({ lowering }) => ({ kind: 'bigint', range: TIME, value: lowering.call(Helper.ktime_get_coarse_ns, []) }) },
  random: {
    call: ({ lowering }) => ({
      kind: 'number',
      range: R.UINT32,
      exact: lowering.unary('zext32', lowering.call(Helper.get_prandom_u32, [])),
    }),
  },
  cpu: {
    call: ({ lowering }) => ({
      kind: 'number',
      range: R.range(0n, 8191n),
      exact: lowering.call(Helper.get_smp_processor_id, [], { pure: true }),
    }),
  },
};
const TIME = R.range(0n, R.INT64.hi);

const MEMBERS: ReadonlyMap<string, Member> = new Map(
  Object.entries({
    ...COMMON,
    ...TC_MEMBERS,
    ...only(AT_FRAMES, { ...FRAME_MEMBERS, ...PACKET_MEMBERS }),
    ...SOCKET_MEMBERS,
    ...VERDICTS,
    ...only(AT_FRAMES, MOVES),
    ...MACHINE,
  }),
);

/** `ctx.name`. */
export function contextMember(program: Program, node: SyntaxNode, name: string): Operand {
  const member = memberNamed(program, node, name);
  return member.get ? member.get(program, node) : { kind: 'method', of: { kind: 'context' }, name };
}

/** `ctx.name(…)`. */
export function contextCall(program: Program, node: SyntaxNode, name: string, args: readonly Operand[]): Operand {
  const { call } = memberNamed(program, node, name);
  return call ? call(program, node, args) : program.lowering.fail(node, 'type', `ctx.${name} cannot be called`);
}

/** The member that an assignment names, where it can be assigned to. */
export function assignableMember(program: Program, node: SyntaxNode, name: string): (Member & Required<Pick<Member, 'place'>>) | undefined {
  const member = memberNamed(program, node, name);
  return member.place ? { ...member, place: member.place } : undefined;
}

function memberNamed({ lowering, stage }: Program, node: SyntaxNode, name: string): Member {
  const isHere = ({ hooks }: Member): boolean => hooks === undefined || hooks.includes(stage.hook);
  const member = MEMBERS.get(name);
  if (member && isHere(member)) return member;
  if (member) return lowering.fail(node, 'name', `ctx.${name} is not there at ${stage.hook}`, member.hint);
  const names = [...MEMBERS].flatMap(([other, its]) => (isHere(its) ? [other] : []));
  return lowering.fail(node, 'name', `ctx has no member '${name}'`, nearest(name, names));
}

/** A hint for a misspelt name: the closest of those there are, or all of them. */
export function nearest(name: string, names: readonly string[]): string {
  const [best] = names.map((n) => ({ n, distance: distance(name.toLowerCase(), n.toLowerCase()) })).sort((a, b) => a.distance - b.distance);
  return best && best.distance <= 2 ? `did you mean '${best.n}'?` : `there are: ${names.join(', ')}`;
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, x] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, y] of [...b].entries())
      next.push(Math.min((row[j] ?? 0) + (x === y ? 0 : 1), (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    row = next;
  }
  return row.at(-1) ?? 0;
}

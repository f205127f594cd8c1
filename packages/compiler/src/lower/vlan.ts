/**
 * VLAN tags (IEEE 802.1Q): how many a frame has, what they say, putting one on and taking one off. At XDP they lie in the
 * frame; at TC the outer one may be beside it in the skb, where the driver or the kernel put it.
 */
import { Helper } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import { SK_BUFF } from '../hook-model.ts';
import type { Value } from '../ir.ts';
import { range, UINT16 } from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { fits, fitsLinear, pullUpTo } from './bounds.ts';
import { current, fact, forgetPacket } from './fact.ts';
import { packetEnd, packetStart, unless } from './linear.ts';
import type { Lowering } from './lowering.ts';
import { moved } from './move.ts';
import { ETHERTYPE_AT, TAG_SIZE, unlessInSkb, unlessTag } from './network-header.ts';
import { type Epoch, type NumberOperand, type Operand, UNDEFINED } from './operand.ts';
import { tagPopped, tagPushed, tellSum } from './packet-sum.ts';
import type { Join } from './path.ts';
import type { Program } from './program.ts';
import { exact, low32 } from './scalar.ts';
import { lengthened } from './state.ts';

/** 802.1Q in network order: as it lies in the frame, and as the kernel's helper takes it. */
const ETH_P_8021Q = 0x0081;
const MAX_TAGS = 2;

interface Tags {
  readonly count: NumberOperand;
  readonly outer: NumberOperand;
  readonly inner: NumberOperand;
}
const FACTS = { count: fact('packet:vlanTags'), outer: fact('packet:vlanTci'), inner: fact('packet:innerVlanTci') } as const;

/** `ctx.vlanTags`, `ctx.vlanTci` and `ctx.innerVlanTci`. */
export function vlanTags(lowering: Lowering): Tags {
  const known = knownTags(lowering);
  if (known) return known;
  packetEnd(lowering);
  pullUpTo(lowering, packetStart(lowering), ETHERTYPE_AT + 2 + MAX_TAGS * TAG_SIZE);
  const done = lowering.newJoin();
  const zero = lowering.number(0);
  const none: Tags = { count: zero, outer: zero, inner: zero };
  if (lowering.hook.kind === 'tc') {
    const inSkb = lowering.newJoin();
    unlessInSkb(lowering, inSkb);
    tagsInFrame(lowering, none, 0, done);
    lowering.enter(inSkb);
    const tci = lowering.load(4, 'context', lowering.graph.context, SK_BUFF.vlanTci);
    tagsInFrame(lowering, { ...none, count: lowering.number(1), outer: { kind: 'number', range: UINT16, exact: tci } }, 0, done);
  } else tagsInFrame(lowering, none, 0, done);
  lowering.enter(done);
  return knownTags(lowering) ?? none;
}

/** Finds the tags in the frame beside those that were found before. */
function tagsInFrame(lowering: Lowering, before: Tags, inFrame: number, done: Join): void {
  const none = lowering.newJoin();
  const count = Number(before.count.range.lo);
  if (count < MAX_TAGS) {
    const at = ETHERTYPE_AT + inFrame * TAG_SIZE;
    const data = packetStart(lowering);
    fitsLinear(lowering, data, at + 2 + TAG_SIZE, none);
    unlessTag(lowering, lowering.load(2, 'packet', data, at), none);
    const tci: NumberOperand = { kind: 'number', range: UINT16, exact: lowering.unary('swap16', lowering.load(2, 'packet', data, at + 2)) };
    const found = { ...before, count: lowering.number(count + 1), ...(count === 0 ? { outer: tci } : { inner: tci }) };
    tagsInFrame(lowering, found, inFrame + 1, done);
  } else lowering.jump(none);
  lowering.enter(none);
  lowering.write(FACTS.count, before.count);
  lowering.write(FACTS.outer, before.outer);
  lowering.write(FACTS.inner, before.inner);
  lowering.jump(done);
}

function knownTags(lowering: Lowering): Tags | undefined {
  const [count, outer, inner] = [FACTS.count, FACTS.outer, FACTS.inner].map((variable) => current(lowering, variable));
  return count?.kind === 'number' && outer?.kind === 'number' && inner?.kind === 'number' ? { count, outer, inner } : undefined;
}

/** `ctx.pushVlan(tci)`. */
export function pushVlan(program: Program, node: SyntaxNode, args: readonly Operand[]): Operand {
  const { lowering } = program;
  const tci = numberArgument(lowering, argumentNode(node, 0), args[0], UINT16);
  if (lowering.hook.kind === 'tc') {
    const present = lowering.load(4, 'context', lowering.graph.context, SK_BUFF.vlanPresent);
    const intoFrame: NumberOperand = {
      kind: 'number',
      range: range(0n, BigInt(TAG_SIZE)),
      exact: lowering.binary('lsh', present, lowering.constant(2)),
    };
    return moved(program, 'pushVlan', Helper.skb_vlan_push, [lowering.constant(ETH_P_8021Q), exact(lowering, tci)], () =>
      tagPushed(lowering, intoFrame),
    );
  }
  const failed = lowering.newJoin();
  const epoch: Epoch = { call: 'ctx.pushVlan()' };
  const result = lowering.call(Helper.xdp_adjust_head, [lowering.graph.context, lowering.constant(-TAG_SIZE)], { movesPacket: true });
  startEpoch(lowering, epoch);
  unless(lowering, result, 'ne', lowering.constant(0), failed);
  lengthened(program, lowering.constant(TAG_SIZE));
  const data = packetStart(lowering);
  fits(lowering, data, ETHERTYPE_AT + TAG_SIZE + 2, failed);
  moveAddresses(lowering, data, TAG_SIZE, 0);
  lowering.store(2, 'packet', data, ETHERTYPE_AT, lowering.constant(ETH_P_8021Q));
  lowering.store(2, 'packet', data, ETHERTYPE_AT + 2, lowering.unary('swap16', low32(lowering, tci)));
  return answer(lowering, epoch, failed);
}

/** `ctx.popVlan()`. */
export function popVlan(program: Program): Operand {
  const { lowering } = program;
  const failed = lowering.newJoin();
  const epoch: Epoch = { call: 'ctx.popVlan()' };
  if (lowering.hook.kind === 'tc') {
    unless(lowering, exact(lowering, vlanTags(lowering).count), 'eq', lowering.constant(0), failed);
    tellSum(lowering);
    const result = lowering.call(Helper.skb_vlan_pop, [lowering.graph.context], { movesPacket: true });
    startEpoch(lowering, epoch);
    unless(lowering, result, 'ne', lowering.constant(0), failed);
    tagPopped(lowering);
    return answer(lowering, epoch, failed);
  }
  const data = packetStart(lowering);
  fits(lowering, data, ETHERTYPE_AT + TAG_SIZE + 2, failed);
  unlessTag(lowering, lowering.load(2, 'packet', data, ETHERTYPE_AT), failed);
  moveAddresses(lowering, data, 0, TAG_SIZE);
  const result = lowering.call(Helper.xdp_adjust_head, [lowering.graph.context, lowering.constant(TAG_SIZE)], { movesPacket: true });
  startEpoch(lowering, epoch);
  unless(lowering, result, 'ne', lowering.constant(0), failed);
  lengthened(program, lowering.constant(-TAG_SIZE));
  return answer(lowering, epoch, failed);
}

/** Moves both addresses of the Ethernet header: all of them are read before any is written. */
function moveAddresses(lowering: Lowering, data: Value, from: number, to: number): void {
  const first = lowering.load(8, 'packet', data, from);
  const rest = lowering.load(4, 'packet', data, from + 8);
  lowering.store(8, 'packet', data, to, first);
  lowering.store(4, 'packet', data, to + 8, rest);
}

/** References from before are stale on all paths, whether the frame was changed or not. */
function startEpoch(lowering: Lowering, epoch: Epoch): void {
  lowering.environment.epoch = epoch;
  forgetPacket(lowering);
}

/** True here, false where it failed. */
function answer(lowering: Lowering, epoch: Epoch, failed: Join): Operand {
  const done = lowering.newJoin();
  lowering.jump(done, { kind: 'boolean', value: lowering.constant(1) });
  lowering.enter(failed);
  startEpoch(lowering, epoch);
  lowering.jump(done, { kind: 'boolean', value: lowering.constant(0) });
  return lowering.enter(done) ?? UNDEFINED;
}

/** Members of `ctx` that move an end of the packet. */
import { Helper } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import * as R from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { AT_XDP, type Member, type Members } from './context-member.ts';
import { forgetPacket } from './fact.ts';
import type { Lowering } from './lowering.ts';
import type { NumberOperand, Operand } from './operand.ts';
import { tellSum } from './packet-sum.ts';
import type { Program } from './program.ts';
import { exact } from './scalar.ts';
import { lengthened, packetLength } from './state.ts';
import { succeeded } from './success.ts';

export const MOVES: Members = {
  adjustHead: {
    hooks: AT_XDP,
    call: (program, node, args) => {
      const { lowering } = program;
      const by = delta(program, node, args);
      // a head that moves forward makes the packet shorter
      const longerBy = lowering.unary('neg', by);
      return moved(program, 'adjustHead', Helper.xdp_adjust_head, [by], () => lengthened(program, longerBy));
    },
  },
  adjustTail: {
    call: (program, node, args) => {
      const { lowering } = program;
      if (lowering.hook.kind === 'tc') return changeTail(program, tailDelta(lowering, argumentNode(node, 0), args[0]));
      const by = delta(program, node, args);
      return moved(program, 'adjustTail', Helper.xdp_adjust_tail, [by], () => lengthened(program, by));
    },
  },
};

/** What is taken off a socket's data. */
export const trimHead: Member = {
  hooks: ['skSkb'],
  call: (program, node, args) => {
    const { lowering } = program;
    const by = exact(lowering, numberArgument(lowering, argumentNode(node, 0), args[0], MOST_TRIMMED));
    const shorterBy = lowering.unary('neg', by);
    const [mode, flags] = [lowering.constant(0), lowering.constant(0)];
    return moved(program, 'trimHead', Helper.skb_adjust_room, [shorterBy, mode, flags], () => lengthened(program, shorterBy));
  },
};
/** sk_skb_adjust_room (net/core/filter.c) moves the head by 0xfff at most. */
const MOST_TRIMMED = R.range(0n, 0xfffn);

/** What is zeroed at once, and how often at most: TC leaves in new bytes what was in memory before, XDP clears them. */
const ZEROS = 64;
const TAIL_DELTA = R.range(R.INT32.lo, 1024n);

function delta({ lowering }: Program, node: SyntaxNode, args: readonly Operand[]): Value {
  return exact(lowering, numberArgument(lowering, argumentNode(node, 0), args[0], R.INT32));
}

/** Up to what is zeroed. */
function tailDelta(lowering: Lowering, node: SyntaxNode, operand: Operand | undefined): NumberOperand {
  const by = numberArgument(lowering, node, operand, R.INT32);
  const { lo, hi } = TAIL_DELTA;
  if (!R.within(by.range, TAIL_DELTA))
    lowering.fail(node, 'range', `the argument ${R.mayBe(by.range)}, at TC expected ${lo}..${hi}`, `bound it: Math.min(x, ${hi})`);
  return by;
}

function changeTail(program: Program, by: NumberOperand): Operand {
  const { lowering } = program;
  const before = exact(lowering, packetLength(program));
  const length = lowering.binary('add', before, exact(lowering, by));
  return moved(program, 'adjustTail', Helper.skb_change_tail, [length, lowering.constant(0)], () => zeroTail(lowering, before, by));
}

/** Clears the `by` bytes behind the packet's first `before`. */
function zeroTail(lowering: Lowering, before: Value, by: NumberOperand): void {
  const { hi } = by.range;
  if (hi <= 0n) return;
  const size = Math.min(ZEROS, Math.ceil(Number(hi) / 8) * 8);
  const slot = lowering.slot(size);
  const zeros = lowering.stackAddress(slot);
  for (let at = 0; at < size; at += 8) lowering.store(8, 'stack', zeros, at, lowering.constant(0));
  const done = lowering.newJoin();
  for (let at = 0; at < hi; at += size) {
    const left = lowering.binary('sub', exact(lowering, by), lowering.constant(at));
    const some = lowering.newJoin();
    lowering.branch(
      'sgt',
      left,
      lowering.constant(0),
      () => lowering.jump(some),
      () => lowering.jump(done),
    );
    lowering.enter(some);
    const all = lowering.newJoin();
    lowering.branch(
      'gt',
      left,
      lowering.constant(size),
      () => lowering.jump(all, lowering.number(size)),
      () => lowering.jump(all, { kind: 'number', range: R.range(1n, BigInt(size)), exact: left }),
    );
    const count = exact(lowering, lowering.enter(all) as NumberOperand);
    const to = lowering.binary('add', before, lowering.constant(at));
    lowering.call(Helper.skb_store_bytes, [lowering.graph.context, to, zeros, count, lowering.constant(0)], {
      movesPacket: true,
      readsStack: [slot],
    });
  }
  lowering.jump(done);
  lowering.enter(done);
}

/** Calls a helper that moves the packet: every reference into it is stale, whether the call works or not. */
export function moved(program: Program, name: string, helper: number, args: readonly Value[], onSuccess?: () => void): Operand {
  const { lowering } = program;
  tellSum(lowering);
  const result = lowering.call(helper, [lowering.graph.context, ...args], { movesPacket: true });
  lowering.environment.epoch = { call: `ctx.${name}()` };
  forgetPacket(lowering);
  return succeeded(lowering, result, onSuccess);
}

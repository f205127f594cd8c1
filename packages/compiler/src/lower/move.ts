/** Members of `ctx` that move an end of the packet. */
import { Helper } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import * as R from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { AT_XDP, type Members } from './context-member.ts';
import { forgetPacket } from './fact.ts';
import type { Operand } from './operand.ts';
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
      const by = delta(program, node, args);
      if (lowering.hook.kind === 'xdp') return moved(program, 'adjustTail', Helper.xdp_adjust_tail, [by], () => lengthened(program, by));
      const length = lowering.binary('add', exact(lowering, packetLength(program)), by);
      return moved(program, 'adjustTail', Helper.skb_change_tail, [length, lowering.constant(0)]);
    },
  },
};

function delta({ lowering }: Program, node: SyntaxNode, args: readonly Operand[]): Value {
  return exact(lowering, numberArgument(lowering, argumentNode(node, 0), args[0], R.INT32));
}

/** Calls a helper that moves the packet: every reference into it is stale, whether the call works or not. */
export function moved(program: Program, name: string, helper: number, args: readonly Value[], onSuccess?: () => void): Operand {
  const { lowering } = program;
  const result = lowering.call(helper, [lowering.graph.context, ...args], { movesPacket: true });
  lowering.environment.epoch = { call: `ctx.${name}()` };
  forgetPacket(lowering);
  return succeeded(lowering, result, onSuccess);
}

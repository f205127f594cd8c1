/**
 * Bounds checks of the packet. At TC, and in the data of sockets, a packet is longer than what a program can reach of it: where a
 * check fails and the packet is long enough, the kernel is asked to pull the bytes together, out of line, and the check is made
 * once more. At XDP nothing can be pulled: what lies in fragments is not there.
 */
import { Helper } from '@tailrace/bpf';
import type { Layout } from '@tailrace/stage';
import type { Value } from '../ir.ts';
import { UINT32 } from '../range.ts';
import { found, MAX_PACKET_OFFSET, PLACE, packetEnd, packetRef, packetStart, unless } from './linear.ts';
import type { Lowering } from './lowering.ts';
import type { NumberOperand, Operand } from './operand.ts';
import type { Join } from './path.ts';
import { keeping, keepingReferences } from './reference.ts';
import { exact } from './scalar.ts';

/** Goes on where `size` bytes from a pointer are there; gives the pointer as it then is. */
export function fits(lowering: Lowering, pointer: Value, size: number, absent: Join): Value {
  if (lowering.hook.bytes?.length === undefined) {
    fitsLinear(lowering, pointer, size, absent);
    return pointer;
  }
  return checked(lowering, pointer, size, absent, (pulled, ok) => {
    fitsLinear(lowering, pulled, size, absent);
    lowering.jump(ok);
  });
}

/** As `fits`, for bytes that were pulled as far as there are any. */
export function fitsLinear(lowering: Lowering, pointer: Value, size: number, absent: Join): void {
  const ok = lowering.newJoin();
  lowering.check(
    pointer,
    size,
    packetEnd(lowering),
    () => lowering.jump(ok),
    () => lowering.jump(absent),
  );
  lowering.enter(ok);
}

/** Pulls as many of `size` bytes behind a pointer as there are; gives the pointer as it then is. */
export function pullUpTo(lowering: Lowering, pointer: Value, size: number): Value {
  if (lowering.hook.bytes?.length === undefined) return pointer;
  return checked(lowering, pointer, size, undefined, (_, done) => lowering.jump(done));
}

/**
 * Checks the linear part, and pulls where that is too short and not all of the packet. Goes to `short` where all of it is, on
 * without a `short`; `pulled` ends the path behind a pull.
 */
function checked(
  lowering: Lowering,
  pointer: Value,
  size: number,
  short: Join | undefined,
  pulled: (pointer: Value, ok: Join) => void,
): Value {
  const [{ base }] = keeping(lowering, packetRef(lowering, PLACE, pointer, 0), () => {
    const [ok, odd] = [lowering.newJoin(), lowering.newJoin()];
    fitsLinear(lowering, pointer, size, odd);
    lowering.jump(ok);
    lowering.enter(odd);
    const length = lowering.load(4, 'context', lowering.graph.context, lowering.hook.bytes?.length ?? 0);
    const linear = lowering.binary('sub', packetEnd(lowering), packetStart(lowering));
    unless(lowering, linear, 'ge', length, short ?? ok, 'then');
    pulled(pull(lowering, pointer, size, length), ok);
    lowering.enter(ok);
  });
  return base;
}

/** Has the kernel put together what there is of `size` bytes behind a pointer. Where it cannot, the next check tells. */
function pull(lowering: Lowering, pointer: Value, size: number, length: Value): Value {
  const distance = lowering.binary('and', lowering.binary('sub', pointer, packetStart(lowering)), lowering.constant(MAX_PACKET_OFFSET));
  const needed = lowering.binary('add', distance, lowering.constant(size));
  const amount = lowering.newJoin();
  const number = (value: Value): NumberOperand => ({ kind: 'number', range: UINT32, exact: value });
  lowering.branch(
    'lt',
    length,
    needed,
    () => lowering.jump(amount, number(length)),
    () => lowering.jump(amount, number(needed)),
  );
  const bytes = exact(lowering, lowering.enter(amount) as NumberOperand);
  const [{ base }] = keeping(lowering, packetRef(lowering, PLACE, pointer, 0), () =>
    keepingReferences(lowering, () => pullFirst(lowering, bytes)),
  );
  return base;
}

/** Makes the first `bytes` of the packet, or of a message, reachable. */
function pullFirst(lowering: Lowering, bytes: Value): Value {
  const { context } = lowering.graph;
  const [helper, args] =
    lowering.hook.kind === 'skMsg'
      ? [Helper.msg_pull_data, [context, lowering.constant(0), bytes, lowering.constant(0)]]
      : [Helper.skb_pull_data, [context, bytes]];
  return lowering.call(helper, args, { movesPacket: true });
}

/** A place in the packet, or undefined where it ends before. */
export function guardedRef(lowering: Lowering, layout: Layout, base: Value, offset: number, position: NumberOperand): Operand {
  return found(lowering, (absent) => {
    const there = fits(lowering, base, offset + layout.size, absent);
    return packetRef(lowering, layout, there, offset, position);
  });
}

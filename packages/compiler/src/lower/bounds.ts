/**
 * Bounds checks of the packet. At TC a packet is longer than what a program can reach of it: where a check fails and the
 * packet is long enough, the kernel is asked to pull the bytes together, out of line, and the check is made once more. At
 * XDP nothing can be pulled: what lies in fragments is not there.
 */
import { Helper } from '@tailrace/bpf';
import type { Layout } from '@tailrace/stage';
import { SK_BUFF } from '../hook-model.ts';
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
  if (lowering.hook.kind === 'xdp') {
    fitsLinear(lowering, pointer, size, absent);
    return pointer;
  }
  const [{ base }] = keeping(lowering, packetRef(lowering, PLACE, pointer, 0), () => {
    const [ok, short] = [lowering.newJoin(), lowering.newJoin()];
    fitsLinear(lowering, pointer, size, short);
    lowering.jump(ok);
    lowering.enter(short);
    const pulled = pull(lowering, pointer, size, absent);
    fitsLinear(lowering, pulled, size, absent);
    lowering.jump(ok);
    lowering.enter(ok);
  });
  return base;
}

/** As `fits`, for bytes that are not pulled. */
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

/** Pulls the packet together up to `size` bytes behind a pointer; goes on where it is that long and the kernel has done so. */
function pull(lowering: Lowering, pointer: Value, size: number, absent: Join): Value {
  const needed = lowering.binary('add', distanceFrom(lowering, pointer), lowering.constant(size));
  const length = lowering.load(4, 'context', lowering.graph.context, SK_BUFF.len);
  unless(lowering, length, 'lt', needed, absent, 'then');
  const [{ base }, result] = keeping(lowering, packetRef(lowering, PLACE, pointer, 0), () =>
    keepingReferences(lowering, () => lowering.call(Helper.skb_pull_data, [lowering.graph.context, needed], { movesPacket: true })),
  );
  unless(lowering, result, 'ne', lowering.constant(0), absent);
  return base;
}

/** Bytes from the packet's first to a pointer. */
function distanceFrom(lowering: Lowering, pointer: Value): Value {
  return lowering.binary('and', lowering.binary('sub', pointer, packetStart(lowering)), lowering.constant(MAX_PACKET_OFFSET));
}

/** Pulls what there is of `size` bytes behind a pointer, in vain where the packet is shorter; gives the pointer as it then is. */
export function pullUpTo(lowering: Lowering, pointer: Value, size: number): Value {
  if (lowering.hook.kind === 'xdp') return pointer;
  const [{ base }] = keeping(lowering, packetRef(lowering, PLACE, pointer, 0), () => {
    const [done, short] = [lowering.newJoin(), lowering.newJoin()];
    fitsLinear(lowering, pointer, size, short);
    lowering.jump(done);
    lowering.enter(short);
    const data = packetStart(lowering);
    const length = lowering.load(4, 'context', lowering.graph.context, SK_BUFF.len);
    unless(lowering, lowering.binary('sub', packetEnd(lowering), data), 'ge', length, done, 'then');
    const needed = lowering.binary('add', distanceFrom(lowering, pointer), lowering.constant(size));
    const amount = lowering.newJoin();
    const number = (exact: Value): NumberOperand => ({ kind: 'number', range: UINT32, exact });
    lowering.branch(
      'lt',
      length,
      needed,
      () => lowering.jump(amount, number(length)),
      () => lowering.jump(amount, number(needed)),
    );
    const bytes = exact(lowering, lowering.enter(amount) as NumberOperand);
    keepingReferences(lowering, () => lowering.call(Helper.skb_pull_data, [lowering.graph.context, bytes], { movesPacket: true }));
    lowering.jump(done);
    lowering.enter(done);
  });
  return base;
}

/** A place in the packet, or undefined where it ends before. */
export function guardedRef(lowering: Lowering, layout: Layout, base: Value, offset: number, position: NumberOperand): Operand {
  return found(lowering, (absent) => {
    const there = fits(lowering, base, offset + layout.size, absent);
    return packetRef(lowering, layout, there, offset, position);
  });
}

/** How a function gets at its own stack frame: where loads and stores surely touch it, and what else may write it. */
import type { AbstractValue } from './abstract-value.ts';
import { FRAME_SIZE } from './layout.ts';

/** Bytes of a frame, from the first up to, but without, `to`: distances from the frame's end, so below 0. */
export interface FrameRange {
  readonly from: number;
  readonly to: number;
}

export const WHOLE_FRAME: FrameRange = { from: -FRAME_SIZE, to: 0 };

/** How one function gets at its own frame. */
export interface FrameAccesses {
  /** By pc of loads and stores that are no atomics: where they touch it, from its end. They are inside. */
  readonly places: ReadonlyMap<number, number>;
  /** By pc of whatever else may write it: what of it. */
  readonly writes: ReadonlyMap<number, FrameRange>;
}

/** Whether so many bytes are inside of the frame that a pointer points to. */
export function isInFrame(pointer: Extract<AbstractValue, { kind: 'frame' }>, offset: number, bytes: number): boolean {
  const at = (pointer.offset ?? 0) + offset;
  return pointer.offset !== undefined && at >= -FRAME_SIZE && at + bytes <= 0;
}

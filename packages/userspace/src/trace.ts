/** The last lines that programs printed (bpf_trace_printk and its like), as their worker keeps them. */
import { TRACE_LINES, TRACE_SLOT_SIZE, TRACE_SLOTS, WORKER_TRACE } from './layout.ts';
import type { MemoryViews } from './packet-state.ts';

/** Lines of one worker. */
export interface TraceLines {
  /** Lines that were printed so far; pass it as `since` to get what comes after. */
  readonly count: number;
  /** Up to TRACE_LINES of them, oldest first. */
  readonly lines: readonly string[];
}

/** What a worker's programs printed since so many lines; older lines are lost once TRACE_LINES newer ones came. */
export function readTrace({ u8, view }: MemoryViews, worker: number, since = 0): TraceLines {
  const ring = worker + WORKER_TRACE;
  const count = view.getUint32(ring, true);
  const lines: string[] = [];
  for (let line = Math.max(since, count - TRACE_LINES); line < count; line++) {
    const slot = ring + TRACE_SLOTS + (line % TRACE_LINES) * TRACE_SLOT_SIZE;
    const text = u8.slice(slot + 4, slot + 4 + view.getUint32(slot, true));
    lines.push(new TextDecoder('latin1').decode(text));
  }
  return { count, lines };
}

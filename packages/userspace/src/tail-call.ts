/** Tail calls that a run may make (MAX_TAIL_CALL_CNT, include/linux/bpf.h): the next one falls through. */
export const TAIL_CALL_LIMIT = 33;

/** The clock that programs tell the time by, for controllers. */
import { token } from '@tailrace/stage';

/** Nanoseconds since boot (CLOCK_MONOTONIC): what `ctx.now()` and `ctx.nowCoarse()` give in the kernel. */
export type BootClock = () => bigint;
/** The service that controllers ask. Replace it together with `Clock`. */
export const BootClock = token<BootClock>('BootClock');
/** The machine's own. */
export const systemBootClock: BootClock = () => process.hrtime.bigint();

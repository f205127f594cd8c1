/** The clock that programs tell the time by, for controllers. */
import { token } from '@tailrace/stage';
import type { SchedulerLike } from 'rxjs';

/** Nanoseconds since boot (CLOCK_MONOTONIC): what `ctx.now()` and `ctx.nowCoarse()` give in the kernel. */
export type BootClock = () => bigint;
/** The service that controllers ask. Replace it together with `Clock`. */
export const BootClock = token<BootClock>('BootClock');
/** The machine's own. */
export const systemBootClock: BootClock = () => process.hrtime.bigint();

/** Turns the boot clock's time into ms since 1970, as both clocks stand now. */
export function wallTime(clock: SchedulerLike, bootClock: BootClock): (time: bigint) => number {
  const [wall, boot] = [clock.now(), bootClock()];
  return (time) => wall - Number(boot - time) / 1e6;
}

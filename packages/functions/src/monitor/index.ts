/**
 * Flow records: `monitor()` at TC ingress and TC egress counts packets by flow, and its controller tells of flows that
 * have ended, as a stream, and of those that there are.
 */
import { Clock, GracePeriod } from '@tailrace/pipeline';
import { ArgumentError, defineFunction } from '@tailrace/stage';
import { ContainerModule } from 'inversify';
import { BootClock, systemBootClock } from '../boot-clock.ts';
import { type FlowTimeouts, MonitorController, type MonitorSettings } from './controller.ts';
import { Direction, flowStage, monitorMaps } from './stage.ts';

export { BootClock, systemBootClock } from '../boot-clock.ts';
export { type FlowTimeouts, MonitorController, type MonitorCounters, type MonitorNeeds, type MonitorSettings } from './controller.ts';
export type { EndedFlow, FlowDirection, FlowEnd, FlowRecord, PacketsAndBytes } from './record.ts';
export { Direction, FlowCount, FlowKey, flowStage, monitorMaps, Tally } from './stage.ts';

/** How to make a monitor. */
export interface MonitorOptions extends FlowTimeouts {
  /**
   * Which side of the interface is watched. `host`, the default: the machine that the pipeline runs on, so that what comes
   * in at TC ingress is `in`. `peer`: who is behind the interface, a container behind a veth say, so that what goes out
   * there at TC egress is `in`.
   */
  readonly side?: 'host' | 'peer';
  /**
   * Flows that the table holds, of both directions, 1..16777216; default 65,536. Nothing is pushed out of it: packets of
   * new flows that find it full are counted as `lost`. An entry takes 48 bytes, and 40 more for each CPU; the kernel sets
   * them aside when the function is loaded.
   */
  readonly maxFlows?: number;
  /** Records that the controller keeps, at least `maxFlows`; default four times that. Beyond, the one that was quiet for the longest time ends. */
  readonly maxRecords?: number;
}

/**
 * Declares a monitor with maps of its own, for TC ingress and TC egress. It hands on every packet. Throws ArgumentError for
 * options that make no sense.
 *
 * The table is a hash with a value for each CPU: CPUs do not wait for each other, and sums, flags and times are exact. An
 * evicting (LRU) table would lose flows without a word, and a shared one the flags that two CPUs add at once.
 */
export function monitor(options: MonitorOptions = {}) {
  const { side = 'host', maxFlows = 65_536, maxRecords = 4 * maxFlows } = options;
  if (side !== 'host' && side !== 'peer') throw new ArgumentError(`monitor: side is '${String(side)}', expected 'host' or 'peer'`);
  checkCount('maxFlows', maxFlows, 1, 2 ** 24);
  checkCount('maxRecords', maxRecords, maxFlows, 2 ** 26);
  const settings: MonitorSettings = {
    maxRecords,
    idleMs: timeoutOf('idleMs', options.idleMs ?? 15_000),
    activeMs: timeoutOf('activeMs', options.activeMs ?? 60_000),
    endMs: timeoutOf('endMs', options.endMs ?? 2_000),
    sweepMs: timeoutOf('sweepMs', options.sweepMs ?? 1_000),
  };
  const maps = monitorMaps(maxFlows);
  const [ingress, egress] = side === 'host' ? [Direction.in, Direction.out] : [Direction.out, Direction.in];
  return defineFunction({
    name: 'monitor',
    stages: {
      tcIngress: [flowStage.with({ ...maps, direction: ingress })],
      tcEgress: [flowStage.with({ ...maps, direction: egress })],
    },
    controller: {
      needs: { ...maps, gracePeriod: GracePeriod, clock: Clock, bootClock: BootClock },
      create: (needs) => new MonitorController(needs, settings),
    },
    services: new ContainerModule(({ bind }) => {
      bind(BootClock).toConstantValue(systemBootClock);
    }),
  });
}

function checkCount(name: string, value: number, least: number, most: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > most)
    throw new ArgumentError(`monitor: ${name} is ${value}, expected ${least}..${most}`);
}

function timeoutOf(name: keyof FlowTimeouts, value: number): number {
  if (!(value >= 1 && value <= 2 ** 31 - 1)) throw new ArgumentError(`monitor: ${name} is ${value}, expected 1..2147483647 ms`);
  return value;
}

/**
 * Empties the monitor's table and keeps the flows' records. A sweep turns the epoch, waits until no program can be at work
 * in the old one, and only then takes its entries out: what they hold is final, so no packet is lost between being read
 * and being deleted, however busy the flow is.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import type { GracePeriod } from '@tailrace/pipeline';
import type { HandleOf } from '@tailrace/stage';
import { exhaustMap, type Observable, type SchedulerLike, Subject, type Subscription, timer } from 'rxjs';
import { type BootClock, wallTime } from '../boot-clock.ts';
import {
  addCounts,
  type EndedFlow,
  type FlowCountValue,
  type FlowEnd,
  type FlowKeyValue,
  type FlowRecord,
  type FlowTotals,
  flowName,
  noCounts,
  type PacketsAndBytes,
  recordOf,
} from './record.ts';
import type { monitorMaps } from './stage.ts';

type Maps = ReturnType<typeof monitorMaps>;

/** What the controller works on. */
export interface MonitorNeeds {
  readonly table: HandleOf<Maps['table']>;
  readonly epoch: HandleOf<Maps['epoch']>;
  readonly lost: HandleOf<Maps['lost']>;
  readonly other: HandleOf<Maps['other']>;
  readonly gracePeriod: GracePeriod;
  readonly clock: SchedulerLike;
  readonly bootClock: BootClock;
}

/** When records end. All in ms, at least 1; how finely they hold depends on `sweepMs`. */
export interface FlowTimeouts {
  /** After a flow's last packet; default 15,000. */
  readonly idleMs?: number;
  /** After a record's first packet; what comes later makes a new record of the flow. Default 60,000. */
  readonly activeMs?: number;
  /** After the last packet of a flow that has had FIN or RST; default 2,000. */
  readonly endMs?: number;
  /** From sweep to sweep; default 1,000. The table must hold what flows there are in that time. */
  readonly sweepMs?: number;
}

/** What the controller needs to know beside its timeouts. */
export interface MonitorSettings extends Required<FlowTimeouts> {
  /** Records that are kept at most. */
  readonly maxRecords: number;
}

/** What a monitor has counted beside its flows. Every packet is in a flow, in `lost` or in `other`. */
export interface MonitorCounters {
  /** Records that have ended. */
  readonly ended: bigint;
  /** What belonged to new flows and found the table full. */
  readonly lost: PacketsAndBytes;
  /** What was no IP; of segments in one packet only their sum without repeated headers. */
  readonly other: PacketsAndBytes;
}

interface Known {
  readonly key: FlowKeyValue;
  readonly totals: FlowTotals;
}

/** Entries that are dealt with at a time, before others get their turn on the event loop. */
const SLICE = 1024;
/** FIN or RST. */
const CLOSING = 0x05;

/** Tells of flows while the monitor runs. */
export class MonitorController implements AsyncDisposable {
  readonly #needs: MonitorNeeds;
  readonly #settings: MonitorSettings;
  /** The flow that had no packet for the longest time first, as far as sweeps tell. */
  readonly #records = new Map<string, Known>();
  readonly #flows = new Subject<EndedFlow>();
  readonly #timer: Subscription;
  #ended = 0n;
  #sweeping: Promise<void> | undefined;
  #failed = false;
  /**
   * Records as they end, in no order. It does not wait for subscribers: what ends before one comes is only counted.
   * Completes when the pipeline stops, behind the records of all flows that there were; fails with what the engine throws.
   */
  readonly flows$: Observable<EndedFlow> = this.#flows.asObservable();

  constructor(needs: MonitorNeeds, settings: MonitorSettings) {
    this.#needs = needs;
    this.#settings = settings;
    const { sweepMs } = settings;
    this.#timer = timer(sweepMs, sweepMs, needs.clock)
      .pipe(exhaustMap(() => this.sweep()))
      .subscribe({ error: (error: unknown) => this.#fail(error) });
  }

  /** The flows of which there is a record that has not ended, with all that was counted up to now. Reads the table. */
  flows(): FlowRecord[] {
    const all = new Map([...this.#records].map(([name, { key, totals }]) => [name, { key, totals: { ...totals } }]));
    for (const [key, counts] of this.#needs.table.entries()) {
      const name = flowName(key);
      const known = all.get(name) ?? { key, totals: noCounts() };
      addCounts(known.totals, counts);
      all.set(name, known);
    }
    const timeOf = this.#timeOf();
    return [...all.values()].map(({ key, totals }) => recordOf(key, totals, timeOf));
  }

  /** What was counted beside the flows. */
  counters(): MonitorCounters {
    const { lost, other } = this.#needs;
    const none = { packets: 0n, bytes: 0n };
    return { ended: this.#ended, lost: lost.sum(0) ?? none, other: other.sum(0) ?? none };
  }

  /**
   * Takes over what programs have counted, and ends records whose time has come; happens by itself every `sweepMs`. All
   * that was counted before the call is taken over when this resolves. Throws what the engine throws.
   */
  async sweep(): Promise<void> {
    // One that is under way may have turned the epoch before this was called.
    await this.#sweeping;
    this.#sweeping ??= this.#sweep().finally(() => {
      this.#sweeping = undefined;
    });
    await this.#sweeping;
  }

  /**
   * Stops sweeping, and ends every record, with the last packet counted where programs no longer run. Where they go on, what they count
   * from here on is there for the next process.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer.unsubscribe();
    try {
      await this.#sweeping;
      if (this.#failed) return;
      // both epochs: a process before may have left something in either
      await this.#turn();
      await this.#turn();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
    const timeOf = this.#timeOf();
    for (const [name, known] of this.#records) this.#end(name, known, 'forced', timeOf);
    this.#flows.complete();
  }

  async #sweep(): Promise<void> {
    await this.#turn();
    await this.#age();
  }

  /** Takes over what was counted in this epoch, once no program counts in it any more. */
  async #turn(): Promise<void> {
    const { epoch, gracePeriod } = this.#needs;
    const old = epoch.get(0) ?? 0;
    epoch.set(0, old ^ 1);
    await gracePeriod();
    await this.#takeOut((key) => key.epoch === old);
  }

  /** Moves entries from the table to the records. What is in neither or in both is so between two turns of the event loop only. */
  async #takeOut(which: (key: FlowKeyValue) => boolean): Promise<void> {
    const { table } = this.#needs;
    let taken: FlowKeyValue[] = [];
    for (const [key, counts] of table.entries()) {
      if (!which(key)) continue;
      this.#add(key, counts);
      taken.push(key);
      if (taken.length < SLICE) continue;
      table.deleteMany(taken);
      taken = [];
      await breathe();
    }
    table.deleteMany(taken);
  }

  #add(key: FlowKeyValue, counts: readonly FlowCountValue[]): void {
    const name = flowName(key);
    const known = this.#records.get(name) ?? { key, totals: noCounts() };
    addCounts(known.totals, counts);
    this.#records.delete(name);
    const [longest] = this.#records;
    if (longest && this.#records.size >= this.#settings.maxRecords) this.#end(...longest, 'evicted', this.#timeOf());
    this.#records.set(name, known);
  }

  async #age(): Promise<void> {
    const now = this.#needs.bootClock();
    const timeOf = this.#timeOf();
    let seen = 0;
    for (const [name, known] of this.#records) {
      const end = this.#endOf(known.totals, now);
      if (end) this.#end(name, known, end, timeOf);
      seen += 1;
      if (seen % SLICE === 0) await breathe();
    }
  }

  #endOf({ tcpFlags, first, last }: FlowTotals, now: bigint): FlowEnd | undefined {
    const { idleMs, activeMs, endMs } = this.#settings;
    const quietMs = Number(now - last) / 1e6;
    if ((tcpFlags & CLOSING) !== 0 && quietMs >= endMs) return 'end';
    if (quietMs >= idleMs) return 'idle';
    return Number(now - first) / 1e6 >= activeMs ? 'active' : undefined;
  }

  #end(name: string, { key, totals }: Known, end: FlowEnd, timeOf: (time: bigint) => number): void {
    this.#records.delete(name);
    this.#ended += 1n;
    this.#flows.next({ ...recordOf(key, totals, timeOf), end });
  }

  #timeOf(): (time: bigint) => number {
    return wallTime(this.#needs.clock, this.#needs.bootClock);
  }

  #fail(error: unknown): void {
    this.#failed = true;
    this.#timer.unsubscribe();
    this.#flows.error(error);
  }
}

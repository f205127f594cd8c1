/** Health checks as streams: is somebody at this address and port, now and whenever that changes? */
import { createConnection } from 'node:net';
import { ArgumentError, token } from '@tailrace/stage';
import { asyncScheduler, distinctUntilChanged, exhaustMap, map, Observable, of, type SchedulerLike, scan, timeout, timer } from 'rxjs';

/** What is checked: an address of either family and a port. */
export interface HealthTarget {
  readonly address: string;
  readonly port: number;
}

/** Checks targets. */
export interface HealthChecker {
  /**
   * True while the target is well, false while it is not; nothing before the first check is done. Checks as long as it is
   * subscribed to. `wasWell`: another process left it well, so that one failure alone should not make it down.
   */
  watch(target: HealthTarget, wasWell?: boolean): Observable<boolean>;
}
/** The service that controllers of balancers ask. */
export const HealthChecker = token<HealthChecker>('HealthChecker');

/**
 * One attempt: resolves once the target has taken the connection, rejects where it does not; gives up when the signal
 * says so. Replace it to check from another network namespace, or to speak the service's protocol.
 */
export type Connect = (target: HealthTarget, signal: AbortSignal) => Promise<void>;

/** How often and how patiently to check. */
export interface TcpHealthOptions {
  /** From the start of one check to that of the next; default 1,000. */
  readonly intervalMs?: number;
  /** A check fails that takes longer; default 500. */
  readonly timeoutMs?: number;
  /** Checks in a row that must succeed until a target that was down is up; default 2. The first check of one that was not well decides alone. */
  readonly rise?: number;
  /** Checks in a row that must fail until a target that was up is down; default 3. */
  readonly fall?: number;
  /** Default: a TCP connection by node:net, closed at once. */
  readonly connect?: Connect;
  /** Default: real time. */
  readonly scheduler?: SchedulerLike;
}

/** Checks by connecting over TCP. Throws ArgumentError for options that make no sense. */
export function tcpHealth(options: TcpHealthOptions = {}): HealthChecker {
  const { intervalMs = 1_000, timeoutMs = 500, rise = 2, fall = 3, connect = connectTcp, scheduler = asyncScheduler } = options;
  for (const [name, value] of Object.entries({ intervalMs, timeoutMs }))
    if (!Number.isFinite(value) || value <= 0) throw new ArgumentError(`tcpHealth: ${name} is ${value}, expected more than 0`);
  for (const [name, value] of Object.entries({ rise, fall }))
    if (!Number.isSafeInteger(value) || value < 1) throw new ArgumentError(`tcpHealth: ${name} is ${value}, expected a positive integer`);
  const check = (target: HealthTarget): Observable<boolean> =>
    attempt(target, connect).pipe(timeout({ first: timeoutMs, scheduler, with: () => of(false) }));
  return {
    watch: (target, wasWell) =>
      timer(0, intervalMs, scheduler).pipe(
        exhaustMap(() => check(target)),
        riseAndFall(rise, fall, wasWell),
      ),
  };
}

/** What single results mean: the first one decides unless it `wasWell`, later ones when `rise` or `fall` in a row differ from what is so. */
export function riseAndFall(rise: number, fall: number, wasWell = false): (results$: Observable<boolean>) => Observable<boolean> {
  return (results$) =>
    results$.pipe(
      scan(
        ({ up, streak }: Judgement, result): Judgement => {
          if (up === undefined) return { up: result, streak: 0 };
          if (result === up) return { up, streak: 0 };
          return streak + 1 < (up ? fall : rise) ? { up, streak: streak + 1 } : { up: result, streak: 0 };
        },
        { up: wasWell ? true : undefined, streak: 0 },
      ),
      map(({ up }) => up === true),
      distinctUntilChanged(),
    );
}

interface Judgement {
  readonly up: boolean | undefined;
  /** Results in a row that differ from `up`. */
  readonly streak: number;
}

function attempt(target: HealthTarget, connect: Connect): Observable<boolean> {
  return new Observable((subscriber) => {
    const abort = new AbortController();
    const done = (well: boolean) => (): void => {
      subscriber.next(well);
      subscriber.complete();
    };
    connect(target, abort.signal).then(done(true), done(false));
    return () => abort.abort();
  });
}

/** A TCP connection, closed as soon as it stands. Rejects with what the socket says, or when the signal aborts. */
export const connectTcp: Connect = ({ address, port }, signal) =>
  new Promise((resolve, reject) => {
    const socket = createConnection({ host: address, port, signal });
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', reject);
  });

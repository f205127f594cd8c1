import { createServer, type Server } from 'node:net';
import { Subject, VirtualTimeScheduler } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { connectTcp, type HealthTarget, riseAndFall, tcpHealth } from './health.ts';

const target: HealthTarget = { address: '127.0.0.1', port: 80 };

describe('tcpHealth', () => {
  it('tells whether somebody listens', async () => {
    const server: Server = createServer((socket) => socket.on('error', () => undefined));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const seen: boolean[] = [];
    const wait = (wanted: boolean) =>
      new Promise<void>((resolve) => {
        const poll = setInterval(() => {
          if (seen.at(-1) !== wanted) return;
          clearInterval(poll);
          resolve();
        }, 2);
      });
    const subscription = tcpHealth({ intervalMs: 5, rise: 1, fall: 2 })
      .watch({ address: '127.0.0.1', port })
      .subscribe((well) => seen.push(well));
    await wait(true);
    await new Promise((resolve) => server.close(resolve));
    await wait(false);
    subscription.unsubscribe();
    expect(seen).toEqual([true, false]);
  });

  it('checks at its interval and gives up at its timeout', () => {
    const scheduler = new VirtualTimeScheduler();
    const log: string[] = [];
    const connect = (_: HealthTarget, signal: AbortSignal): Promise<void> => {
      log.push(`connect at ${scheduler.now()}`);
      signal.addEventListener('abort', () => log.push(`abort at ${scheduler.now()}`));
      return new Promise(() => undefined);
    };
    const subscription = tcpHealth({ intervalMs: 100, timeoutMs: 60, connect, scheduler })
      .watch(target)
      .subscribe((well) => {
        log.push(`${well} at ${scheduler.now()}`);
      });
    scheduler.maxFrames = 250;
    scheduler.flush();
    subscription.unsubscribe();
    expect(log).toEqual(['connect at 0', 'abort at 60', 'false at 60', 'connect at 100', 'abort at 160', 'connect at 200', 'abort at 200']);
  });

  it('does not start a check while one is under way', () => {
    const scheduler = new VirtualTimeScheduler();
    let attempts = 0;
    const connect = (): Promise<void> => {
      attempts++;
      return new Promise(() => undefined);
    };
    const subscription = tcpHealth({ intervalMs: 10, timeoutMs: 35, connect, scheduler }).watch(target).subscribe();
    scheduler.maxFrames = 100;
    scheduler.flush();
    subscription.unsubscribe();
    expect(attempts).toBe(3);
  });

  it('stops with its subscription', async () => {
    const aborted: string[] = [];
    const connect = (_: HealthTarget, signal: AbortSignal): Promise<void> => {
      signal.addEventListener('abort', () => aborted.push('aborted'));
      return new Promise(() => undefined);
    };
    const subscription = tcpHealth({ connect }).watch(target).subscribe();
    await new Promise((resolve) => setTimeout(resolve, 5));
    subscription.unsubscribe();
    expect(aborted).toEqual(['aborted']);
  });

  it('refuses options that make no sense', () => {
    expect(() => tcpHealth({ intervalMs: 0 })).toThrow('tcpHealth: intervalMs is 0, expected more than 0');
    expect(() => tcpHealth({ timeoutMs: Number.NaN })).toThrow('tcpHealth: timeoutMs is NaN');
    expect(() => tcpHealth({ rise: 1.5 })).toThrow('tcpHealth: rise is 1.5, expected a positive integer');
    expect(() => tcpHealth({ fall: 0 })).toThrow('tcpHealth: fall is 0');
  });
});

describe('riseAndFall', () => {
  const judged = (results: string, wasWell = false): string => {
    const results$ = new Subject<boolean>();
    let seen = '';
    results$.pipe(riseAndFall(2, 3, wasWell)).subscribe((well) => {
      seen += well ? '+' : '-';
    });
    for (const result of results) results$.next(result === '+');
    return seen;
  };

  it('decides by streaks, and at once at first', () => {
    expect([
      judged('+'),
      judged('-'),
      judged('+--'),
      judged('+---'),
      judged('+--+--+---'),
      judged('-+'),
      judged('-++'),
      judged('-+-+-++'),
    ]).toEqual(['+', '-', '+', '+-', '+-', '-', '-+', '-+']);
  });

  it('takes as many failures as ever to make down what was well before', () => {
    expect(['+', '-', '--', '---', '--+---'].map((results) => judged(results, true))).toEqual(['+', '+', '+', '+-', '+-']);
  });
});

describe('connectTcp', () => {
  it('rejects where nobody listens, and when it is told to stop', async () => {
    await expect(connectTcp({ address: '127.0.0.1', port: 1 }, new AbortController().signal)).rejects.toThrow('ECONNREFUSED');
    await expect(connectTcp({ address: '127.0.0.1', port: 1 }, AbortSignal.abort())).rejects.toThrow('abort');
  });
});

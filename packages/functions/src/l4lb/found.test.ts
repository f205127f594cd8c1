/** A balancer that starts over the maps of another, as behind a crash: what flows meet meanwhile, and what comes of it. */
import fc from 'fast-check';
import { BehaviorSubject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { conditions, HOP, real, simulatedBalancer, WEB } from './fixture.ts';
import { neighbourNextHops, type RealOptions, type VipOptions } from './index.ts';

const web: VipOptions = { ...WEB, health: false };
const other: VipOptions = { ...web, port: 81, reals: [real(5), real(6)] };
const ports = Array.from({ length: 24 }, (_, i) => i + 1);

describe('a balancer that is started again', () => {
  it('writes nothing where nothing is different', () => {
    const lb = simulatedBalancer([{ ...web, reals: [real(1), real(2)] }, other]);
    const homes = ports.map((port) => lb.send(port));
    let writes = 0;
    const again = lb.start([{ ...web, reals: [real(1), real(2)] }, other], { onWrite: () => writes++ });
    // rings are compared line by line
    expect(writes).toBe(2);
    expect(again.controller.state()).toEqual(lb.controller.state());
    expect(ports.map((port) => lb.send(port))).toEqual(homes);
    expect(again.controller.traffic()[0]).toMatchObject({ packets: 48n });
  });

  it('keeps flows where they are, whatever order vips and reals are in', () => {
    const lb = simulatedBalancer([{ ...web, reals: [real(1), real(2), real(3)] }, other]);
    const homes = ports.flatMap((port) => [lb.send(port), lb.send(port, { ack: true }, 81)]);
    lb.start([
      { ...other, reals: [real(6), real(5)] },
      { ...web, reals: [real(3), real(1), real(2)] },
    ]);
    expect(ports.flatMap((port) => [lb.send(port), lb.send(port, { ack: true }, 81)])).toEqual(homes);
  });

  it('lets reals that were up be up until their checks say something else, and those that were not wait', () => {
    const config: VipOptions[] = [{ ...WEB, reals: [real(1), real(2), real(3)] }];
    const lb = simulatedBalancer(config);
    lb.report('10.0.1.1:80', true);
    lb.report('10.0.1.2:80', false);
    const { controller, report, wasWell } = lb.start(config);
    expect([...wasWell]).toEqual(['10.0.1.1:80']);
    expect(conditions(controller.state())).toEqual([
      ['10.0.1.1', 'active'],
      ['10.0.1.2', 'checking'],
      ['10.0.1.3', 'checking'],
    ]);
    expect(new Set(ports.map((port) => lb.send(port)))).toEqual(new Set(['10.0.1.1']));
    report('10.0.1.2:80', true);
    report('10.0.1.1:80', false);
    expect(new Set(ports.map((port) => lb.send(port)))).toEqual(new Set(['10.0.1.2']));
  });

  it('keeps the next hop that was known until it is known again', () => {
    const config: VipOptions[] = [{ ...web, reals: [{ address: '10.0.1.1' }] }];
    const egress = { ifindex: 5, mac: '02:00:00:00:00:05' };
    const lb = simulatedBalancer(config, {
      nextHops: neighbourNextHops(new BehaviorSubject([{ address: '10.0.1.1', mac: HOP }]), egress),
    });
    const written = lb.handles.reals.get(1);
    const lists$ = new BehaviorSubject<{ address: string; mac: string | undefined }[]>([]);
    const { controller } = lb.start(config, { nextHops: neighbourNextHops(lists$, egress) });
    expect(lb.handles.reals.get(1)).toEqual(written);
    lists$.next([{ address: '10.0.1.1', mac: '02:00:00:00:00:01' }]);
    expect(lb.handles.reals.get(1)).toEqual({ ...written, hop: 0x0200_0000_0001 });
    lists$.next([]);
    expect(conditions(controller.state())).toEqual([['10.0.1.1', 'unreachable']]);
    expect(lb.send(1)).toBe('noReal');
  });

  it('takes out vips and reals that are gone, and their flows', () => {
    const lb = simulatedBalancer([{ ...web, reals: [real(1), real(2)] }, other], { maxVips: 2, maxReals: 4 });
    for (const port of ports) {
      lb.send(port);
      lb.send(port, { ack: true }, 81);
    }
    const { handles } = lb.start([{ ...web, reals: [real(2)] }]);
    expect(new Set(ports.map((port) => lb.send(port)))).toEqual(new Set(['10.0.1.2']));
    expect(lb.send(1, { ack: true }, 81)).toBe('notVip');
    expect(handles.vips.size).toBe(2);
    // a third process, whose vip and reals get the numbers of those
    const third = lb.start([
      { ...web, reals: [real(2)] },
      { ...web, port: 82, reals: [real(7), real(8), real(9)] },
    ]);
    expect(third.controller.traffic()[1]).toMatchObject({ packets: 0n });
    expect(new Set(ports.map((port) => lb.send(port, { ack: true }, 82)))).toEqual(new Set(['10.0.1.7', '10.0.1.8', '10.0.1.9']));
    expect(new Set(ports.map((port) => lb.send(port)))).toEqual(new Set(['10.0.1.2']));
  });

  it('forgets drains and other commands: the configuration says how it is', () => {
    const lb = simulatedBalancer([{ ...web, reals: [real(1), real(2)] }]);
    lb.controller.drain('10.0.1.1');
    lb.controller.addVip(other);
    const { controller } = lb.start([{ ...web, reals: [real(1), real(2, { weight: 3 })] }]);
    expect(controller.state()).toMatchObject([
      {
        reals: [
          { condition: 'active', slots: 16_384 },
          { condition: 'active', slots: 49_153 },
        ],
      },
    ]);
    expect(lb.send(1, { ack: true }, 81)).toBe('notVip');
  });

  it('leads every packet to a real of its vip between any two writes, and those of flows to theirs, whenever a process dies', () => {
    const places = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 4 });
    const reals = fc
      .tuple(places, fc.integer({ min: 1, max: 9 }))
      .map(([lasts, weight]): RealOptions[] => lasts.map((last) => real(last, { weight })));
    const vip = fc.record({ port: fc.integer({ min: 80, max: 83 }), reals });
    const config = fc.uniqueArray(vip, { minLength: 1, maxLength: 3, selector: ({ port }) => port });
    const configOf = (vips: readonly { port: number; reals: RealOptions[] }[]) => vips.map(({ port, reals }) => ({ ...web, port, reals }));
    fc.assert(
      fc.property(
        config,
        fc.array(fc.record({ now: config, dies: fc.option(fc.integer({ min: 1, max: 8 })) }), { minLength: 1, maxLength: 3 }),
        (first, later) => {
          const lb = simulatedBalancer(configOf(first), { maxVips: 4, maxReals: 12 });
          let before = first;
          for (const { now, dies } of later) {
            const kept = before.flatMap(({ port, reals }) => {
              const [old, next] = [reals, now.find((vip) => vip.port === port)?.reals ?? []].map((list) =>
                list.map(({ address }) => address),
              );
              const stay = old?.filter((address) => next?.includes(address)) ?? [];
              return stay.length > 0 ? [{ port, stay, any: [...(old ?? []), ...(next ?? [])] }] : [];
            });
            const flows = kept.flatMap(({ port, stay }) =>
              [11, 12, 13].map((sport) => ({ sport, port, home: lb.send(sport, { ack: true }, port), stay })),
            );
            let fresh = 1_000;
            const check = (): void => {
              for (const { sport, port, home, stay } of flows)
                if (stay.includes(home)) expect(lb.send(sport, { ack: true }, port)).toBe(home);
              for (const { port, any } of kept) expect(any).toContain(lb.send(fresh++, { syn: true }, port));
            };
            let left = dies ?? 0;
            const dying = (): void => {
              check();
              left -= 1;
              if (left === 0) throw new RangeError('killed');
            };
            if (dies !== null) {
              try {
                lb.start(configOf(now), { onWrite: dying });
              } catch (error) {
                if (!(error instanceof RangeError)) throw error;
              }
            }
            lb.start(configOf(now), { onWrite: check });
            for (const { port, reals } of now)
              for (const sport of [11, 14, 15]) expect(reals.map(({ address }) => address)).toContain(lb.send(sport, { ack: true }, port));
            before = now;
          }
        },
      ),
      { numRuns: 25, interruptAfterTimeLimit: 40_000 },
    );
  }, 60_000);
});

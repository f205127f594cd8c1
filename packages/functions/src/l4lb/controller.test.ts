import '@tailrace/testing/matchers';
import { BehaviorSubject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { conditions, HOP as hop, real, simulatedBalancer as setUp, WEB as web } from './fixture.ts';
import { givenNextHops, l4lb, neighbourNextHops } from './index.ts';

const name = '198.51.100.1:80/tcp';

describe('the controller', () => {
  it('sends flows to reals that are well', () => {
    const { controller, send, report } = setUp([{ ...web, reals: [real(1), real(2)] }]);
    expect(conditions(controller.state())).toEqual([
      ['10.0.1.1', 'checking'],
      ['10.0.1.2', 'checking'],
    ]);
    expect(send(1)).toBe('noReal');
    report('10.0.1.1:80', true);
    expect(send(1)).toBe('10.0.1.1');
    report('10.0.1.2:80', true);
    expect(new Set(Array.from({ length: 20 }, (_, i) => send(100 + i)))).toEqual(new Set(['10.0.1.1', '10.0.1.2']));
    expect(controller.state()[0]?.reals.map(({ slots }) => slots)).toEqual([32769, 32768]);
  });

  it('takes a dead real out: its flows go to others, and the others stay', () => {
    const { send, report } = setUp([{ ...web, reals: [real(1), real(2), real(3)] }]);
    for (const last of [1, 2, 3]) report(`10.0.1.${last}:80`, true);
    const ports = Array.from({ length: 40 }, (_, i) => i + 1);
    const before = ports.map((port) => send(port));
    expect(new Set(before).size).toBe(3);
    report('10.0.1.2:80', false);
    const after = ports.map((port) => send(port));
    for (const [i, where] of after.entries()) {
      if (before[i] === '10.0.1.2') expect(where).not.toBe('10.0.1.2');
      else expect(where).toBe(before[i]);
    }
    report('10.0.1.2:80', true);
    expect(ports.map((port) => send(port))).toEqual(after);
  });

  it('drains: flows stay, new connections go elsewhere', () => {
    const { controller, send } = setUp([{ ...web, health: false, reals: [real(1), real(2)] }]);
    const ports = Array.from({ length: 20 }, (_, i) => i + 1);
    const before = ports.map((port) => send(port));
    controller.drain('10.0.1.1');
    expect(conditions(controller.state())).toEqual([
      ['10.0.1.1', 'draining'],
      ['10.0.1.2', 'active'],
    ]);
    expect(ports.map((port) => send(port))).toEqual(before);
    expect(new Set(ports.map((port) => send(port, { syn: true })))).toEqual(new Set(['10.0.1.2']));
    controller.restore('10.0.1.1');
    controller.setWeight(name, '10.0.1.2', 0);
    expect(new Set(ports.map((port) => send(port, { syn: true })))).toEqual(new Set(['10.0.1.1']));
  });

  it('adds and removes reals and vips', () => {
    const { controller, send } = setUp();
    expect(send(1)).toBe('notVip');
    expect(controller.addVip({ ...web, health: false })).toBe(name);
    expect(send(1)).toBe('noReal');
    controller.addReal(web, real(1));
    expect(send(1)).toBe('10.0.1.1');
    controller.addReal(name, real(2));
    controller.removeReal(name, '10.0.1.1');
    expect(send(1)).toBe('10.0.1.2');
    controller.removeVip(name);
    expect(send(1)).toBe('notVip');
    expect(controller.state()).toEqual([]);
  });

  it('weighs', () => {
    const { controller } = setUp([{ ...web, health: false, reals: [real(1, { weight: 1 }), real(2, { weight: 3 })] }]);
    expect(controller.state()[0]?.reals.map(({ slots }) => slots)).toEqual([16384, 49153]);
    controller.setWeight(name, '10.0.1.1', 3);
    expect(controller.state()[0]?.reals.map(({ slots }) => slots)).toEqual([32769, 32768]);
  });

  it('keeps vips of one address apart, and the address as long as one has it', () => {
    const { controller, handles, send } = setUp([
      { ...web, health: false, reals: [real(1)] },
      { ...web, port: 81, health: false, reals: [real(2)] },
    ]);
    expect([send(1), send(1, { ack: true }, 81)]).toEqual(['10.0.1.1', '10.0.1.2']);
    controller.removeVip(name);
    expect([send(1), send(1, { ack: true }, 81)]).toEqual(['notVip', '10.0.1.2']);
    expect(handles.vips.size).toBe(2);
    controller.removeVip({ ...web, port: 81 });
    expect(handles.vips.size).toBe(0);
  });

  it('forgets the flows of a number before somebody else gets it', () => {
    const { controller, send } = setUp([{ ...web, health: false, reals: [real(1)] }], { maxVips: 1, maxReals: 2 });
    expect(send(7)).toBe('10.0.1.1');
    controller.removeVip(name);
    controller.addVip({ ...web, port: 81, health: false, reals: [real(2)] });
    expect(send(7, { ack: true }, 81)).toBe('10.0.1.2');
    controller.removeReal({ ...web, port: 81 }, '10.0.1.2');
    controller.addReal({ ...web, port: 81 }, real(3));
    controller.addReal({ ...web, port: 81 }, real(4));
    controller.drain('10.0.1.4');
    // 10.0.1.4 has the number that 10.0.1.2 had: the flow must not follow it
    expect(send(7, { ack: true }, 81)).toBe('10.0.1.3');
  });

  it('counts traffic of vips and reals, from zero where a number is used again', () => {
    const { controller, send } = setUp([{ ...web, health: false, reals: [real(1)] }], { maxVips: 1, maxReals: 1 });
    send(1);
    send(2);
    expect(controller.traffic()).toEqual([{ name, packets: 2n, bytes: 108n, reals: [{ address: '10.0.1.1', packets: 2n, bytes: 108n }] }]);
    controller.removeVip(name);
    controller.addVip({ ...web, port: 81, health: false, reals: [real(2)] });
    expect(controller.traffic()[0]).toMatchObject({ packets: 0n, reals: [{ packets: 0n }] });
  });

  it('shares the checks of vips that have a real and a port in common', () => {
    const { controller, checks } = setUp([
      { ...web, reals: [real(1)] },
      { ...web, protocol: 'udp', health: { port: 80 }, reals: [real(1)] },
      { ...web, port: 53, protocol: 'udp', reals: [real(1)] },
    ]);
    expect([...checks.keys()]).toEqual(['10.0.1.1:80']);
    expect(conditions(controller.state()).map(([, condition]) => condition)).toEqual(['checking', 'checking', 'active']);
  });

  it('stops the checks of reals that go, and all at the end', () => {
    const { controller, checks } = setUp([{ ...web, reals: [real(1), real(2)] }]);
    expect(checks.get('10.0.1.1:80')?.observed).toBe(true);
    controller.removeReal(name, '10.0.1.1');
    expect([...checks.values()].map((check) => check.observed)).toEqual([false, true]);
    let ended = false;
    controller.state$.subscribe({ complete: () => (ended = true) });
    controller[Symbol.dispose]();
    expect([...checks.values()].map((check) => check.observed)).toEqual([false, false]);
    expect(ended).toBe(true);
  });

  it('waits for next hops and follows them', () => {
    const lists$ = new BehaviorSubject<{ address: string; mac: string | undefined }[]>([]);
    const { controller, handles } = setUp([{ ...web, health: false, reals: [{ address: '10.0.1.1' }] }], {
      nextHops: neighbourNextHops(lists$),
    });
    expect(conditions(controller.state())).toEqual([['10.0.1.1', 'unreachable']]);
    lists$.next([{ address: '10.0.1.1', mac: '02:00:00:00:00:01' }]);
    expect(controller.state()[0]?.reals).toEqual([
      { address: '10.0.1.1', weight: 1, condition: 'active', nextHop: '02:00:00:00:00:01', slots: 65537 },
    ]);
    lists$.next([{ address: '10.0.1.1', mac: '02:00:00:00:00:02' }]);
    expect(handles.reals.get(1)?.hop).toBe(0x0200_0000_0002);
    lists$.next([{ address: '10.0.1.1', mac: undefined }]);
    expect(conditions(controller.state())).toEqual([['10.0.1.1', 'unreachable']]);
  });

  it('leaves by another interface where the next hop is there', () => {
    const egress = { ifindex: 5, mac: '02:00:00:00:00:05' };
    const { handles } = setUp([{ ...web, health: false, reals: [{ address: '10.0.1.1', nextHop: { mac: hop, egress } }] }]);
    expect(handles.reals.get(1)).toMatchObject({ hop: 0x0200_0000_0099, own: 0x0200_0000_0005, ifindex: 5 });
  });

  it('tells every change, once', () => {
    const { controller, report } = setUp([{ ...web, reals: [real(1)] }]);
    const seen: unknown[] = [];
    controller.state$.subscribe((state) => seen.push(...conditions(state).map(([, condition]) => condition)));
    report('10.0.1.1:80', true);
    report('10.0.1.1:80', true);
    controller.drain('10.0.1.1');
    report('10.0.1.1:80', false);
    expect(seen).toEqual(['checking', 'active', 'draining', 'down']);
  });

  it('leaves everything as it was when it refuses', () => {
    const { controller, send } = setUp([{ ...web, health: false, reals: [real(1)] }], { maxVips: 1, maxReals: 1 });
    const before = controller.state();
    const said = (run: () => unknown): string => {
      try {
        run();
      } catch (error) {
        return String(error);
      }
      return 'nothing';
    };
    expect(
      [
        () => controller.addVip(web),
        () => controller.addVip({ ...web, port: 81 }),
        () => controller.addVip({ ...web, port: 0 }),
        () => controller.addVip({ ...web, protocol: 'icmp' as 'tcp' }),
        () => controller.addReal(name, real(1)),
        () => controller.addReal(name, real(2)),
        () => controller.addReal(name, real(2, { weight: -1 })),
        () => controller.addReal(name, { address: 'ten' }),
        () => controller.removeReal(name, '10.0.1.9'),
        () => controller.removeVip('1.2.3.4:80/tcp'),
        () => controller.drain('10.0.1.9'),
        () => controller.setWeight(name, '10.0.1.1', 1001),
        () => controller.addReal(name, real(3, { nextHop: '02:00' })),
      ].map(said),
    ).toMatchInlineSnapshot(`
      [
        "ArgumentError: vip 198.51.100.1:80/tcp is there already",
        "ArgumentError: vip 198.51.100.1:81/tcp: there are 1 vips already",
        "ArgumentError: vip: port is 0, expected 1..65535",
        "ArgumentError: vip: protocol is 'icmp', expected 'tcp' or 'udp'",
        "ArgumentError: real 10.0.1.1 of 198.51.100.1:80/tcp is there already",
        "ArgumentError: real 10.0.1.2 of 198.51.100.1:80/tcp: there are 1 reals already",
        "ArgumentError: real 10.0.1.2 of 198.51.100.1:80/tcp: weight is -1, expected 0..1000",
        "ArgumentError: ip: 'ten' is no IPv4 address, expected four numbers of 0..255",
        "ArgumentError: vip 198.51.100.1:80/tcp has no real 10.0.1.9",
        "ArgumentError: there is no vip 1.2.3.4:80/tcp",
        "ArgumentError: real 10.0.1.9 serves no vip",
        "ArgumentError: real 10.0.1.1 of 198.51.100.1:80/tcp: weight is 1001, expected 0..1000",
        "ArgumentError: macAddress: '02:00' is no MAC address, expected six pairs of hex digits with colons",
      ]
    `);
    expect(controller.state()).toEqual(before);
    expect(send(1)).toBe('10.0.1.1');
  });

  it('refuses reals whose next hop nobody can know', () => {
    expect(() => setUp([{ ...web, reals: [{ address: '10.0.1.1' }] }])).toThrow('real 10.0.1.1 has no nextHop, and no service knows any');
    const { controller } = setUp([web], { nextHops: givenNextHops({ '10.0.1.1': hop }) });
    controller.addReal(name, { address: '10.0.1.1' });
    expect(() => controller.addReal(name, { address: '10.0.1.2' })).toThrow('no next hop is given for 10.0.1.2');
    expect(conditions(controller.state())).toEqual([['10.0.1.1', 'checking']]);
  });

  it('takes no more commands after a map could not be written', () => {
    const { controller, handles } = setUp([{ ...web, health: false }]);
    let told: unknown;
    controller.state$.subscribe({ error: (error: unknown) => (told = error) });
    handles.reals.setMany = () => {
      throw new RangeError('the engine is closed');
    };
    expect(() => controller.addReal(name, real(1))).toThrow('the engine is closed');
    expect(() => controller.drain('10.0.1.1')).toThrow('the engine is closed');
    expect(String(told)).toContain('the engine is closed');
  });
});

describe('l4lb()', () => {
  it('gives vips the common reals', () => {
    const lb = l4lb({ source: '10.0.0.1', vips: [web], reals: [real(1)] });
    expect(lb.stages.xdp?.map((stage) => stage.name)).toEqual(['vip', 'pick', 'encap']);
  });

  it('checks its options', () => {
    const said = (options: object): string => {
      try {
        l4lb({ source: '10.0.0.1', ...options });
      } catch (error) {
        return String(error);
      }
      return 'nothing';
    };
    expect(
      [
        { source: 'here' },
        { source: { ipv4: 'fd00::1' } },
        { mtu: 100 },
        { maxVips: 0 },
        { maxReals: 16_384 },
        { maxReals: 20, flowsPerCpu: 128 },
        { vips: [web, web] },
      ].map(said),
    ).toMatchInlineSnapshot(`
      [
        "ArgumentError: ip: 'here' is no IPv4 address, expected four numbers of 0..255",
        "ArgumentError: l4lb: source.ipv4 is 'fd00::1', expected an IPv4 address",
        "ArgumentError: l4lb: mtu is 100, expected 576..65535",
        "ArgumentError: l4lb: maxVips is 0, expected 1..4096",
        "ArgumentError: l4lb: maxReals is 16384, expected 1..16383",
        "ArgumentError: l4lb: maxReals is 20, expected 1..15",
        "ArgumentError: vip 198.51.100.1:80/tcp is there already",
      ]
    `);
  });
});

import '@tailrace/testing/matchers';
import { fragments, packet, SimulatedMaps, simulate, simulatedHandle, truncations } from '@tailrace/testing';
import fc from 'fast-check';
import { VirtualTimeScheduler } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { AclController, acl, aclMaps, aclStage, formatPrefix, parsePrefix } from './index.ts';

function setUp(blocked: readonly string[] = [], maxEntries = 8) {
  const maps = new SimulatedMaps();
  const { count, ...declared } = aclMaps(maxEntries);
  const { blocked4, blocked6, hits } = declared;
  const stage = aclStage.with({ blocked4, blocked6, count });
  const needs = {
    blocked4: simulatedHandle(maps, blocked4),
    blocked6: simulatedHandle(maps, blocked6),
    hits: simulatedHandle(maps, hits),
    clock: new VirtualTimeScheduler(),
  };
  const controller = new AclController(needs, blocked);
  return { controller, needs, send: (frame: Parameters<typeof simulate>[1]) => simulate(stage, frame, { maps }) };
}

const from = (saddr: string) => packet().ipv4({ saddr }).udp().payload('hello');
const from6 = (saddr: string) => packet().ipv6({ saddr }).udp().payload('hello');

describe('the stage', () => {
  it('drops what comes from a blocked prefix and counts it', () => {
    const { controller, send } = setUp(['203.0.113.0/24', '2001:db8:1::/48']);
    expect(send(from('203.0.113.9'))).toDrop();
    expect(send(from('203.0.113.255'))).toDrop();
    expect(send(from('203.0.114.0'))).toNext();
    expect(send(from6('2001:db8:1::9'))).toDrop();
    expect(send(from6('2001:db8:2::9'))).toNext();
    expect(controller.hits()).toEqual([
      { prefix: '203.0.113.0/24', packets: 2n, bytes: 94n },
      { prefix: '2001:db8:1::/48', packets: 1n, bytes: 67n },
    ]);
  });

  it('takes fragments and options like any packet', () => {
    const { send } = setUp(['203.0.113.0/24']);
    const large = packet().ipv4({ saddr: '203.0.113.9' }).udp().payload(100);
    for (const fragment of fragments(large, 32)) expect(send(fragment)).toDrop();
    expect(
      send(
        packet()
          .ipv4({ saddr: '203.0.113.9', options: new Uint8Array(8).fill(1) })
          .tcp(),
      ),
    ).toDrop();
  });

  it('hands on what is cut short within its addresses', () => {
    const { send } = setUp(['0.0.0.0/0', '::/0']);
    for (const cut of truncations(from('203.0.113.9')))
      if (cut.length < 34) expect(send(cut)).toNext();
      else expect(send(cut)).toDrop();
    for (const cut of truncations(from6('2001:db8::9')))
      if (cut.length < 54) expect(send(cut)).toNext();
      else expect(send(cut)).toDrop();
  });

  it('hands on what is no IP, whatever its bytes', () => {
    const { send } = setUp(['0.0.0.0/0', '::/0']);
    expect(send(packet().ethernet({ etherType: 0x0806 }).payload(60))).toNext();
    expect(send(packet().ipv4({ version: 5 }).udp())).toNext();
    expect(send(packet().ipv4({ ihl: 4 }).udp())).toNext();
  });
});

describe('the controller', () => {
  it('blocks and unblocks, the longest prefix first', () => {
    const { controller, send } = setUp();
    expect(controller.block('198.51.100.0/24')).toBe(true);
    expect(controller.block('198.51.100.7')).toBe(true);
    expect(controller.block('198.51.100.7/32')).toBe(false);
    send(from('198.51.100.7'));
    send(from('198.51.100.8'));
    expect(controller.hits().map(({ prefix, packets }) => [prefix, packets])).toEqual([
      ['198.51.100.0/24', 1n],
      ['198.51.100.7/32', 1n],
    ]);
    expect(controller.unblock('198.51.100.0/24')).toBe(true);
    expect(controller.unblock('198.51.100.0/24')).toBe(false);
    expect(send(from('198.51.100.8'))).toNext();
    expect(controller.blocked).toEqual(['198.51.100.7/32']);
  });

  it('starts a prefix that comes back at zero', () => {
    const { controller, send } = setUp(['203.0.113.9'], 1);
    send(from('203.0.113.9'));
    controller.unblock('203.0.113.9');
    controller.block('203.0.113.9');
    expect(controller.hits()).toEqual([{ prefix: '203.0.113.9/32', packets: 0n, bytes: 0n }]);
  });

  it('says when it is full', () => {
    const { controller } = setUp(['10.0.0.0/8'], 1);
    expect(() => controller.block('11.0.0.0/8')).toThrow("acl: 1 prefixes are blocked, no room for '11.0.0.0/8'");
    controller.unblock('10.0.0.0/8');
    expect(controller.block('11.0.0.0/8')).toBe(true);
  });

  it('takes over what the maps hold', () => {
    const { needs, send } = setUp(['203.0.113.9', '2001:db8::/32'], 2);
    send(from('203.0.113.9'));
    const second = new AclController(needs);
    expect(second.hits().map(({ prefix, packets }) => [prefix, packets])).toEqual([
      ['203.0.113.9/32', 1n],
      ['2001:db8::/32', 0n],
    ]);
    expect(() => second.block('10.0.0.0/8')).toThrow('no room');
  });

  it('becomes what it is told over what the maps hold, and lets through nothing that is blocked before and after', () => {
    const { needs, send } = setUp(['203.0.113.9', '10.0.0.0/8', '2001:db8::/32'], 3);
    send(from('203.0.113.9'));
    const through: unknown[] = [];
    const watch = <H extends { set: unknown; delete: unknown }>(handle: H): H =>
      new Proxy(handle, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name, target);
          if (typeof value !== 'function') return value;
          return (...args: unknown[]): unknown => {
            const result: unknown = value.apply(target, args);
            for (const frame of [from('203.0.113.9'), from('10.1.2.3')]) if (send(frame).verdict !== 'drop') through.push(name);
            return result;
          };
        },
      });
    const second = new AclController({ ...needs, blocked4: watch(needs.blocked4), blocked6: watch(needs.blocked6) }, [
      '10.1.0.0/16',
      '203.0.113.9',
      '192.0.2.0/24',
    ]);
    // nothing has room before one that goes has left it, and the filter is full
    expect(through).toEqual([]);
    expect(second.blocked).toEqual(['203.0.113.9/32', '10.1.0.0/16', '192.0.2.0/24']);
    expect(second.hits()[0]?.packets).toBeGreaterThan(1n);
    expect(['10.2.0.0', '10.1.0.0', '192.0.2.9'].map((saddr) => send(from(saddr)).verdict)).toEqual(['next', 'drop', 'drop']);
    expect(send(from6('2001:db8::1'))).toNext();
    expect(() => second.replace(['1.0.0.0/8', '2.0.0.0/8', '3.0.0.0/8', '4.0.0.0/8'])).toThrow(
      'acl: 4 prefixes to block, expected at most 3',
    );
    expect(second.blocked).toHaveLength(3);
  });

  it('shows hits over time', () => {
    const { controller, needs, send } = setUp(['203.0.113.9']);
    const seen: bigint[] = [];
    const subscription = controller.hits$.subscribe((hits) => {
      seen.push(hits[0]?.packets ?? -1n);
      send(from('203.0.113.9'));
      if (seen.length === 3) subscription.unsubscribe();
    });
    (needs.clock as VirtualTimeScheduler).flush();
    expect(seen).toEqual([0n, 1n, 2n]);
  });
});

describe('prefixes', () => {
  it('read and write the same', () => {
    for (const text of ['0.0.0.0/0', '10.0.0.0/8', '203.0.113.7/32', '::/0', '2001:db8::/33', '::1/128'])
      expect(formatPrefix(parsePrefix(text))).toBe(text);
    expect(formatPrefix(parsePrefix('2001:DB8:0::1'))).toBe('2001:db8::1/128');
  });

  it('are refused where they are none', () => {
    const said = (text: string): string => {
      try {
        return formatPrefix(parsePrefix(text));
      } catch (error) {
        return String(error);
      }
    };
    expect(['10.0.0.1/8', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0/8', '2001:db8::1/32', 'x'].map(said)).toMatchInlineSnapshot(`
      [
        "ArgumentError: prefix '10.0.0.1/8' has bits set behind its length, expected 10.0.0.0/8",
        "ArgumentError: prefix '10.0.0.0/33', expected an address and, behind a '/', a length of 0..32",
        "ArgumentError: prefix '10.0.0.0/', expected an address and, behind a '/', a length of 0..32",
        "ArgumentError: prefix '10.0.0.0/8/8', expected an address and, behind a '/', a length of 0..32",
        "ArgumentError: ip: '10.0.0' is no IPv4 address, expected four numbers of 0..255",
        "ArgumentError: prefix '2001:db8::1/32' has bits set behind its length, expected 2001:db8::/32",
        "ArgumentError: ip: 'x' is no IPv4 address, expected four numbers of 0..255",
      ]
    `);
  });

  it('hold the addresses they should', () => {
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), fc.integer({ min: 0, max: 32 }), fc.nat(0xffff_ffff), (address, length, other) => {
        const masked = length === 0 ? 0 : (address >>> (32 - length)) * 2 ** (32 - length);
        const text = formatPrefix({ family: 4, key: { prefixLen: length, addr: address } });
        const { send } = setUp([text]);
        const inside = length === 0 || other >>> (32 - length) === masked >>> (32 - length);
        const saddr = [24, 16, 8, 0].map((shift) => (other >>> shift) & 255).join('.');
        expect(send(from(saddr)).verdict).toBe(inside ? 'drop' : 'next');
      }),
      { numRuns: 40 },
    );
  });
});

describe('acl()', () => {
  it('makes maps of its own each time', () => {
    const [first, second] = [acl(), acl({ maxEntries: 16 })];
    expect(first.stages.xdp?.[0]?.uses.blocked4).not.toBe(second.stages.xdp?.[0]?.uses.blocked4);
    expect(first.stages.xdp?.map(({ name }) => name)).toEqual(['acl']);
  });

  it('checks its options', () => {
    expect(() => acl({ blocked: ['10.0.0.1/8'] })).toThrow('has bits set behind its length');
    expect(() => acl({ maxEntries: 0 })).toThrow('acl: maxEntries is 0, expected 1..16777216');
  });
});

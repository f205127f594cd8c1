/** The stages of small functions do on every packet, on an engine, what their bodies do as plain JavaScript. */
import type { Engine } from '@tailrace/bpf';
import { ip, ipv6 } from '@tailrace/stage';
import { fragments, type Packet, packet, truncations } from '@tailrace/testing';
import { expect, it } from 'vitest';
import { aclMaps, aclStage } from './acl/index.ts';
import { agree, type HandleOf } from './agreement.ts';
import { decapMaps, decapStage } from './decap/index.ts';
import { cases, frames, frames6, tagged } from './stage-frames.ts';

/** The cases, on an engine. */
export function stagesSuite(engine: Engine): void {
  it('acl', async () => {
    const { blocked4, blocked6, hits, count } = aclMaps(8);
    const prepare = (handleOf: HandleOf): void => {
      handleOf(blocked4).set({ prefixLen: 24, addr: ip('192.0.2.0') }, 3);
      handleOf(blocked6).set({ prefixLen: 32, addr: { hi: 0x2001_0db8_0000_0000n, lo: 0n } }, 4);
    };
    const six = [...truncations(packet().ipv6().tcp(), 14)].map((frame) => ({ frame }));
    const all = [...cases(), ...cases({ saddr: '192.0.3.1' }), ...six];
    expect(await agree(engine, aclStage.with({ blocked4, blocked6, count }), all, prepare, hits)).toMatchInlineSnapshot(`
      {
        "drop": 320,
        "next": 736,
      }
    `);
  });

  it('decap', async () => {
    const tables = decapMaps(4);
    const outer = (fields: Parameters<Packet['ipv4']>[0], inside: Parameters<Packet['ipv4']>[0] = {}) =>
      packet()
        .ipv4({ saddr: '10.0.0.1', daddr: '10.0.1.1', ...fields })
        .ipv4(inside)
        .tcp()
        .payload('hello');
    const options = new Uint8Array(12).fill(1);
    const wrapped = [
      outer({}),
      outer({ options }),
      outer({}, { options }),
      outer({ daddr: '10.0.1.2' }),
      outer({ saddr: '10.0.0.2' }),
      ...[0, 1, 2, 3, 0xff].flatMap((tos) => [0, 1, 2, 3, 0x28].map((inside) => outer({ tos }, { tos: inside }))),
      ...[20, 40, 65, 66, 1500].map((totalLength) => outer({ totalLength })),
      ...[0, 20, 45, 46, 1500].map((totalLength) => outer({}, { totalLength })),
      outer({}, { version: 6 }),
      outer({}, { ihl: 4 }),
      ...fragments(outer({}), 24),
      ...truncations(outer({}), 14),
      ...truncations(outer({ options }), 14),
    ].map((frame) => ({ frame }));
    const prepare = (handleOf: HandleOf): void => {
      handleOf(tables.tunnels).set({ address: ip('10.0.1.1'), source: ip('10.0.0.1') }, true);
      handleOf(tables.tunnels6).set({ address: ipv6('fd00:1::1'), source: ipv6('fd00::1') }, true);
    };
    const outer6 = (fields: Parameters<Packet['ipv6']>[0] = {}) => packet().ipv6({ saddr: 'fd00::1', daddr: 'fd00:1::1', ...fields });
    const inside = (of: Packet, tos: number) => [
      of.ipv4({ tos }).tcp().payload('hello'),
      of.ipv6({ trafficClass: tos }).tcp().payload('hello'),
    ];
    const shapes = [
      ...[0, 1, 2, 3, 0xff].flatMap((tos) =>
        [0, 1, 2, 3, 0x28].flatMap((inner) => [
          ...inside(packet().ipv4({ saddr: '10.0.0.1', daddr: '10.0.1.1', tos }), inner),
          ...inside(outer6({ trafficClass: tos }), inner),
        ]),
      ),
      ...inside(outer6(), 0).flatMap((frame) => [...truncations(frame, 14)]),
      ...inside(outer6({ daddr: 'fd00:1::2' }), 0),
      ...inside(outer6({ saddr: 'fd00::2' }), 0),
      ...[0, 20, 44, 45, 64, 65, 66, 1500].flatMap((payloadLength) => inside(outer6({ payloadLength }), 0)),
      ...frames6().flatMap((frame) => {
        const bytes = (frame instanceof Uint8Array ? frame : frame.bytes()).subarray(14);
        return [outer6({ nextHeader: 41 }).payload(bytes), outer6({ nextHeader: 4 }).payload(bytes)];
      }),
      ...frames().map((frame) => outer6({ nextHeader: 4 }).payload((frame instanceof Uint8Array ? frame : frame.bytes()).subarray(14))),
    ].map((frame) => ({ frame }));
    const onVlans = [...wrapped, ...shapes]
      .slice(0, 150)
      .flatMap(({ frame }) => [{ frame: tagged(frame, 7) }, { frame: tagged(frame, 7, 8) }]);
    const all = [...wrapped, ...shapes, ...onVlans, ...cases(), ...cases({ daddr: '10.0.1.1', saddr: '10.0.0.1', protocol: 4 })];
    expect(await agree(engine, decapStage.with({ ...tables, anySource: false }), all, prepare, tables.unpacked)).toMatchInlineSnapshot(`
      {
        "fragment": 15,
        "malformed": 1252,
        "next": 1151,
      }
    `);
  });
}

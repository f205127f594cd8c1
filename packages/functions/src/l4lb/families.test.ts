/** The balancer as a whole, over both families: what l4lb() declares, walked stage by stage in a simulation. */
import '@tailrace/testing/matchers';
import { Clock } from '@tailrace/pipeline';
import { type AnyStage, type AnyTarget, IpProtocol, type Resource } from '@tailrace/stage';
import {
  fragments,
  frameBytes,
  type Packet,
  packet,
  parse,
  SimulatedMaps,
  simulate,
  simulatedHandle,
  truncations,
} from '@tailrace/testing';
import fc from 'fast-check';
import { BehaviorSubject, VirtualTimeScheduler } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { DecapController, decapMaps, decapStage } from '../decap/index.ts';
import { type BalancerController, HealthChecker, type L4lbOptions, l4lb, NextHops, noNextHops, type RealOptions } from './index.ts';

const VIP = { 4: '198.51.100.1', 6: '2001:db8::2' } as const;
const SOURCE = { ipv4: '10.0.0.1', ipv6: 'fd00::1' } as const;
type Family = 4 | 6;
const HOP = '02:00:00:00:00:99';
const real = (family: Family, last: number) => ({ address: family === 4 ? `10.0.1.${last}` : `fd00:1::${last}`, nextHop: HOP });

/** How a packet left, where it went, and the stages that it passed. */
interface Left {
  readonly verdict: string;
  readonly packet: Uint8Array;
  readonly path: readonly string[];
  /** The outer destination, where it was sent on. */
  readonly real: string | undefined;
}

function balancer(options: Omit<L4lbOptions, 'source'> & { readonly source?: L4lbOptions['source'] }) {
  const lb = l4lb({ source: SOURCE, maxVips: 4, maxReals: 31, flows: 512, flowsPerCpu: 256, shards: 2, flows6: 128, ...options });
  const maps = new SimulatedMaps();
  const wells = new Map<string, BehaviorSubject<boolean>>();
  const watch = ({ address }: { readonly address: string }): BehaviorSubject<boolean> => {
    const known = wells.get(address) ?? new BehaviorSubject(true);
    wells.set(address, known);
    return known;
  };
  const services = new Map<unknown, unknown>([
    [HealthChecker, { watch }],
    [NextHops, noNextHops],
    [Clock, new VirtualTimeScheduler()],
  ]);
  const needs = Object.entries(lb.controller?.needs ?? {}).map(([name, need]) => [
    name,
    services.get(need) ?? simulatedHandle(maps, need as Resource<unknown, unknown>),
  ]);
  const controller = lb.controller?.create(Object.fromEntries(needs)) as BalancerController;
  const send = (frame: Packet | Uint8Array): Left => walk(lb.stages.xdp ?? [], { bytes: frameBytes(frame), meta: {}, path: [] }, maps);
  return { controller, send, setWell: (address: string, well: boolean) => watch({ address }).next(well) };
}

interface State {
  readonly bytes: Uint8Array;
  readonly meta: Readonly<Record<string, unknown>>;
  readonly path: readonly string[];
}
type Item = Exclude<AnyTarget, readonly unknown[]>;

function walk(list: readonly Item[], state: State, maps: SimulatedMaps, rejoin: (state: State) => Left = ended('pass')): Left {
  const [item, ...rest] = list;
  if (item === undefined) return ended('pass')(state);
  if (typeof item === 'string') return item === 'next' ? rejoin(state) : ended(item)(state);
  if (item.kind !== 'stage') throw new TypeError(`a ${item.kind} item is no stage`);
  return enter(item, state, maps, (after) => walk(rest, after, maps, rejoin));
}

function enter(stage: AnyStage, { bytes, meta, path }: State, maps: SimulatedMaps, next: (state: State) => Left): Left {
  const known = Object.fromEntries(Object.entries(meta).filter(([field]) => field in { ...stage.reads, ...stage.writes }));
  const result = simulate(stage as Parameters<typeof simulate>[0], bytes, { maps, meta: known });
  const after = { bytes: result.packet, meta: { ...meta, ...result.meta }, path: [...path, stage.name] };
  if (result.verdict === 'next') return next(after);
  if (result.verdict !== 'exit') return ended(result.verdict)(after);
  const target = stage.wiring[result.exit ?? ''] ?? result.exit ?? '';
  if (target === 'next') return next(after);
  return walk(typeof target === 'string' || !Array.isArray(target) ? [target as Item] : target, after, maps, next);
}

const ended =
  (verdict: string) =>
  ({ bytes, path }: State): Left => {
    const outer = verdict === 'tx' || verdict === 'redirect' ? parse(bytes)[1] : undefined;
    const sent = path.at(-1)?.startsWith('encap') ? outer?.fields.daddr : undefined;
    return { verdict, packet: bytes, path, real: sent };
  };

/** A packet of a flow to the vip of a family. */
interface FlowOf {
  readonly family: Family;
  readonly client: number;
  readonly sport: number;
  readonly protocol: 'tcp' | 'udp';
}
const clientOf = ({ family, client }: FlowOf): string => (family === 4 ? `192.0.2.${client}` : `2001:db8:c::${client.toString(16)}`);
const toVip = (flow: FlowOf): Packet =>
  flow.family === 4
    ? packet().ipv4({ saddr: clientOf(flow), daddr: VIP[4] })
    : packet().ipv6({ saddr: clientOf(flow), daddr: VIP[6], flowLabel: 7 });
const request = (flow: FlowOf, fields: { readonly syn?: boolean } = {}): Packet =>
  flow.protocol === 'tcp'
    ? toVip(flow).tcp({ sport: flow.sport, dport: 80, ...fields })
    : toVip(flow).udp({ sport: flow.sport, dport: 53 });
/** What the flow's real sends to the client. */
const reply = (flow: FlowOf): Packet => {
  const out =
    flow.family === 4
      ? packet().ipv4({ saddr: VIP[4], daddr: clientOf(flow), dontFragment: true })
      : packet().ipv6({ saddr: VIP[6], daddr: clientOf(flow) });
  return flow.protocol === 'tcp'
    ? out.tcp({ sport: 80, dport: flow.sport }).payload(1400)
    : out.udp({ sport: 53, dport: flow.sport }).payload(1400);
};
/** A router's ICMP error about a packet, which it quotes as far as `quoted` bytes. */
const error = (family: Family, about: Packet, options: { type: number; code?: number; quoted?: number }): Packet => {
  const { type, code = 0, quoted = family === 4 ? 28 : 48 } = options;
  const body = about.bytes().subarray(14, 14 + quoted);
  return family === 4
    ? packet().ipv4({ saddr: '203.0.113.1', daddr: VIP[4] }).icmp({ type, code, id: 0, sequence: 1_400 }).payload(body)
    : packet().ipv6({ saddr: '2001:db8:e::1', daddr: VIP[6] }).icmpv6({ type, code, id: 0, sequence: 1_400 }).payload(body);
};

const vips = (reals: readonly RealOptions[]) =>
  ([4, 6] as const).flatMap((family) => [
    { address: VIP[family], port: 80, protocol: 'tcp' as const, reals },
    { address: VIP[family], port: 53, protocol: 'udp' as const, health: { port: 80 }, reals },
  ]);
const both = [real(4, 1), real(4, 2), real(6, 1), real(6, 2)];
const addresses = both.map(({ address }) => address);

/** Unpacks as a real does. */
function unpacker() {
  const tables = decapMaps(8);
  const maps = new SimulatedMaps();
  const needs = {
    tunnels: simulatedHandle(maps, tables.tunnels),
    tunnels6: simulatedHandle(maps, tables.tunnels6),
    unpacked: simulatedHandle(maps, tables.unpacked),
  };
  new DecapController(needs, { addresses, maxTunnels: 8 });
  const stage = decapStage.with({ ...tables, anySource: true });
  return (frame: Uint8Array) => simulate(stage, frame, { maps });
}

const anyFlow: fc.Arbitrary<FlowOf> = fc.record({
  family: fc.constantFrom<Family>(4, 6),
  client: fc.integer({ min: 1, max: 250 }),
  sport: fc.integer({ min: 1, max: 65_535 }),
  protocol: fc.constantFrom('tcp', 'udp'),
});

describe('flows over both families', () => {
  it('land at a real of their vip, always the same, and come out as they went in', () => {
    const unpack = unpacker();
    fc.assert(
      fc.property(fc.array(anyFlow, { minLength: 10, maxLength: 30 }), (flows) => {
        const { send } = balancer({ vips: vips(both) });
        for (const flow of flows) {
          const first = send(request(flow, { syn: true }));
          expect(addresses).toContain(first.real);
          expect(send(request(flow)).real).toBe(first.real);
          expect(send(request(flow)).real).toBe(first.real);
          const inside = unpack(first.packet);
          expect(inside).toNext();
          expect(inside.packet.subarray(14)).toEqual(request(flow, { syn: true }).bytes().subarray(14));
        }
      }),
      { numRuns: 10 },
    );
  });

  it('stay where they are when others come and go, whichever family the reals have', () => {
    const { controller, send } = balancer({ vips: vips(both) });
    const flows = Array.from({ length: 60 }, (_, i): FlowOf => {
      return { family: i % 2 === 0 ? 4 : 6, client: i + 1, sport: 1000 + i, protocol: i % 3 === 0 ? 'udp' : 'tcp' };
    });
    const before = flows.map((flow) => send(request(flow)).real);
    expect(new Set(before)).toEqual(new Set(addresses));
    for (const address of ['10.0.1.1', 'fd00:1::1']) controller.drain(address);
    expect(flows.map((flow) => send(request(flow)).real)).toEqual(before);
    const anew = flows.filter(({ protocol }) => protocol === 'tcp').map((flow) => send(request(flow, { syn: true })).real);
    expect(new Set(anew)).toEqual(new Set(['10.0.1.2', 'fd00:1::2']));
    controller.restore('fd00:1:0::1');
    expect(controller.state()[3]?.reals.map(({ condition }) => condition)).toEqual(['draining', 'active', 'active', 'active']);
  });

  it('leave a real that is down, and the others do not move', () => {
    const { send, setWell } = balancer({ vips: vips(both) });
    const flows = Array.from({ length: 60 }, (_, i): FlowOf => ({ family: 6, client: i + 1, sport: 1000 + i, protocol: 'tcp' }));
    const before = flows.map((flow) => send(request(flow)).real);
    setWell('fd00:1::2', false);
    for (const [i, flow] of flows.entries()) {
      const now = send(request(flow)).real;
      if (before[i] === 'fd00:1::2') expect(now).not.toBe('fd00:1::2');
      else expect(now).toBe(before[i]);
    }
    for (const { address } of both) setWell(address, false);
    expect(flows.map((flow) => send(request(flow)).path.at(-1))).toEqual(flows.map(() => 'pick6'));
  });

  it('are told apart by vip, port and every part of the client', () => {
    const { controller, send } = balancer({ vips: vips([real(6, 1)]) });
    const flow: FlowOf = { family: 6, client: 1, sport: 7, protocol: 'tcp' };
    expect(send(request(flow)).real).toBe('fd00:1::1');
    for (const [i, options] of vips([]).entries()) {
      controller.addReal(options, { ...real(6, 9), address: `fd00:1::9${i}` });
      controller.removeReal(options, 'fd00:1::1');
    }
    expect(send(request(flow)).real).toBe('fd00:1::92');
    expect(send(request({ ...flow, protocol: 'udp' })).real).toBe('fd00:1::93');
    expect(send(request({ ...flow, family: 4 })).real).toBe('fd00:1::90');
    expect(controller.traffic().map(({ packets }) => packets)).toEqual([1n, 0n, 2n, 1n]);
  });

  it('are forgotten before somebody else gets their number', () => {
    const { controller, send } = balancer({ maxVips: 1, maxReals: 2, vips: [] });
    const web = { address: VIP[6], port: 80, protocol: 'tcp', health: false } as const;
    const flow: FlowOf = { family: 6, client: 1, sport: 7, protocol: 'tcp' };
    controller.addVip({ ...web, reals: [real(6, 1)] });
    expect(send(request(flow)).real).toBe('fd00:1::1');
    controller.removeReal(web, 'fd00:1::1');
    controller.addReal(web, real(4, 3));
    controller.addReal(web, real(4, 4));
    controller.drain('10.0.1.4');
    // 10.0.1.4 has the number that fd00:1::1 had: the flow must not follow it
    expect(send(request(flow)).real).toBe('10.0.1.3');
    controller.removeVip('[2001:DB8::2]:80/tcp'.toLowerCase());
    expect(send(request(flow)).verdict).toBe('notVip');
  });
});

describe.each([
  [4, 4, '10.0.0.1', 20],
  [6, 4, '10.0.0.1', 20],
  [4, 6, 'fd00::1', 40],
  [6, 6, 'fd00::1', 40],
] as const)('IPv%i to a real with IPv%i', (family, outer, source, added) => {
  const flow: FlowOf = { family, client: 1, sport: 7, protocol: 'udp' };
  const marked = (size: number, fields: object = {}) =>
    (family === 4
      ? packet().ipv4({ saddr: clientOf(flow), daddr: VIP[4], tos: 0xb9, dontFragment: true, ...fields })
      : packet().ipv6({ saddr: clientOf(flow), daddr: VIP[6], trafficClass: 0xb9, flowLabel: 0x12345, ...fields })
    )
      .udp({ sport: 7, dport: 53 })
      .payload(size);
  const headers = family === 4 ? 28 : 48;

  it('goes in an outer header of that family', () => {
    const { send } = balancer({ vips: vips([real(outer, 1)]) });
    const sent = send(marked(20));
    expect(sent.packet).toHaveLength(14 + added + headers + 20);
    expect(sent.packet.subarray(14 + added)).toEqual(marked(20).bytes().subarray(14));
    const [ethernet, network] = parse(sent.packet);
    expect(ethernet?.fields).toMatchObject({ dst: HOP, src: '02:00:00:00:00:02' });
    const protocol = String(family === 4 ? IpProtocol.ipip : IpProtocol.ipv6);
    expect(network?.fields).toMatchObject(
      outer === 4
        ? {
            saddr: source,
            daddr: '10.0.1.1',
            protocol,
            ttl: '64',
            tos: '0xb9',
            dontFragment: 'true',
            totalLength: String(20 + headers + 20),
          }
        : { saddr: source, daddr: 'fd00:1::1', nextHeader: protocol, hopLimit: '64', payloadLength: String(headers + 20) },
    );
    expect(network?.problems).toEqual([]);
    if (outer === 6) {
      const first = new DataView(sent.packet.buffer, sent.packet.byteOffset).getUint32(14);
      expect(first.toString(16)).toBe(family === 4 ? '6b900000' : '6b912345');
    }
  });

  it('is answered with the size that fits where it does not', () => {
    const { send } = balancer({ vips: vips([real(outer, 1)]) });
    const fits = 1_500 - added;
    expect(send(marked(fits - headers)).real).toBe(outer === 4 ? '10.0.1.1' : 'fd00:1::1');
    const large = marked(fits - headers + 1);
    const answer = send(large);
    expect(answer.verdict).toBe('tx');
    expect({ ...answer, meta: {} }).toHaveValidChecksums();
    const [ethernet, network] = parse(answer.packet);
    expect(ethernet?.fields).toMatchObject({ src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' });
    expect(network?.fields).toMatchObject({ saddr: VIP[family], daddr: clientOf(flow) });
    const view = new DataView(answer.packet.buffer, answer.packet.byteOffset);
    if (family === 4) expect([view.getUint16(34), view.getUint32(38)]).toEqual([0x0304, fits]);
    else expect([view.getUint16(54), view.getUint32(58)]).toEqual([0x0200, fits]);
    const quoted = answer.packet.subarray(family === 4 ? 42 : 62);
    expect(quoted).toEqual(large.bytes().subarray(14, 14 + (family === 4 ? 68 : 128)));
  });

  it('is never answered to nobody, nor an ICMP error', () => {
    const { send } = balancer({ vips: vips([real(outer, 1)]) });
    send(marked(20));
    const size = 1_500 - added - headers + 1;
    const nobody = family === 4 ? ['0.0.0.0', '224.0.0.1', '255.255.255.255'] : ['::', 'ff02::1'];
    for (const saddr of nobody) expect(send(marked(size, { saddr })).verdict).toBe('drop');
    const large = error(family, reply(flow), { type: family === 4 ? 3 : 1, quoted: 1_480 - added - 8 });
    const answer = send(large);
    if (large.bytes().length > 14 + 1_500 - added)
      expect([answer.verdict, answer.path.at(-1)]).toEqual(['drop', family === 4 ? 'tooBig' : 'tooBig6']);
    else expect(answer.real).toBeDefined();
  });
});

describe('frames with VLAN tags', () => {
  const tags = [[7], [7, 0xabc]] as const;
  const tagged = (frame: Packet | Uint8Array, ids: readonly number[]): Uint8Array => {
    const bytes = frameBytes(frame);
    return Uint8Array.from([...bytes.subarray(0, 12), ...ids.flatMap((id) => [0x81, 0, id >> 8, id & 255]), ...bytes.subarray(12)]);
  };
  const far = (family: Family) => ({ ...real(family, 1), nextHop: { mac: HOP, egress: { ifindex: 5, mac: '02:00:00:00:00:05' } } });

  it('keep them where they go back, and lose them on the way out of another interface', () => {
    for (const outer of [4, 6] as const) {
      const [back, away] = [balancer({ vips: vips([real(outer, 1)]) }), balancer({ vips: vips([far(outer)]) })];
      for (const family of [4, 6] as const)
        for (const ids of tags) {
          const flow: FlowOf = { family, client: 1, sport: 7, protocol: 'tcp' };
          const plain = request(flow);
          expect(back.send(tagged(plain, ids)).packet).toEqual(tagged(back.send(plain).packet, ids));
          expect(away.send(tagged(plain, ids))).toMatchObject({ verdict: 'redirect', packet: away.send(plain).packet });
        }
    }
  });

  it('keep them in answers, and out of tunnels', () => {
    const { send } = balancer({ vips: vips([real(4, 1)]) });
    const unpack = unpacker();
    for (const family of [4, 6] as const)
      for (const ids of tags) {
        const flow: FlowOf = { family, client: 1, sport: 7, protocol: 'udp' };
        const large = (family === 4 ? packet().ipv4({ saddr: clientOf(flow), daddr: VIP[4], dontFragment: true }) : toVip(flow))
          .udp({ sport: 7, dport: 53 })
          .payload(1_460);
        const ping = family === 4 ? packet().ipv4().icmp().payload(9) : packet().ipv6().icmpv6().payload(9);
        for (const asks of [large, ping]) {
          const answer = send(tagged(asks, ids));
          expect(answer.verdict).toBe('tx');
          expect(answer.packet).toEqual(tagged(send(asks).packet, ids));
        }
        expect(unpack(send(tagged(request(flow), ids)).packet).packet.subarray(12)).toEqual(tagged(request(flow), ids).subarray(12));
        const about = error(family, reply(flow), { type: 3 });
        expect(send(tagged(about, ids)).packet).toEqual(tagged(send(about).packet, ids));
        for (const cut of truncations(tagged(request(flow), ids))) expect(['notVip', 'drop']).toContain(send(cut).verdict);
      }
  });
});

describe('ICMP errors', () => {
  const types = { 4: [3, 11, 12], 6: [1, 2, 3, 4] } as const;

  it('about a flow go where the flow goes, whatever became of the ring', () => {
    const unpack = unpacker();
    fc.assert(
      fc.property(fc.array(anyFlow, { minLength: 5, maxLength: 15 }), fc.nat(11), (flows, chosen) => {
        const { controller, send } = balancer({ vips: vips(both) });
        // half of them known, half not
        const homes = flows.map((flow, i) => (i % 2 === 0 ? send(request(flow)).real : undefined));
        for (const [i, flow] of flows.entries()) {
          const type = types[flow.family][chosen % types[flow.family].length] ?? 3;
          const sent = error(flow.family, reply(flow), { type, code: 4 });
          const left = send(sent);
          expect(addresses).toContain(left.real);
          expect(left.real).toBe(homes[i] ?? send(request(flow)).real);
          expect(unpack(left.packet).packet.subarray(14)).toEqual(sent.bytes().subarray(14));
        }
        const drained = homes[0] ?? '';
        controller.drain(drained);
        const flow = flows[0] as FlowOf;
        expect(send(error(flow.family, reply(flow), { type: 3 })).real).toBe(drained);
      }),
      { numRuns: 10 },
    );
  });

  it('about anything else go to the network stack', () => {
    const { send } = balancer({ vips: vips(both) });
    const passes = (frame: Packet | Uint8Array): void => {
      const left = send(frame);
      expect([left.verdict, left.path.at(-1)]).toEqual(['pass', 'icmpError']);
      expect(left.packet).toEqual(frameBytes(frame));
    };
    for (const family of [4, 6] as const) {
      const flow: FlowOf = { family, client: 1, sport: 7, protocol: 'tcp' };
      const type = family === 4 ? 3 : 1;
      const from = (saddr: string) => (family === 4 ? packet().ipv4({ saddr }) : packet().ipv6({ saddr }));
      // another address, another port, another protocol
      passes(error(family, from(family === 4 ? '198.51.100.9' : 'fd00::9').tcp({ sport: 80 }), { type }));
      passes(error(family, from(VIP[family]).tcp({ sport: 81 }), { type }));
      passes(error(family, from(VIP[family]).udp({ sport: 80 }), { type }));
      passes(error(family, family === 4 ? from(VIP[4]).icmp() : from(VIP[6]).icmpv6(), { type }));
      // quotes that are cut too short
      const whole = family === 4 ? 28 : 48;
      for (let quoted = 0; quoted < whole; quoted++) passes(error(family, reply(flow), { type, quoted }));
      // as far as the error's own length goes, not what follows it
      passes(error(family, reply(flow), { type, quoted: whole - 4 }).padTo(200));
      for (const cut of truncations(error(family, reply(flow), { type }), 42)) expect(['notVip', 'drop']).toContain(send(cut).verdict);
    }
    passes(error(4, packet().ipv4({ saddr: VIP[4], fragmentOffset: 8 }).tcp({ sport: 80 }), { type: 3 }));
    passes(error(4, packet().ipv4({ saddr: VIP[4], version: 6 }).tcp({ sport: 80 }), { type: 3 }));
    passes(error(4, packet().ipv4({ saddr: VIP[4], ihl: 4 }).tcp({ sport: 80 }), { type: 3 }));
    passes(error(6, packet().ipv6({ saddr: VIP[6], version: 4 }).tcp({ sport: 80 }), { type: 1 }));
  });

  it('quote headers with options', () => {
    const { send } = balancer({ vips: vips([real(4, 1)]) });
    for (let words = 1; words <= 10; words++) {
      const about = packet()
        .ipv4({ saddr: VIP[4], daddr: '192.0.2.1', options: new Uint8Array(4 * words).fill(1) })
        .tcp({ sport: 80, dport: 7 });
      expect(send(error(4, about, { type: 3, code: 4, quoted: 28 + 4 * words })).real).toBe('10.0.1.1');
      expect(send(error(4, about, { type: 3, code: 4, quoted: 27 + 4 * words })).verdict).toBe('pass');
    }
  });
});

describe('echo', () => {
  const ask = (family: Family, fields: object = {}, size = 56) =>
    family === 4
      ? packet()
          .ipv4({ saddr: '192.0.2.1', daddr: VIP[4], ttl: 3, tos: 0x10, ...fields })
          .icmp({ id: 7, sequence: 9 })
          .payload(size)
      : packet()
          .ipv6({ saddr: '2001:db8:c::1', daddr: VIP[6], hopLimit: 3, ...fields })
          .icmpv6({ id: 7, sequence: 9 })
          .payload(size);

  it.each([4, 6] as const)('is answered in the place of a vip over IPv%i', (family) => {
    const { send } = balancer({ vips: vips([]) });
    fc.assert(
      fc.property(fc.nat(1_400), fc.integer({ min: 1, max: 255 }), (size, ttl) => {
        const left = send(ask(family, family === 4 ? { ttl } : { hopLimit: ttl }, size));
        expect([left.verdict, ...left.path]).toEqual(['tx', 'vip', 'echo']);
        const frame = packet().ethernet({ src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' });
        const answer =
          family === 4
            ? frame.ipv4({ saddr: VIP[4], daddr: '192.0.2.1', tos: 0x10 }).icmp({ type: 0, id: 7, sequence: 9 }).payload(size)
            : frame.ipv6({ saddr: VIP[6], daddr: '2001:db8:c::1' }).icmpv6({ type: 129, id: 7, sequence: 9 }).payload(size);
        expect(left.packet).toEqual(answer.bytes());
      }),
      { numRuns: 40 },
    );
  });

  it('is left alone at other addresses, in fragments, and where nobody may be answered', () => {
    const { send } = balancer({ vips: vips([]) });
    expect(send(ask(4, { daddr: '198.51.100.2' })).verdict).toBe('notVip');
    expect(send(ask(6, { daddr: '2001:db8::3' })).verdict).toBe('notVip');
    expect(send(ask(4, { options: new Uint8Array(4).fill(1) })).verdict).toBe('notVip');
    for (const family of [4, 6] as const)
      for (const fragment of fragments(ask(family, {}, 100), 48)) expect(send(fragment)).toMatchObject({ verdict: 'drop', path: ['vip'] });
    for (const saddr of ['0.0.0.0', '224.0.0.1', '255.255.255.255']) expect(send(ask(4, { saddr })).verdict).toBe('drop');
    for (const saddr of ['::', 'ff02::1']) expect(send(ask(6, { saddr })).verdict).toBe('drop');
    for (const family of [4, 6] as const)
      for (const cut of truncations(ask(family))) expect(['notVip', 'drop']).toContain(send(cut).verdict);
  });

  it('goes to the network stack where that is wanted', () => {
    const { send } = balancer({ vips: vips([]), echo: false });
    for (const family of [4, 6] as const) {
      const left = send(ask(family));
      expect([left.verdict, ...left.path]).toEqual(['pass', 'vip']);
      expect(left.packet).toEqual(ask(family).bytes());
    }
  });
});

describe('over IPv6', () => {
  it('neighbour discovery, and what else is no echo request, passes by', () => {
    const { send } = balancer({ vips: vips(both) });
    for (const type of [0, 5, 127, 129, 130, 133, 134, 135, 136, 137, 143])
      for (const daddr of [VIP[6], 'ff02::1:ff00:2', 'ff02::1'])
        expect(send(packet().ipv6({ daddr, hopLimit: 255 }).icmpv6({ type }).payload(24)).verdict).toBe('notVip');
  });

  it('what is cut short or lies is dropped, and fragments are', () => {
    const { send } = balancer({ vips: vips(both) });
    const flow: FlowOf = { family: 6, client: 1, sport: 7, protocol: 'tcp' };
    for (const protocol of ['tcp', 'udp'] as const)
      for (const cut of truncations(request({ ...flow, protocol }).payload(5))) expect(['notVip', 'drop']).toContain(send(cut).verdict);
    const lying = (payloadLength: number) => packet().ipv6({ daddr: VIP[6], payloadLength }).tcp();
    for (const payloadLength of [4, 19, 21, 65_535]) expect(send(lying(payloadLength))).toMatchObject({ verdict: 'drop', path: ['vip'] });
    expect(send(lying(3)).verdict).toBe('notVip');
    expect(send(request(flow).padTo(120)).real).toBeDefined();
    for (const fragment of fragments(request(flow).payload(100), 48))
      expect(send(fragment)).toMatchObject({ verdict: 'drop', path: ['vip'] });
    const elsewhere = packet().ipv6({ daddr: '2001:db8::9' }).udp().payload(100);
    for (const fragment of fragments(elsewhere, 48)) expect(send(fragment).verdict).toBe('notVip');
  });

  it('extension headers are looked past', () => {
    const { send } = balancer({ vips: vips(both) });
    const flow: FlowOf = { family: 6, client: 1, sport: 7, protocol: 'tcp' };
    const home = send(request(flow)).real;
    const behind = [toVip(flow).hopByHop(), toVip(flow).destination().routing(), toVip(flow).fragment({ moreFragments: false })];
    for (const headers of behind) expect(send(headers.tcp({ sport: 7, dport: 80 })).real).toBe(home);
    for (const headers of behind) expect(send(headers.icmpv6()).path).toEqual(['vip', 'echo']);
    for (const headers of behind) expect(send(headers.icmpv6({ type: 136 })).verdict).toBe('notVip');
  });

  it('tells what is missing for a real', () => {
    const said = (run: () => unknown): string => {
      try {
        run();
      } catch (error) {
        return String(error);
      }
      return 'nothing';
    };
    const web = { address: VIP[6], port: 80, protocol: 'tcp' } as const;
    expect(
      [
        () => balancer({ source: '10.0.0.1', vips: [{ ...web, reals: [real(4, 1)] }] }),
        () => balancer({ source: '10.0.0.1', vips: [{ ...web, reals: [real(6, 1)] }] }),
        () => balancer({ source: 'fd00::1', vips: [{ ...web, reals: [real(4, 1)] }] }),
        () => balancer({ mtu: 1_319, vips: [{ ...web, reals: [real(6, 1)] }] }),
        () =>
          balancer({
            mtu: 1_319,
            vips: [
              { ...web, reals: [real(4, 1)] },
              { ...web, address: VIP[4], reals: [real(6, 1)] },
            ],
          }),
        () => balancer({ vips: [{ ...web, address: '2001:db8:::1' }] }),
        () => balancer({ vips: [web, { ...web, address: '2001:DB8:0::2' }] }),
      ].map(said),
    ).toMatchInlineSnapshot(`
      [
        "nothing",
        "ArgumentError: real fd00:1::1 of [2001:db8::2]:80/tcp: the balancer has no IPv6 source, expected an address of its own",
        "ArgumentError: real 10.0.1.1 of [2001:db8::2]:80/tcp: the balancer has no IPv4 source, expected an address of its own",
        "ArgumentError: real fd00:1::1 of [2001:db8::2]:80/tcp: mtu is 1319, expected at least 1320 for packets of IPv6 in an outer header",
        "nothing",
        "ArgumentError: ipv6: '2001:db8:::1' is no IPv6 address, expected eight groups of hex digits, or '::' for some",
        "ArgumentError: vip [2001:db8::2]:80/tcp is there already",
      ]
    `);
  });
});

import '@tailrace/testing/matchers';
import { ArgumentError } from '@tailrace/stage';
import { fragments, type Packet, packet, parse, truncations } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { setDrained } from '../config.ts';
import { type L4lbNatOptions, l4lb, type VipOptions } from '../index.ts';
import { HOP, real, SOURCE, simulatedNat } from './fixture.ts';

const VIP = '198.51.100.1';
const CLIENT = '192.0.2.1';
const REAL = '10.1.0.1';
const OTHER = '10.1.0.2';
const web: VipOptions = { address: VIP, port: 80, protocol: 'tcp', realPort: 8080, reals: [real(REAL)] };
const dns: VipOptions = { address: VIP, port: 53, protocol: 'udp', realPort: 5353, reals: [real(REAL)] };
const second = 1n << 30n;

const from = (saddr = CLIENT, more: Parameters<Packet['ipv4']>[0] = {}) => packet().ipv4({ saddr, daddr: VIP, ...more });
const syn = (sport: number, saddr = CLIENT) => from(saddr).tcp({ sport, dport: 80, syn: true });
const data = (sport: number, saddr = CLIENT) => from(saddr).tcp({ sport, dport: 80, ack: true, psh: true }).payload('request');
const asked = (sport: number, saddr = CLIENT) => from(saddr).udp({ sport, dport: 53 }).payload('question');

/** `10.0.0.1:2000 > 10.1.0.1:8080`, of the outermost IP header. */
function ends(frame: Packet | Uint8Array): string {
  const layers = parse(frame);
  const network = layers.find(({ kind }) => kind === 'ipv4')?.fields;
  const transport = layers.find(({ kind }) => kind === 'tcp' || kind === 'udp')?.fields;
  return `${network?.saddr}:${transport?.sport} > ${network?.daddr}:${transport?.dport}`;
}
const portOf = (frame: Uint8Array): number => Number(/:(\d+) >/.exec(ends(frame))?.[1]);

/** What a real sends back to the balancer's port. */
const answered = (port: number, saddr = REAL, more: Parameters<Packet['ipv4']>[0] = {}) =>
  packet()
    .ipv4({ saddr, daddr: SOURCE, ...more })
    .tcp({ sport: 8080, dport: port, syn: true, ack: true });

describe('translate', () => {
  it('gives requests the address of the balancer and a port of its own', () => {
    const lb = simulatedNat([web, dns]);
    const sent = lb.request(data(1234));
    expect(sent).toTx();
    const port = portOf(sent.packet);
    expect(port).toBeGreaterThanOrEqual(1_024);
    expect(port).toBeLessThanOrEqual(32_767);
    expect(sent).toEqualPacket(
      packet()
        .ethernet({ src: '02:00:00:00:00:02', dst: HOP })
        .ipv4({ saddr: SOURCE, daddr: REAL })
        .tcp({ sport: port, dport: 8080, ack: true, psh: true })
        .payload('request'),
    );
    const question = lb.request(asked(1234));
    expect(question).toEqualPacket(
      packet()
        .ethernet({ src: '02:00:00:00:00:02', dst: HOP })
        .ipv4({ saddr: SOURCE, daddr: REAL })
        .udp({ sport: portOf(question.packet), dport: 5353 })
        .payload('question'),
    );
    // as long as it lasts
    for (let i = 0; i < 3; i++) expect(portOf(lb.request(data(1234)).packet)).toBe(port);
  });

  it('leaves a UDP checksum of zero as it is', () => {
    const lb = simulatedNat([dns]);
    const sent = lb.request(from().udp({ sport: 1, dport: 53, checksum: 0 }).payload('x'));
    expect(parse(sent.packet).find(({ kind }) => kind === 'udp')?.fields.checksum).toBe('0x0000');
  });

  it('changes no IP options, and finds what is behind them', () => {
    const lb = simulatedNat([web, dns]);
    for (let words = 1; words <= 10; words++) {
      const options = new Uint8Array(4 * words).fill(1);
      for (const frame of [
        from(CLIENT, { options }).tcp({ sport: 7, dport: 80 }),
        from(CLIENT, { options }).udp({ sport: 7, dport: 53 }).payload(9),
      ]) {
        const sent = lb.request(frame);
        expect(sent).toTx();
        expect(sent).toHaveValidChecksums();
        expect(sent.packet.subarray(34, 34 + 4 * words)).toEqual(options);
        expect(ends(sent.packet)).toMatch(/^10\.0\.0\.1:\d+ > 10\.1\.0\.1:(8080|5353)$/);
      }
    }
  });

  it('keeps VLAN tags where the frame goes back, and takes them off where it leaves elsewhere', () => {
    const away = real(OTHER, { mac: HOP, egress: { ifindex: 7, mac: '02:00:00:00:07:07' } });
    for (const tags of [1, 2]) {
      const tagged = (frame: Packet): Uint8Array => {
        const bytes = frame.bytes();
        const put = tags === 1 ? [0x81, 0, 0, 5] : [0x88, 0xa8, 0, 4, 0x81, 0, 0, 5];
        return Uint8Array.from([...bytes.subarray(0, 12), ...put, ...bytes.subarray(12)]);
      };
      const back = simulatedNat([web]).request(tagged(data(5)));
      expect(back).toTx();
      expect(back).toHaveValidChecksums();
      expect(parse(back.packet).filter(({ kind }) => kind === 'vlan')).toHaveLength(tags);
      const left = simulatedNat([{ ...web, reals: [away] }]).request(tagged(data(5)));
      expect(left).toRedirect(7);
      expect(left.stage).toBe('send');
      expect(left).toEqualPacket(
        packet()
          .ethernet({ src: '02:00:00:00:07:07', dst: HOP })
          .ipv4({ saddr: SOURCE, daddr: OTHER })
          .tcp({ sport: portOf(left.packet), dport: 8080, ack: true, psh: true })
          .payload('request'),
      );
    }
    const plain = simulatedNat([{ ...web, reals: [away] }]).request(data(5));
    expect([plain.stage, plain.redirect]).toEqual(['translate', { ifindex: 7 }]);
    expect(parse(plain.packet)[0]?.fields).toMatchObject({ src: '02:00:00:00:07:07', dst: HOP });
  });

  it('sends nothing on that is broken', () => {
    const lb = simulatedNat([web, dns]);
    for (const piece of fragments(from().udp({ dport: 53 }).payload(100), 24)) expect(lb.request(piece)).toExit('fragment');
    for (const frame of [
      data(9),
      asked(9),
      from(CLIENT, { options: new Uint8Array(8) })
        .tcp({ dport: 80 })
        .payload(3),
    ])
      for (const cut of truncations(frame)) expect(['exit', 'drop']).toContain(lb.request(cut).verdict);
    // a header of UDP that ends behind its ports takes no port of anybody's
    expect(lb.request(from(CLIENT, { totalLength: 24 }).udp({ sport: 77, dport: 53 }))).toDrop();
    expect(lb.leases.entries().filter(({ flow }) => ((flow >> 16n) & 0xffffn) === 77n)).toEqual([]);
  });

  it('has a port for each flow to a real, whoever sends it to whatever vip', () => {
    const admin: VipOptions = { ...web, port: 443 };
    const lb = simulatedNat([web, admin, dns]);
    const sources = [
      lb.request(data(1234)),
      lb.request(data(1234, '192.0.2.2')),
      lb.request(data(1235)),
      lb.request(from().tcp({ sport: 1234, dport: 443, ack: true })),
    ].map(({ packet }) => ends(packet));
    expect(new Set(sources).size).toBe(4);
    const back = [0, 3].map((at) => lb.answer(answered(Number(/:(\d+)/.exec(sources[at] ?? '')?.[1]))).packet);
    expect(back.map(ends)).toEqual([`${VIP}:80 > ${CLIENT}:1234`, `${VIP}:443 > ${CLIENT}:1234`]);
  });

  it('does not look at the ports of another protocol, or another real', () => {
    const tcp: VipOptions = { ...web, port: 53, realPort: 53, reals: [real(REAL)] };
    const udp: VipOptions = { ...tcp, protocol: 'udp' };
    const lb = simulatedNat([tcp, udp], { ports: { from: 2_000, to: 2_000 } });
    expect(ends(lb.request(from().tcp({ sport: 1, dport: 53, ack: true })).packet)).toBe(`${SOURCE}:2000 > ${REAL}:53`);
    expect(ends(lb.request(from().udp({ sport: 1, dport: 53 })).packet)).toBe(`${SOURCE}:2000 > ${REAL}:53`);
    expect(lb.request(from().udp({ sport: 2, dport: 53 }))).toExit('noPort');
  });
});

describe('ports', () => {
  const one = { ports: { from: 2_000, to: 2_000 } };

  it('are all found in small ranges', () => {
    for (let ports = 1; ports <= 6; ports++) {
      const lb = simulatedNat([web], { ports: { from: 65_535 - ports + 1, to: 65_535 } });
      const used = Array.from({ length: ports }, (_, i) => portOf(lb.request(syn(100 + i)).packet));
      expect(new Set(used)).toEqual(new Set(Array.from({ length: ports }, (_, i) => 65_535 - i)));
      expect(lb.request(syn(99))).toExit('noPort');
    }
  });

  it('are found while half of a range is taken, whatever its size', () => {
    for (const ports of [100, 7_919, 15_838]) {
      const lb = simulatedNat([web], { ports: { from: 1_024, to: 1_023 + ports }, maxFlows: 4_096 });
      const half = Math.min(Math.floor(ports / 2), 500);
      const used = Array.from({ length: half }, (_, i) => portOf(lb.request(syn(1_000 + i)).packet));
      expect(new Set(used).size).toBe(half);
    }
  });

  it('are taken from flows that were idle for long enough', () => {
    const lb = simulatedNat([web], one);
    const wanted = (seconds: bigint, frame: Packet): string => {
      lb.at.now += seconds * second;
      const { exit, packet } = lb.request(frame);
      return exit ?? ends(packet);
    };
    const got = `${SOURCE}:2000 > ${REAL}:8080`;
    expect(wanted(0n, syn(1))).toBe(got);
    // not before somebody has wanted it for 60 s
    expect(wanted(1_000n, syn(2))).toBe('noPort');
    expect(wanted(60n, syn(2))).toBe('noPort');
    expect(wanted(1n, syn(2))).toBe(got);
    expect(wanted(0n, data(1))).toBe('noPort');

    // one that was answered keeps it longer, and every packet counts
    expect(ends(lb.answer(answered(2_000)).packet)).toBe(`${VIP}:80 > ${CLIENT}:2`);
    expect(wanted(100n, syn(3))).toBe('noPort');
    expect(wanted(6_000n, data(2))).toBe(got);
    expect(wanted(6_000n, syn(3))).toBe('noPort');
    expect(wanted(6_930n, syn(3))).toBe('noPort');
    lb.answer(packet().ipv4({ saddr: REAL, daddr: SOURCE }).tcp({ sport: 8080, dport: 2_000, ack: true }));
    expect(wanted(100n, syn(3))).toBe('noPort');
    expect(wanted(6_930n, syn(3))).toBe('noPort');
    expect(wanted(1n, syn(3))).toBe(got);
  });

  it.each([
    ['the client finishes', (lb: ReturnType<typeof simulatedNat>) => lb.request(from().tcp({ sport: 1, dport: 80, fin: true, ack: true }))],
    ['the client resets', (lb: ReturnType<typeof simulatedNat>) => lb.request(from().tcp({ sport: 1, dport: 80, rst: true }))],
    [
      'the real finishes',
      (lb: ReturnType<typeof simulatedNat>) =>
        lb.answer(packet().ipv4({ saddr: REAL, daddr: SOURCE }).tcp({ sport: 8080, dport: 2_000, fin: true, ack: true })),
    ],
    [
      'the real resets',
      (lb: ReturnType<typeof simulatedNat>) =>
        lb.answer(packet().ipv4({ saddr: REAL, daddr: SOURCE }).tcp({ sport: 8080, dport: 2_000, rst: true, ack: true })),
    ],
  ])('are free soon when %s, unless the connection is opened again', (_, close) => {
    for (const again of [false, true]) {
      const lb = simulatedNat([web], one);
      lb.request(syn(1));
      lb.answer(answered(2_000));
      close(lb);
      if (again) {
        lb.request(syn(1));
        lb.answer(answered(2_000));
      }
      expect(lb.request(syn(2))).toExit('noPort');
      lb.at.now += 31n * second;
      expect(lb.request(syn(2)).exit ?? 'got it').toBe(again ? 'noPort' : 'got it');
    }
  });

  it('stay with a flow when those before them become free', () => {
    const lb = simulatedNat([web], { ports: { from: 2_000, to: 2_007 } });
    const ports = new Map(Array.from({ length: 6 }, (_, i) => [i, portOf(lb.request(syn(i)).packet)] as const));
    for (const [flow, port] of ports) {
      const mine = (which: bigint): boolean => ((which >> 16n) & 0xffffn) === BigInt(flow);
      // everybody else is forgotten; then this one too
      lb.leases.forget((which) => !mine(which));
      expect(portOf(lb.request(data(flow)).packet)).toBe(port);
      for (const other of ports.keys()) lb.request(data(other));
    }
  });

  it('are the same again for a flow that was forgotten', () => {
    const lb = simulatedNat([web], { maxFlows: 64 });
    const ports = new Map(Array.from({ length: 40 }, (_, i) => [i, portOf(lb.request(syn(i)).packet)] as const));
    for (let i = 1_000; i < 1_200; i++) lb.request(syn(i));
    expect(lb.leases.entries()).toHaveLength(64);
    for (const [flow, port] of ports) {
      expect(portOf(lb.request(data(flow)).packet)).toBe(port);
      expect(ends(lb.answer(answered(port)).packet)).toBe(`${VIP}:80 > ${CLIENT}:${flow}`);
    }
  });

  it('are one for the packets of a flow on several CPUs', () => {
    const lb = simulatedNat([web, dns]);
    for (let flow = 0; flow < 20; flow++)
      for (const frame of [syn(flow), asked(flow)]) {
        const ports = [0, 1, 0, 1].map((cpu) => {
          lb.at.cpu = cpu;
          return portOf(lb.request(frame).packet);
        });
        expect(new Set(ports).size).toBe(1);
      }
    expect(lb.leases.entries()).toHaveLength(40);
  });
});

describe('reply and restore', () => {
  it('bring answers to who asked, from the vip that was asked', () => {
    const lb = simulatedNat([web, dns]);
    const port = portOf(lb.request(data(1234)).packet);
    const arrived = lb.arrive(answered(port));
    expect(arrived).toNext();
    expect(arrived).toHaveValidChecksums();
    expect(ends(arrived.packet)).toBe(`${REAL}:8080 > ${CLIENT}:${port}`);
    const left = lb.leave(arrived.packet);
    expect(left).toNext();
    expect(left).toEqualPacket(packet().ipv4({ saddr: VIP, daddr: CLIENT }).tcp({ sport: 80, dport: 1234, syn: true, ack: true }));
    const question = portOf(lb.request(asked(99)).packet);
    for (const checksum of [undefined, 0]) {
      const fields = { sport: 5353, dport: question, ...(checksum === undefined ? {} : { checksum }) };
      const answer = packet().ipv4({ saddr: REAL, daddr: SOURCE }).udp(fields).payload('answer');
      expect(lb.answer(answer)).toEqualPacket(
        packet()
          .ipv4({ saddr: VIP, daddr: CLIENT })
          .udp({ ...fields, sport: 53, dport: 99 })
          .payload('answer'),
      );
    }
  });

  it('change no IP options', () => {
    const lb = simulatedNat([web]);
    const port = portOf(lb.request(data(1)).packet);
    for (let words = 1; words <= 10; words++) {
      const options = new Uint8Array(4 * words).fill(1);
      expect(lb.answer(answered(port, REAL, { options }))).toEqualPacket(
        packet().ipv4({ saddr: VIP, daddr: CLIENT, options }).tcp({ sport: 80, dport: 1, syn: true, ack: true }),
      );
    }
  });

  it('drop pieces of answers', () => {
    const lb = simulatedNat([dns]);
    const port = portOf(lb.request(asked(1)).packet);
    const answer = packet().ipv4({ saddr: REAL, daddr: SOURCE }).udp({ sport: 5353, dport: port }).payload(100);
    const [first, ...others] = fragments(answer, 40);
    expect(lb.arrive(first as Uint8Array)).toExit('fragment');
    for (const piece of others) expect(lb.arrive(piece)).toNext();
    // what ends within its header; what ends behind it the network stack drops
    for (const cut of truncations(answer)) if (cut.length < 42) expect([cut.length, lb.answer(cut).packet]).toEqual([cut.length, cut]);
  });

  it('leave alone what is none of theirs', () => {
    const lb = simulatedNat([web, dns]);
    const port = portOf(lb.request(data(1)).packet);
    const to = (fields: Parameters<Packet['ipv4']>[0]) => packet().ipv4({ saddr: REAL, daddr: SOURCE, ...fields });
    for (const frame of [
      to({ saddr: OTHER }).tcp({ sport: 8080, dport: port }),
      to({ daddr: '10.0.0.2' }).tcp({ sport: 8080, dport: port }),
      to({}).tcp({ sport: 8081, dport: port }),
      to({}).tcp({ sport: 8080, dport: port === 2_000 ? 2_001 : 2_000 }),
      // a health check: a port of the network stack's
      to({}).tcp({ sport: 8080, dport: 40_000 }),
      to({}).tcp({ sport: 8080, dport: 1_023 }),
      to({}).udp({ sport: 8080, dport: port }),
      to({}).icmp({ type: 8 }),
      to({}).icmp({ type: 3 }).payload(4),
      to({ protocol: 47 }).payload(40),
      packet().ipv6().tcp({ sport: 8080, dport: port }),
      packet().ethernet({ etherType: 0x0806 }).payload(46),
    ])
      for (const outcome of [lb.arrive(frame), lb.leave(frame)]) {
        expect(outcome).toNext();
        expect(outcome).toEqualPacket(frame);
      }
    // an answer of the real's to somebody whose connection does not go over the balancer
    const direct = packet().ipv4({ saddr: REAL, daddr: '192.0.2.77' }).tcp({ sport: 8080, dport: port });
    expect(lb.leave(direct)).toEqualPacket(direct);
  });
});

describe('reals', () => {
  const pair: VipOptions = { ...web, reals: [real(REAL), real(OTHER)] };
  const realOf = (frame: Uint8Array): string => / > ([\d.]+):/.exec(ends(frame))?.[1] ?? '';

  it('that die lose their flows, which stay where they went when the real comes back', () => {
    const lb = simulatedNat([pair]);
    const flows = Array.from({ length: 20 }, (_, i) => i);
    const before = flows.map((flow) => realOf(lb.request(syn(flow)).packet));
    expect(new Set(before)).toEqual(new Set([REAL, OTHER]));
    lb.setWell(REAL, false);
    const after = flows.map((flow) => lb.request(data(flow)).packet);
    expect(new Set(after.map(realOf))).toEqual(new Set([OTHER]));
    lb.setWell(REAL, true);
    expect(flows.map((flow) => ends(lb.request(data(flow)).packet))).toEqual(after.map(ends));
    for (const [flow, frame] of after.entries())
      expect(ends(lb.answer(answered(portOf(frame), OTHER)).packet)).toBe(`${VIP}:80 > ${CLIENT}:${flow}`);
  });

  it('that drain keep what they have and get nothing new, not even from a client port that they know', () => {
    const lb = simulatedNat([pair]);
    const flows = Array.from({ length: 20 }, (_, i) => i).filter((flow) => realOf(lb.request(syn(flow)).packet) === REAL);
    expect(flows.length).toBeGreaterThan(2);
    lb.change((before) => setDrained(before, REAL, true));
    for (const flow of flows) expect(realOf(lb.request(data(flow)).packet)).toBe(REAL);
    for (const flow of flows) expect(realOf(lb.request(syn(flow)).packet)).toBe(OTHER);
  });

  it('are told apart from those of vips that had the same number before', () => {
    const lb = simulatedNat([web]);
    const port = portOf(lb.request(data(1)).packet);
    lb.removeVip(`${VIP}:80/tcp`);
    expect(lb.request(data(1))).toExit('notVip');
    // what is under way still arrives
    expect(ends(lb.answer(answered(port)).packet)).toBe(`${VIP}:80 > ${CLIENT}:1`);
    for (const number of [1, 2, 3]) {
      lb.addVip({ address: '198.51.100.9', port: number, protocol: 'tcp' });
      lb.removeVip(`198.51.100.9:${number}/tcp`);
    }
    // the first number comes around
    lb.addVip({ ...web, address: '198.51.100.2' });
    expect(lb.leases.entries()).toEqual([]);
    expect(lb.answer(answered(port))).toEqualPacket(answered(port));
    const again = lb.request(packet().ipv4({ saddr: CLIENT, daddr: '198.51.100.2' }).tcp({ sport: 1, dport: 80, syn: true }));
    expect(ends(lb.answer(answered(portOf(again.packet))).packet)).toBe(`198.51.100.2:80 > ${CLIENT}:1`);
  });

  it('keep flows and their ports over a restart, whatever order vips and reals are in', () => {
    const both = { ...web, reals: [real(REAL), real(OTHER)] };
    const lb = simulatedNat([both, dns]);
    const flows = Array.from({ length: 16 }, (_, sport) => sport + 1);
    const before = flows.map((sport) => ends(lb.request(data(sport)).packet));
    const question = lb.request(asked(9)).packet;
    lb.restart([dns, { ...web, reals: [real(OTHER), real('10.1.0.3'), real(REAL)] }]);
    expect(flows.map((sport) => ends(lb.request(data(sport)).packet))).toEqual(before);
    expect(lb.request(asked(9)).packet).toEqual(question);
    // without its vip what is under way still arrives, and no more goes
    const [first = ''] = before;
    lb.restart([{ ...both, port: 81 }]);
    expect(lb.request(data(1))).toExit('notVip');
    const port = Number(/:(\d+) >/.exec(first)?.[1]);
    expect(ends(lb.answer(answered(port, / (\S+):8080$/.exec(first)?.[1])).packet)).toBe(`${VIP}:80 > ${CLIENT}:1`);
  });
});

describe('ICMP errors', () => {
  const ROUTER = '10.9.9.1';
  const quoting = (about: Packet | Uint8Array, to: string, length = 28, saddr = ROUTER) =>
    packet().ipv4({ saddr, daddr: to }).icmp({ type: 3, code: 4, id: 0, sequence: 1_400 }).quote(about, length);
  const sent = (lb: ReturnType<typeof simulatedNat>, frame: Packet) => lb.request(frame).packet;

  it('about requests come to the client, about what the client has sent', () => {
    const lb = simulatedNat([web, dns]);
    for (const type of [3, 11, 12])
      for (const [frame, length] of [
        [data(1234), 28],
        [from(CLIENT, { options: new Uint8Array(12).fill(1) }).tcp({ sport: 6, dport: 80 }), 40],
      ] as const) {
        const error = packet().ipv4({ saddr: ROUTER, daddr: SOURCE }).icmp({ type, code: 1 }).quote(sent(lb, frame), length);
        const told = lb.arrive(error);
        expect([told.stage, told.verdict]).toEqual(['replyError', 'next']);
        expect(told).toEqualPacket(packet().ipv4({ saddr: ROUTER, daddr: CLIENT }).icmp({ type, code: 1 }).quote(frame, length));
        expect(lb.leave(told.packet)).toEqualPacket(told.packet);
      }
    // the quoted checksum stays what the real would have seen
    const about = lb.arrive(quoting(sent(lb, asked(7)), SOURCE));
    expect(about).toHaveValidChecksums();
    expect(about.packet.subarray(42, 68)).toEqual(asked(7).bytes().subarray(14, 40));
  });

  it('about answers come to the real, about what the real has sent', () => {
    const lb = simulatedNat([web]);
    const port = portOf(sent(lb, data(1234)));
    const answer = answered(port);
    const error = quoting(lb.answer(answer).packet, VIP);
    const told = lb.request(error);
    expect(told).toTx();
    expect(told).toEqualPacket(
      packet()
        .ethernet({ src: '02:00:00:00:00:02', dst: HOP })
        .ipv4({ saddr: SOURCE, daddr: REAL })
        .icmp({ type: 3, code: 4, id: 0, sequence: 1_400 })
        .quote(answer, 28),
    );
  });

  it('of the network stack about answers come to the real', () => {
    const lb = simulatedNat([web]);
    const answer = answered(portOf(sent(lb, data(1234))));
    const error = quoting(lb.arrive(answer).packet, REAL, 28, SOURCE);
    const told = lb.leave(error);
    expect([told.stage, told.verdict]).toEqual(['restoreError', 'next']);
    expect(told).toEqualPacket(quoting(answer, REAL, 28, SOURCE));
  });

  it('about anything else stay as they are', () => {
    const lb = simulatedNat([web]);
    const request = sent(lb, data(1234));
    const answer = answered(portOf(request));
    const stranger = packet().ipv4({ saddr: SOURCE, daddr: OTHER }).tcp({ sport: 1_024, dport: 8080 });
    const [, later] = fragments(packet().ipv4({ saddr: SOURCE, daddr: REAL }).udp().payload(100), 40);
    for (const about of [stranger, stranger.bytes().subarray(0, 30), answer, later as Uint8Array]) {
      const error = quoting(about, SOURCE, 28);
      expect(lb.arrive(error)).toEqualPacket(error);
    }
    for (const length of [0, 4, 19, 20, 24, 27]) {
      const short = quoting(request, SOURCE, length);
      expect(lb.arrive(short)).toEqualPacket(short);
      expect(lb.arrive(short.padTo(120))).toEqualPacket(short.padTo(120));
      const restored = quoting(lb.arrive(answer).packet, REAL, length, SOURCE);
      expect(lb.leave(restored)).toEqualPacket(restored);
    }
    const other = quoting(answered(2_000), REAL, 28, SOURCE);
    expect(lb.leave(other)).toEqualPacket(other);
    // a flow that has no port any more
    const back = lb.answer(answer).packet;
    lb.leases.forget(() => true);
    expect(lb.request(quoting(back, VIP))).toDrop();
  });
});

describe('l4lb with NAT', () => {
  const options = { mode: 'nat', source: SOURCE } as const;

  it('refuses what cannot be', () => {
    const refused = (more: Partial<L4lbNatOptions>): string => {
      try {
        l4lb({ ...options, ...more });
      } catch (error) {
        if (error instanceof ArgumentError) return `${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}`;
      }
      return 'nothing';
    };
    expect(
      [
        { source: 'fd00::1' },
        { ports: { from: 0, to: 5 } },
        { ports: { from: 6, to: 5 } },
        { ports: { from: 1.5, to: 5 } },
        { ports: { from: 5, to: 65_536 } },
        { natFlows: 0 },
        { vips: [{ address: 'fd00::9', port: 80, protocol: 'tcp' as const }] },
        { vips: [{ ...web, reals: [{ address: 'fd00::9' }] }] },
        { vips: [{ ...web, address: SOURCE, port: 8080 }] },
        { vips: [{ ...web, realPort: 0 }] },
      ].map(refused),
    ).toMatchInlineSnapshot(`
      [
        "l4lb: source is 'fd00::1', expected an IPv4 address with NAT",
        "portLeases 'leases': ports are 0..5, expected a range within 1..65535",
        "portLeases 'leases': ports are 6..5, expected a range within 1..65535",
        "portLeases 'leases': ports are 1.5..5, expected a range within 1..65535",
        "portLeases 'leases': ports are 5..65536, expected a range within 1..65535",
        "portLeases 'leases': flows is 0, expected 1..4194304",
        "vip [fd00::9]:80/tcp is of IPv6, expected IPv4 with NAT",
        "real fd00::9 of 198.51.100.1:80/tcp is of IPv6, expected IPv4 with NAT",
        "vip 10.0.0.1:8080/tcp has the balancer's own address and one of its ports 1024..32767 (answers of reals come there: give l4lb() another source, or other ports)",
        "vip 198.51.100.1:80/tcp: realPort: port is 0, expected 1..65535",
      ]
    `);
    expect(() => l4lb({ source: SOURCE, vips: [web] })).toThrow('vip 198.51.100.1:80/tcp: realPort is 8080, expected its own port');
  });

  it('takes a vip on its own address, with a port that stands for no flow', () => {
    const lb = simulatedNat([{ ...web, address: SOURCE }]);
    const sent = lb.request(packet().ipv4({ saddr: CLIENT, daddr: SOURCE }).tcp({ sport: 5, dport: 80, syn: true }));
    const answer = answered(portOf(sent.packet));
    expect(lb.request(answer)).toExit('notVip');
    expect(ends(lb.answer(answer).packet)).toBe(`${SOURCE}:80 > ${CLIENT}:5`);
  });
});

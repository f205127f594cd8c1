/**
 * Packets whose headers lie outside of the linear part, and whose outer tag lies in the skb: real frames over veth, through
 * a stage at TC that tells what it found, or rewrites and sends them back.
 */
import { createNamespace, type KernelInstance, kernel, type NetworkNamespace, PacketSocket, Rtnetlink } from '@tailrace/kernel';
import { arrayMap, be16, packed, struct, u32 } from '@tailrace/stage';
import { onWire, type Packet, packet, runner, SimulatedMaps, simulate, simulatedHandle } from '@tailrace/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { stageOf } from '../fixture.ts';

let namespace: NetworkNamespace;
let engine: KernelInstance;
let socket: PacketSocket;
beforeAll(async () => {
  namespace = createNamespace();
  using route = new Rtnetlink(namespace);
  route.createVeth({ name: 'a' }, { name: 'b' });
  for (const name of ['a', 'b']) route.change(name, { mtu: 9000, up: true });
  socket = new PacketSocket(namespace, 'b');
  engine = await kernel({ interfaces: ['a'], netns: namespace }).open();
});
afterAll(async () => {
  await engine.close();
  socket.close();
  namespace.close();
});

/** Frames of this test; the kernel sends others. */
const OURS = 'eth.dst === 0x020000000002';
/** Longer than a page: only then is a frame split. */
const LONG = 4500;
const lengths = [14, 16, 20, 33, 34, 35, 41, 47, 53, 54, 57, 61, 65, 73, 75, 81, 90, 101, 120, 200];

const options = new Uint8Array(20).fill(1);
const frames = {
  tcp: packet().ipv4().tcp({ seq: 77 }),
  'udp behind options': packet().ipv4({ options }).udp({ sport: 9 }),
  'tcp over IPv6': packet().ipv6().tcp({ seq: 78 }),
  'extension headers': packet()
    .ipv6()
    .hopByHop()
    .destination({ options: new Uint8Array(100) })
    .routing()
    .udp({ sport: 10 }),
  'a fragment': packet().ipv6().fragment({ moreFragments: true, id: 4 }).tcp(),
  'one tag': packet().vlan({ id: 5, priority: 2 }).ipv4().udp(),
  'two tags': packet().vlan({ id: 5, tpid: 0x88a8 }).vlan({ id: 6 }).ipv6().tcp({ seq: 79 }),
  'three tags': packet().vlan({ id: 5 }).vlan({ id: 6 }).vlan({ id: 7 }).ipv6().tcp({ seq: 79 }),
  vxlan: packet()
    .ipv4()
    .udp({ dport: 4789, length: 30 })
    .payload(new Uint8Array([8, 0, 0, 0, 1, 2, 3, 0])),
  arp: packet().arp(),
} as const satisfies Readonly<Record<string, Packet>>;

/** As programs at TC see it: the kernel takes the outer tag out. */
function arrived(frame: Uint8Array): {
  readonly bytes: Uint8Array;
  readonly tag: { readonly offloadedVlan?: { tci: number; tpid: number } };
} {
  const view = new DataView(frame.buffer, frame.byteOffset);
  const tpid = view.getUint16(12);
  if (tpid !== 0x8100 && tpid !== 0x88a8) return { bytes: frame, tag: {} };
  return {
    bytes: Uint8Array.from([...frame.subarray(0, 12), ...frame.subarray(16)]),
    tag: { offloadedVlan: { tci: view.getUint16(14), tpid } },
  };
}

const Seen = struct({ packets: u32, found: u32, places: u32, fields: u32, flags: u32, tcis: u32 });
const uses = { seen: arrayMap({ name: 'seen', value: Seen, maxEntries: 1 }) };
const found = (names: readonly string[]): string =>
  `let found = 0, places = 0, fields = 0; ${names
    .map((name, i) => {
      const field = {
        arp: 'operation',
        ipv4: 'totalLength',
        ipv6: 'payloadLength',
        ipv6Fragment: 'id',
        tcp: 'seq',
        udp: 'sport',
        ports: 'dport',
        vxlan: 'vni',
      }[name];
      return `const ${name} = ctx.${name}(); if (${name}) { found |= ${1 << i}; places = (places * 31 + ctx.offsetOf(${name})) >>> 0; fields = (fields * 31 + ${name}.${field}) >>> 0; }`;
    })
    .join('\n')} s.found = found; s.places = places; s.fields = fields;`;
const programs = {
  'layer 3 first': found(['ipv4', 'ipv6', 'arp', 'tcp', 'udp', 'vxlan', 'ipv6Fragment']),
  'layer 4 first': found(['ports', 'vxlan', 'tcp', 'ipv6Fragment', 'ipv6', 'ipv4']),
  // what was found before the packet is pulled together goes on being good
  'headers from before': `const ip = ctx.ipv4(); const six = ctx.ipv6(); const tcp = ctx.tcp(); const udp = ctx.udp();
    if (ip) s.fields = ip.ttl; if (six) s.fields = six.hopLimit; if (tcp) s.fields += tcp.seq; if (udp) s.fields += udp.sport; s.places = eth.etherType;`,
  'arguments in between': `const six = ctx.ipv6(); if (six) s.fields = both(six, ctx.tcp() ? 7 : 8); const ip = ctx.ipv4(); if (ip) s.fields = both4(ip, ctx.udp() ? 5 : 6);`,
};

describe.each(Object.entries(programs))('%s', (_name, body) => {
  test('is the same however little is linear', async () => {
    const { fn, Ipv4, Ipv6 } = await import('@tailrace/stage');
    const both = fn([Ipv6, u32], u32, (six, n) => six.hopLimit * 100 + n);
    const both4 = fn([Ipv4, u32], u32, (ip, n) => ip.ttl * 100 + n);
    const stage = stageOf(
      `const eth = ctx.ethernet(); if (!eth) return ctx.next(); if (!(${OURS})) return ctx.next(); const s = seen.lookup(0);
       ${body}
       s.flags = ctx.protocol * 1000 + (ctx.fragment ? 100 : 0) + ctx.vlanTags; s.tcis = ctx.vlanTci * 65536 + ctx.innerVlanTci;
       s.packets += 1; return ctx.drop();`,
      { hook: 'tcIngress', uses: { ...uses, both, both4 } },
    );
    await using live = await runner(stage, { engine, attach: true });
    for (const [kind, made] of Object.entries(frames)) {
      const frame = made.padTo(LONG).bytes();
      const { bytes, tag } = arrived(frame);
      const maps = new SimulatedMaps();
      simulate(stage, bytes, { maps, ...tag });
      const expected = simulatedHandle(maps, uses.seen).get(0);
      for (const linear of lengths) {
        live.handle(uses.seen).set(0, { packets: 0, found: 0, places: 0, fields: 0, flags: 0, tcis: 0 });
        socket.send(frame, { linear });
        await expect.poll(() => live.handle(uses.seen).get(0)?.packets, { interval: 1 }).toBe(1);
        expect(live.handle(uses.seen).get(0), `${kind}, ${linear} bytes linear`).toEqual(expected);
      }
    }
  }, 60_000);
});

/** Statements that look for headers, read them and write into them, also into those from before. */
function walk(choices: readonly number[]): string {
  let at = 0;
  const draw = (below: number): number => (choices[at++] ?? 0) % below;
  const pick = <T>(list: readonly T[]): T => list[draw(list.length)] as T;
  const fields = {
    ethernet: ['src'],
    ipv4: ['ttl', 'tos', 'saddr'],
    ipv6: ['hopLimit', 'versionClassFlow'],
    tcp: ['sport', 'window'],
    udp: ['dport'],
    ports: ['sport'],
    ipv6Fragment: ['id'],
  } as const;
  const lines: string[] = [];
  const known: [name: string, variable: string][] = [];
  while (at < choices.length) {
    if (known.length > 0 && draw(3) === 0) {
      const [name, variable] = pick(known);
      const field = pick(fields[name as keyof typeof fields] as readonly string[]);
      lines.push(
        `if (${variable}) { ${draw(2) === 0 ? `r = (r * 31 + ${variable}.${field}) >>> 0;` : `${variable}.${field} = ${field === 'versionClassFlow' ? '0x60000007' : 'r & 255'};`} }`,
      );
    } else if (draw(6) === 0) {
      lines.push(`{ const w = ctx.at(Word, ${pick(['60', '90', '(r & 255)', '200'])}); if (w) { r = (r * 31 + w.w) >>> 0; } }`);
    } else {
      const name = pick(Object.keys(fields));
      const variable = `h${lines.length}`;
      known.push([name, variable]);
      lines.push(`const ${variable} = ctx.${name}();`);
    }
  }
  return `const eth = ctx.ethernet(); if (!eth) return ctx.next(); if (!(${OURS})) return ctx.next();
    let r = 1;\n${lines.join('\n')}\neth.dst = 0x020000000000 + (r & 0xffffff); return ctx.redirect(ctx.ifindex);`;
}

test('random rewrites of frames that are pulled', async () => {
  const Word = packed({ w: be16 });
  const sent = Object.values(frames).map((made) => made.padTo(LONG).bytes());
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(1000), { minLength: 10, maxLength: 60, size: 'max' }),
      fc.array(fc.constantFrom(...lengths), { minLength: sent.length, maxLength: sent.length }),
      async (choices, linear) => {
        const stage = stageOf(walk(choices), { hook: 'tcIngress', uses: { Word } });
        await using _live = await runner(stage, { engine, attach: true });
        for (const [i, frame] of sent.entries()) {
          const { bytes, tag } = arrived(frame);
          const expected = onWire(simulate(stage, bytes, tag));
          for (let old = socket.receive(); old; old = socket.receive());
          socket.send(frame, { linear: linear[i] ?? 14 });
          const back = await returned();
          const about = `frame ${i}, ${linear[i]} bytes linear: ${hex(bytes.subarray(0, 200))}\n${stage.program}`;
          expect(hex(back), about).toBe(hex(expected));
        }
      },
    ),
    { numRuns: Number(process.env.TAILRACE_RUNS ?? 15), interruptAfterTimeLimit: 30_000 },
  );
}, 60_000);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The frame that was sent back; no bytes where none was. */
async function returned(): Promise<Uint8Array> {
  for (const deadline = Date.now() + 1000; Date.now() < deadline; await new Promise((resolve) => setImmediate(resolve))) {
    const frame = socket.receive();
    if (frame && frame.length > 2000) return frame;
  }
  return new Uint8Array();
}

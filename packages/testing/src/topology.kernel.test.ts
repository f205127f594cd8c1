import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { createNamespace, kernel, Rtnetlink } from '@tailrace/kernel';
import { describe, expect, test } from 'vitest';
import { eventually } from './deadline.ts';
import { parse } from './description.ts';
import './matchers.ts';
import { fragments } from './mutation.ts';
import { packet } from './packet.ts';
import { constantProgram } from './pass-program.ts';
import { type Topology, topology } from './topology.ts';

/** client — router — server. */
const routed = (): Promise<Topology<'client' | 'router' | 'server'>> =>
  topology({
    hosts: {
      client: {
        routes: [
          { to: 'default', via: '10.0.1.254' },
          { to: 'default', via: 'fd00:1::254' },
        ],
      },
      router: { forwarding: true },
      server: {
        routes: [
          { to: 'default', via: '10.0.2.254' },
          { to: 'default', via: 'fd00:2::254' },
        ],
        loopback: ['10.9.9.9/32'],
      },
    },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.1.1/24', 'fd00:1::1/64'] },
          { host: 'router', addresses: ['10.0.1.254/24', 'fd00:1::254/64'] },
        ],
      },
      {
        ends: [
          { host: 'router', addresses: ['10.0.2.254/24', 'fd00:2::254/64'] },
          { host: 'server', addresses: ['10.0.2.1/24', 'fd00:2::1/64'] },
        ],
      },
    ],
  });

const openFds = (): number => readdirSync('/proc/self/fd').length;
const hasLayer = (kind: string) => (frame: Uint8Array) => parse(frame).some((layer) => layer.kind === kind);

describe('services behind a router', () => {
  test('HTTP over IPv4 and IPv6, with large bodies both ways', async () => {
    await using net = await routed();
    const { client, server } = net.hosts;
    const http = await server.http({ port: 80, address: '::' });
    expect(await client.request('http://10.0.2.1/')).toMatchObject({ status: 200, name: 'server', text: 'server' });
    expect((await client.request('http://[fd00:2::1]/')).name).toBe('server');
    const size = 10 << 20;
    expect((await client.request('http://10.0.2.1/', { body: new Uint8Array(size) })).text).toBe(String(size));
    const { body } = await client.request(`http://10.0.2.1/bytes/${size}`);
    expect(body.length).toBe(size);
    expect([...body.subarray(size - 2)]).toEqual([254, 255]);
    expect(http).toMatchObject({ requests: 4, connections: 4, port: 80, name: 'server' });
  });

  test('big uploads arrive unharmed over both families, with and without offloads, on a small MTU', async () => {
    for (const on of [true, false]) {
      const offloads = { txChecksum: on, rxChecksum: on, tso: on, gso: on, gro: on };
      await using net = await topology({
        hosts: { a: {}, b: { loopback: ['fd00:9::9/128'] } },
        links: [
          {
            ends: [
              { host: 'a', addresses: ['10.0.0.1/24', 'fd00::1/64'], offloads },
              { host: 'b', addresses: ['10.0.0.2/24', 'fd00::2/64'], offloads },
            ],
            mtu: 1280,
          },
        ],
      });
      const { a, b } = net.hosts;
      expect([a.route.offload('b', 'tso'), b.route.offload('a', 'gro')]).toEqual([on, on]);
      a.route.addRoute({ to: 'fd00:9::9/128', via: 'fd00::2' });
      await b.http({ port: 80, address: '::' });
      for (const host of ['10.0.0.2', '[fd00::2]', '[fd00:9::9]']) {
        expect(await a.upload(`http://${host}/`, 3 << 20)).toMatchObject({ status: 200, name: 'b', text: String(3 << 20) });
      }
      expect((await a.request('http://10.0.0.2/')).sha256).toBe(undefined);
      const socket = await b.udp({ port: 53 });
      await (await a.udp()).send(new Uint8Array(30_000).fill(7), '10.0.0.2', 53);
      expect((await socket.receive()).payload).toEqual(Buffer.alloc(30_000, 7));
    }
  });

  test('echo requests are answered, or told why not', async () => {
    await using net = await routed();
    const { client } = net.hosts;
    const four = await client.ping('10.0.2.1', { id: 700, sequence: 3, payload: 3000 });
    expect(four).toMatchObject({ kind: 'reply', type: 0, from: '10.0.2.1' });
    expect([...four.payload.subarray(-2)]).toEqual([2998 & 255, 2999 & 255]);
    const six = await client.ping('fd00:2::1', { payload: 'six', localAddress: 'fd00:1::1' });
    expect(six).toMatchObject({ kind: 'reply', type: 129, from: 'fd00:2::1', payload: new TextEncoder().encode('six') });
    // the router has no way there
    const lost = await client.ping('10.7.7.7');
    expect(lost).toMatchObject({ kind: 'error', type: 3, from: '10.0.1.254' });
    expect((await client.ping('fd00:7::1')).kind).toBe('error');
    await expect(client.ping('10.0.1.77', { timeoutMs: 50 })).rejects.toThrow(
      'an answer to an echo request to 10.0.1.77: nothing within 50 ms',
    );
  });

  test('a connection serves several requests, until the server dies', async () => {
    await using net = await routed();
    const { client, server } = net.hosts;
    const http = await server.http({ name: 'one' });
    const connection = await client.connectHttp(`http://10.0.2.1:${http.port}`);
    expect((await connection.request('/')).text).toBe('one');
    expect((await connection.request('/bytes/3')).body).toEqual(Buffer.from([0, 1, 2]));
    expect((await connection.request('/', { body: 'four' })).text).toBe('4');
    expect(http).toMatchObject({ connections: 1, requests: 3 });
    const url = `http://10.0.2.1:${http.port}/`;
    await http.close();
    await eventually(() => !connection.open);
    await expect(connection.request('/')).rejects.toThrow('is closed');
    await expect(client.request(url)).rejects.toThrow('ECONNREFUSED');
  });

  test('UDP, echoed and not', async () => {
    await using net = await routed();
    const { client, server } = net.hosts;
    const echo = await server.udpEcho({ port: 7, address: '10.9.9.9', name: 'server' });
    net.hosts.router.route.addRoute({ to: '10.9.9.9/32', via: '10.0.2.1' });
    const socket = await client.udp();
    await socket.send('hello', '10.9.9.9', 7);
    expect(await socket.receive()).toMatchObject({ text: 'server hello', address: '10.9.9.9', port: 7 });
    expect(echo.received).toBe(1);
    await expect(socket.receive(20)).rejects.toThrow(/a datagram on port \d+: nothing within 20 ms/);
  });

  test('processes and Workers run in the namespace and end with it', async () => {
    const net = await routed();
    const { client, server } = net.hosts;
    const child = server.spawn(process.execPath, ['-e', "console.log(require('fs').readlinkSync('/proc/self/ns/net'))"], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (!child.stdout) throw new TypeError('no stdout');
    expect((await text(child.stdout)).trim()).toBe(`net:[${server.namespace.inode}]`);
    const worker = client.worker(
      "require('worker_threads').parentPort.postMessage(require('fs').readlinkSync('/proc/thread-self/ns/net'))",
      { eval: true },
    );
    expect((await once(worker, 'message'))[0]).toBe(`net:[${client.namespace.inode}]`);
    const lasting = client.spawn('sleep', ['60']);
    await net.close();
    expect(lasting.signalCode).toBe('SIGKILL');
    expect(readlinkSync('/proc/thread-self/ns/net')).not.toBe(`net:[${client.namespace.inode}]`);
  });
});

/** Two hosts on one link. */
const pair = (xdp = false): Promise<Topology<'a' | 'b'>> =>
  topology({
    hosts: { a: {}, b: {} },
    links: [
      {
        ends: [
          { host: 'a', interface: 'eth0', addresses: ['10.0.0.1/24', 'fd00::1/64'], mac: '02:00:00:00:00:0a' },
          { host: 'b', interface: 'eth0', addresses: ['10.0.0.2/24', 'fd00::2/64'], mac: '02:00:00:00:00:0b', xdp },
        ],
        mtu: 1400,
      },
    ],
  });
const frame = packet().ethernet({ src: '02:00:00:00:00:0a', dst: '02:00:00:00:00:0b' });
const v4 = frame.ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' });
const v6 = frame.ipv6({ saddr: 'fd00::1', daddr: 'fd00::2' });

describe('built packets are taken by the kernel', () => {
  test('ICMP and ICMPv6 echoes are answered', async () => {
    await using net = await pair();
    const frames = net.hosts.a.frames('eth0');
    frames.send(v4.icmp({ id: 77 }).payload('ping'));
    const reply = await frames.receive({ where: hasLayer('icmp') });
    expect(reply).toHaveValidChecksums();
    expect(parse(reply).at(-2)?.fields).toMatchObject({ type: '0', id: '77' });
    frames.send(v6.icmpv6({ id: 78 }).payload('ping6'));
    const isEcho = (bytes: Uint8Array): boolean => parse(bytes).some((layer) => layer.kind === 'icmpv6' && layer.fields.type === '129');
    expect(await frames.receive({ where: isEcho })).toHaveValidChecksums();
  });

  test('UDP arrives whole and in fragments, with options, and over IPv6', async () => {
    await using net = await pair();
    const frames = net.hosts.a.frames('eth0');
    const four = await net.hosts.b.udp({ port: 53 });
    frames.send(v4.udp({ dport: 53 }).payload('whole'));
    expect((await four.receive()).text).toBe('whole');
    const options = Uint8Array.of(1, 1, 1);
    frames.send(frame.ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2', options }).udp({ dport: 53 }).payload('options'));
    expect((await four.receive()).text).toBe('options');
    for (const part of fragments(frame.ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2', id: 9 }).udp({ dport: 53 }).payload(100), 40))
      frames.send(part);
    expect((await four.receive()).payload).toHaveLength(100);
    frames.send(v4.udp({ dport: 53, checksum: 0x1234 }).payload('damaged'));
    await expect(four.receive(30)).rejects.toThrow('nothing within 30 ms');
    const six = await net.hosts.b.udp({ port: 53, address: 'fd00::2' });
    frames.send(v6.udp({ dport: 53 }).payload('six'));
    expect((await six.receive()).text).toBe('six');
  });

  test('VLAN tags cross a link as they were sent', async () => {
    await using net = await pair();
    const [a, b] = [net.hosts.a.frames('eth0'), net.hosts.b.frames('eth0')];
    const tagged = frame.vlan({ id: 9, priority: 3 }).ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' }).udp().payload(1372);
    const twice = frame.vlan({ id: 8, tpid: 0x88a8 }).vlan({ id: 9 }).ipv6().icmpv6();
    for (const sent of [tagged, twice]) {
      a.send(sent);
      expect(await b.receive({ where: hasLayer('vlan') })).toEqualPacket(sent);
    }
  });

  test('extension headers and ARP are understood by the kernel', async () => {
    await using net = await pair();
    const frames = net.hosts.a.frames('eth0');
    const six = await net.hosts.b.udp({ port: 53, address: 'fd00::2' });
    // an option for experiments, which is skipped where it is not known (RFC 4727)
    const options = Uint8Array.of(0x1e, 4, 1, 2, 3, 4);
    frames.send(v6.hopByHop().destination({ options }).udp().payload('behind options'));
    expect((await six.receive()).text).toBe('behind options');
    for (const part of fragments(v6.destination().udp().payload(100), 48)) frames.send(part);
    expect((await six.receive()).payload).toHaveLength(100);
    frames.send(frame.arp({ senderMac: '02:00:00:00:00:0a', senderIp: '10.0.0.1', targetIp: '10.0.0.2' }));
    const isReply = (bytes: Uint8Array): boolean => parse(bytes).some(({ kind, fields }) => kind === 'arp' && fields.operation === '2');
    const reply = parse(await frames.receive({ where: isReply }));
    expect(reply[1]?.fields).toMatchObject({ senderMac: '02:00:00:00:00:0b', senderIp: '10.0.0.2', targetIp: '10.0.0.1' });
  });

  test('a TCP connection is opened by hand', async () => {
    await using net = await pair();
    await net.hosts.b.http({ port: 80 });
    const frames = net.hosts.a.frames('eth0');
    frames.send(v4.tcp({ syn: true, seq: 100, options: Uint8Array.of(2, 4, 5, 0xb4) }));
    const answer = parse(await frames.receive({ where: hasLayer('tcp') })).find((layer) => layer.kind === 'tcp');
    expect(answer?.fields).toMatchObject({ syn: 'true', ack: 'true', ackSeq: '101', sport: '80', dport: '40000' });
  });

  test('what does not come in time is said, with what came', async () => {
    await using net = await pair();
    const [a, b] = [net.hosts.a.frames('eth0'), net.hosts.b.frames('eth0')];
    a.send(v4.udp({ dport: 9 }).payload('one'));
    await expect(b.receive({ where: hasLayer('tcp'), timeoutMs: 50 })).rejects.toThrow(
      /a frame on eth0: nothing within 50 ms; meanwhile came\n(.*\n)*udp 8 bytes: sport=40000 dport=9/,
    );
    a.send(v4.udp({ dport: 9 }).payload('two'));
    expect(await b.collect({ where: hasLayer('udp') })).toHaveLength(1);
    expect(() => a.send(new Uint8Array(2000))).toThrow('EMSGSIZE');
  });
});

describe('XDP', () => {
  const bounced = async (xdp: boolean): Promise<number> => {
    await using net = await pair(xdp);
    await using engine = await kernel({ interfaces: ['eth0'], netns: net.hosts.b.namespace }).open();
    await engine.attach(await engine.loadProgram(constantProgram('test.tx', 3), new Map()), 'xdp');
    const frames = net.hosts.a.frames('eth0');
    frames.send(packet().payload('bounce'));
    return (await frames.collect({ where: (bytes) => bytes[12] === 0x88 && bytes[13] === 0xb5 })).length;
  };

  test('frames that are sent back reach an end whose link says that XDP runs', async () => {
    expect(await bounced(true)).toBe(1);
    expect(await bounced(false)).toBe(0);
  });

  test('the other end computes its checksums and passes everything', async () => {
    await using net = await pair(true);
    const { a, b } = net.hosts;
    expect([a.route.offload('eth0', 'txChecksum'), b.route.offload('eth0', 'txChecksum')]).toEqual([false, true]);
    expect([a, b].map((host) => host.route.interface('eth0').xdp.length)).toEqual([1, 0]);
    await b.http({ port: 80 });
    const frames = b.frames('eth0');
    expect((await a.request('http://10.0.0.2/')).text).toBe('b');
    expect(await frames.receive({ where: hasLayer('tcp') })).toHaveValidChecksums();
  });
});

describe('nothing is left', () => {
  test('after closing, and after an error half way', async () => {
    await (await pair(true)).close();
    const before = openFds();
    const net = await pair(true);
    await net.hosts.b.http();
    net.hosts.a.frames('eth0');
    await net.close();
    await net.close();
    const build = topology({
      hosts: { a: { routes: [{ to: 'default', via: '10.1.1.1' }] }, b: {} },
      links: [{ ends: [{ host: 'a' }, { host: 'b', xdp: true }] }],
    });
    await expect(build).rejects.toThrow('add route to default failed: ENETUNREACH');
    expect(openFds()).toBe(before);
  });

  test('after the process was killed', async () => {
    using outside = createNamespace();
    using route = new Rtnetlink(outside);
    const script = `
      import { openNamespace } from '@tailrace/kernel';
      import { topology } from '@tailrace/testing';
      const net = await topology({ hosts: { a: {}, b: {} }, links: [{ ends: [{ host: 'a' }, { host: 'b', xdp: true }] }] });
      await net.hosts.b.http();
      net.hosts.a.route.createVeth({ name: 'inside' }, { name: 'outside', namespace: openNamespace(process.env.OUTSIDE) });
      console.log('ready');
      setInterval(() => undefined, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      cwd: import.meta.dirname,
      env: { ...process.env, OUTSIDE: outside.path },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      await once(createInterface(child.stdout), 'line', { signal: AbortSignal.timeout(10_000) });
      expect(route.find('outside')).toBeDefined();
    } finally {
      child.kill('SIGKILL');
    }
    await once(child, 'exit');
    // The veth here goes when the namespace of its other end does.
    await eventually(() => route.find('outside') === undefined, 5000);
  });
});

test('mistakes are named', async () => {
  const links = [{ ends: [{ host: 'a' }, { host: 'c' }] }] as const;
  await expect(topology({ hosts: { a: {} } as Record<string, object>, links })).rejects.toThrow(
    "link 1 ends at host 'c', which is not in the topology",
  );
  await using net = await pair();
  expect(() => net.hosts.a.frames('eth9')).toThrow('there is no interface eth9');
  await expect(net.hosts.a.request('ftp://10.0.0.2/')).rejects.toThrow('ftp://10.0.0.2/ is no http URL');
  expect(net.hosts.a.mac('eth0')).toBe('02:00:00:00:00:0a');
  expect([net.hosts.a.ifindex('eth0'), net.hosts.b.ifindex('eth0')]).toEqual([11, 12]);
});

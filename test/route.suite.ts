/** Routes of real connections by their first bytes, in however many pieces these come. */
import { once } from 'node:events';
import { createServer, type Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import type { Engine } from '@tailrace/bpf';
import { findStage, type RouteController, router } from '@tailrace/functions/route';
import { type SpliceController, splicer, TcpSockets } from '@tailrace/functions/splice';
import { selfSigned } from '@tailrace/testing';
import fc from 'fast-check';
import { override, pipeline } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { clientHello } from './client-hello.ts';

/** A request of HTTP/1. */
const http = (host: string, path = '/') => `GET ${path} HTTP/1.1\r\nAccept: */*\r\n${host}\r\n\r\n`;

/** The behaviour of a router. `sockets` is the engine's access to TCP sockets. */
export function routeSuite(engine: Engine, sockets: TcpSockets): void {
  const joiner = splicer();
  const by = router<string>({
    rules: { 'one.test': 'one', 'two.test': 'two', '*.two.test': 'below two', 'deep.er.two.test': 'deeper' },
    otherwise: 'other',
    maxWaiting: 64,
  });
  const started = () => pipeline('proxy', { skSkb: [joiner, by] }).run(engine, { services: [override(TcpSockets, sockets)] });
  let running: Awaited<ReturnType<typeof started>>;
  let [splices, routes]: [SpliceController, RouteController<string>] = [] as never;
  let server: Server;
  beforeAll(async () => {
    running = await started();
    splices = running.controller(joiner);
    routes = running.controller(by);
    server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    // a finder is a large program
  }, 60_000);
  afterAll(async () => {
    server.close();
    await running.stop();
  });

  /** Both ends of a connection. */
  function connection(): Promise<{ client: Socket; inner: Socket }> {
    // one after the other: the server tells them apart by their order alone
    const made = last.then(connect);
    last = made.catch(() => undefined);
    return made;
  }
  let last: Promise<unknown> = Promise.resolve();

  async function connect(): Promise<{ client: Socket; inner: Socket }> {
    const accepted = once(server, 'connection');
    const client = new Socket({ allowHalfOpen: true }).connect((server.address() as { port: number }).port, '127.0.0.1').setNoDelay();
    const [inner] = (await accepted) as [Socket];
    for (const socket of [client, inner]) socket.on('error', () => undefined);
    return { client, inner };
  }

  /** The route of a connection whose client sends these pieces, and the reason. */
  async function routed(pieces: readonly (string | Uint8Array)[], timeoutMs = 300): Promise<string> {
    const { client, inner } = await connection();
    const asked = routes.routeOf(inner, splices, { timeoutMs });
    for (const [i, piece] of pieces.entries()) {
      if (i > 0) await sleep(2);
      client.write(piece);
    }
    const { route, reason } = await asked;
    client.destroy();
    inner.destroy();
    return `${route}: ${reason}`;
  }

  test.each<[string, string, string]>([
    ['a host', http('Host: one.test'), 'one: rule'],
    ['in another case, with a port', http('hOsT:ONE.Test:8080'), 'one: rule'],
    ['between blanks', http('Host: \t two.test \t'), 'two: rule'],
    ['below a domain', http('Host: a.two.test'), 'below two: rule'],
    ['far below it', http('Host: a.b.two.test'), 'below two: rule'],
    ['below it by a rule of its own', http('Host: deep.er.two.test'), 'deeper: rule'],
    ['no rule', http('Host: xtwo.test'), 'other: unknown'],
    ["with the root's dot", http('Host: one.test.'), 'other: unknown'],
    ['behind lines like it', http('X-Host: one.test\r\nHost: two.test', `/?host:one.test`), 'two: rule'],
    ['behind a long path', http('Host: one.test', `/${'x'.repeat(3_900)}`), 'one: rule'],
    ['the longest name there is', http(`Host: ${'a.'.repeat(126)}b`), 'other: unknown'],
    ['a long name with a rule', http(`Host: ${'a.'.repeat(122)}two.test`), 'below two: rule'],
    ['a name that is too long', http(`Host: ${'a.'.repeat(126)}bc`), 'other: nameless'],
    ['behind what is kept', http('Host: one.test', `/${'x'.repeat(5_000)}`), 'other: nameless'],
    ['none, and one in what follows', 'GET / HTTP/1.0\r\nAccept: */*\r\n\r\n\r\nHost: one.test\r\n\r\n', 'other: nameless'],
    ['an empty one', http('Host:'), 'other: nameless'],
    ['a word of another protocol', 'SSH-2.0-x\r\n', 'other: late'],
    ['bytes of another protocol', '\0\0\0', 'other: nameless'],
    ['one that is not all there', 'GET / HTTP/1.1\r\nHost: one.te', 'other: late'],
    ['nothing', '', 'other: late'],
  ])('HTTP: %s', async (_, request, expected) => {
    expect(await routed(request === '' ? [] : [request])).toBe(expected);
  });

  test.each<[string, Uint8Array, string]>([
    ['a name', clientHello({ name: 'one.test' }), 'one: rule'],
    ['in capitals', clientHello({ name: 'A.TWO.TEST' }), 'below two: rule'],
    ['behind large extensions', clientHello({ name: 'one.test', before: [500, 1_200] }), 'one: rule'],
    ['behind 31 others', clientHello({ name: 'one.test', before: Array(31).fill(3) }), 'one: rule'],
    ['behind 32 others', clientHello({ name: 'one.test', before: Array(32).fill(3) }), 'other: nameless'],
    ['none', clientHello({}), 'other: nameless'],
    ['behind what is kept', clientHello({ name: 'one.test', before: [4_100] }), 'other: nameless'],
    ['longer than it says', clientHello({ name: 'one.test' }).subarray(0, 80), 'other: late'],
    ['another record', Uint8Array.of(22, 3, 1, 0, 4, 2, 0, 0, 0), 'other: nameless'],
  ])('TLS: %s', async (_, hello, expected) => {
    expect(await routed([hello])).toBe(expected);
  });

  test('first bytes in pieces, whatever they are cut into', async () => {
    const label = fc.stringMatching(/^[a-z0-9]{1,20}$/);
    const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => `${labels.join('.')}.two.test`);
    await fc.assert(
      fc.asyncProperty(
        name,
        fc.boolean(),
        fc.array(fc.integer({ min: 1, max: 1_500 }), { maxLength: 3 }),
        fc.array(fc.nat(5_000), { maxLength: 6 }),
        async (name, isTls, sizes, cuts) => {
          const bytes = isTls
            ? clientHello({ name, before: sizes.slice(0, 2) })
            : Buffer.from(http(`X: ${'y'.repeat(sizes[0] ?? 1)}\r\nHost: ${name}`, `/${'z'.repeat(sizes[1] ?? 1)}`));
          const at = [0, ...cuts.map((cut) => cut % bytes.length).sort((a, b) => a - b), bytes.length];
          const pieces = at.slice(1).map((end, i) => bytes.subarray(at[i], end));
          const expected = name === 'deep.er.two.test' ? 'deeper: rule' : 'below two: rule';
          expect(await routed(pieces.filter(({ length }) => length > 0))).toBe(expected);
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);

  test('bytes that come before the connection is asked for, and those that told its route, reach its backend', async () => {
    const { client, inner } = await connection();
    const request = `POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 300000\r\n\r\n`;
    client.write(request);
    await sleep(20);
    expect(await routes.routeOf(inner, splices)).toEqual({ route: 'one', reason: 'rule' });
    const backend = await connection();
    const spliced = await splices.splice(inner, backend.inner);
    expect(spliced.by).toBe('kernel');
    client.end(Buffer.alloc(300_000, 7));
    let bytes = 0;
    backend.client.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    await once(backend.client, 'end');
    expect(bytes).toBe(request.length + 300_000);
    backend.client.end();
    client.resume();
    await spliced.closed;
  });

  test('rules change while connections come', async () => {
    routes.set('new.test', 'new');
    expect(await routed([http('Host: new.test')])).toBe('new: rule');
    routes.set('new.test', 'newer');
    expect(await routed([http('Host: new.test')])).toBe('newer: rule');
    routes.set('*.test', 'any');
    expect(await routed([http('Host: newest.test')])).toBe('any: rule');
    expect(await routed([http('Host: one.test')])).toBe('one: rule');
    expect(routes.rules.get('*.test')).toBe('any');
    for (const name of ['new.test', '*.test']) expect(routes.delete(name)).toBe(true);
    expect(routes.delete('new.test')).toBe(false);
    expect(await routed([http('Host: new.test')])).toBe('other: unknown');
    const before = Object.fromEntries(routes.rules);
    expect(() => routes.replace({ 'three.test': 'three', 'no name': 'x' })).toThrow("'no name' is no name of a host");
    expect(Object.fromEntries(routes.rules)).toEqual(before);
    routes.replace({ 'Three.test': 'three', 'two.test': 'second' });
    expect([...routes.rules]).toEqual([
      ['two.test', 'second'],
      ['three.test', 'three'],
    ]);
    for (const [name, expected] of [
      ['three', 'three: rule'],
      ['two', 'second: rule'],
      ['one', 'other: unknown'],
    ])
      expect(await routed([http(`Host: ${name}.test`)])).toBe(expected);
    routes.replace(before);
    expect(await routed([http('Host: one.test')])).toBe('one: rule');
  });

  test('a policy is a hot swap', async () => {
    const both = async () => [await routed([http('Host: one.test')]), await routed([clientHello({ name: 'two.test' })])];
    expect(await both()).toEqual(['one: rule', 'two: rule']);
    await running.replace(by.stage(findStage), routes.policy('sni'));
    expect(await both()).toEqual(['other: nameless', 'two: rule']);
    await running.replace(by.stage(findStage), routes.policy('host'));
    expect(await both()).toEqual(['one: rule', 'other: nameless']);
    await running.replace(by.stage(findStage), routes.policy('name'));
    expect(await both()).toEqual(['one: rule', 'two: rule']);
  }, 60_000);

  test('real TLS, end to end', async () => {
    const { key, cert } = selfSigned('two.test');
    const backend = createTlsServer({ key, cert }, (socket) => socket.end(`hello from ${socket.servername}`)).listen(0, '127.0.0.1');
    await once(backend, 'listening');
    server.once('connection', async (inner: Socket) => {
      expect((await routes.routeOf(inner, splices)).route).toBe('below two');
      const target = new Socket({ allowHalfOpen: true }).connect((backend.address() as { port: number }).port, '127.0.0.1');
      await once(target, 'connect');
      await splices.splice(inner, target);
    });
    const client = connectTls({
      port: (server.address() as { port: number }).port,
      host: '127.0.0.1',
      servername: 'www.two.test',
      ca: cert,
      checkServerIdentity: () => undefined,
    });
    let text = '';
    for await (const chunk of client) text += chunk;
    expect(text).toBe('hello from www.two.test');
    backend.close();
  });

  test('more connections than there is room for, and connections that go while they wait', async () => {
    const waiting = await Promise.all(
      Array.from({ length: 64 }, async () => {
        const ends = await connection();
        return { ...ends, asked: routes.routeOf(ends.inner, splices, { timeoutMs: 5_000 }) };
      }),
    );
    expect(await routed([http('Host: one.test')])).toBe('other: full');
    for (const { client } of waiting) client.resetAndDestroy();
    for (const { asked } of waiting) expect(await asked).toEqual({ route: 'other', reason: 'ended' });
    await sleep(150);
    expect(await routed([http('Host: one.test')])).toBe('one: rule');
    expect(routes.counts).toMatchObject({ full: 1, ended: 64 });
    expect(running.map(by.stage(findStage).uses.waiting).getAll()).toEqual([]);
  });

  test('mistakes', async () => {
    for (const name of ['-x.test', 'a..b', '*.', 'a.*.b', 'grüße.test', `${'a.'.repeat(127)}b`]) {
      expect(() => routes.set(name, 'x')).toThrow('is no name of a host');
      expect(() => router({ rules: { [name]: 1 }, otherwise: 2 })).toThrow('is no name of a host');
    }
    expect(() => router({ otherwise: 1, maxWaiting: 0 })).toThrow('router: maxWaiting is 0, expected 1..65536');
    expect(() => router({ otherwise: 1, maxRules: 0.5 })).toThrow('router: maxRules is 0.5, expected 1..1048576');
    const { inner } = await connection();
    await expect(routes.routeOf(inner, splices, { timeoutMs: -1 })).rejects.toThrow('route: timeoutMs is -1, expected 0 or more');
    inner.destroy();
    await expect(routes.routeOf(inner, splices)).rejects.toThrow('the socket is closed');
  });
}

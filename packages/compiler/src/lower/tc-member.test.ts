/** The code that TC's members become, and what is refused at one hook or the other. */
import { disassemble } from '@tailrace/bpf';
import { array, be32, devmap, type Hook, packed, struct, u8, u16, u32, u64 } from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { compileStage } from '../compile.ts';
import { refusal, stageOf, type TextOptions } from '../fixture.ts';

const code = (body: string, options: TextOptions = {}): string =>
  disassemble(compileStage(stageOf(body, { hook: 'tcIngress', ...options })).program.instructions);
const refused = (body: string, hook: Hook = 'tcIngress', options: TextOptions = {}): string =>
  refusal(stageOf(`${body}\nreturn ctx.next();`, { hook, ...options }));

describe('code', () => {
  test('a program of TC', () => {
    const { program } = compileStage(stageOf('return ctx.length > 60 ? ctx.drop() : ctx.pass();', { hook: 'tc' }));
    expect({ ...program, instructions: disassemble(program.instructions), lines: program.lines.length }).toMatchInlineSnapshot(`
      {
        "frags": false,
        "functions": [
          {
            "name": "sample",
            "pc": 0,
          },
        ],
        "instructions": "0: r0 = *(u32 *)(r1 +0)
      1: if r0 <= 0x3c goto pc+2
      2: r0 = 2
      3: exit
      4: r0 = -1
      5: exit",
        "license": "Dual MIT/GPL",
        "lines": 3,
        "mapReferences": [],
        "name": "sample",
        "type": "schedCls",
      }
    `);
  });

  test('fields of the context are written whole, from registers', () => {
    expect(
      code('ctx.mark = 7; ctx.queue = 2; ctx.priority |= 1; ctx.mark += 1; return ctx.mark === 8 ? ctx.next() : ctx.drop();'),
    ).toMatchInlineSnapshot(`
      "0: r0 = 7
      1: *(u32 *)(r1 +8) = r0
      2: r0 = 2
      3: *(u32 *)(r1 +12) = r0
      4: r0 = *(u32 *)(r1 +32)
      5: w0 |= 1
      6: *(u32 *)(r1 +32) = r0
      7: r0 = 8
      8: *(u32 *)(r1 +8) = r0
      9: r0 = -1
      10: exit"
    `);
  });

  test('stores to the context leave the packet where it is', () => {
    const body = (stores: string): string =>
      `const ip = ctx.ipv4(); if (!ip) return ctx.drop(); ${stores} ip.ttl -= 1; return ip.ttl > 9 ? ctx.next() : ctx.drop();`;
    const starts = (text: string): number => [...text.matchAll(/u32 \*\)\(r\d \+76\)/g)].length;
    const stored = code(body('ctx.meta.ttl = ip.ttl; ctx.mark = 1;'), { writes: { ttl: u8 } });
    expect(stored).toMatch(/u8 \*\)\(r\d \+48\) = /);
    expect(starts(stored)).toBe(starts(code(body(''))));
  });

  test('metadata in cb, by member', () => {
    const flow = struct({ a: u8, b: u16, words: array(u16, 2) });
    const body = `ctx.meta.flow = { a: 1, b: ctx.segments, words: [3, 4] };
      ctx.meta.flow.words[1] += 1;
      ctx.meta.big += 5n;
      return ctx.meta.flow.b > 1 ? ctx.next() : ctx.drop();`;
    expect(code(body, { writes: { flow, big: u64 } })).toMatchInlineSnapshot(`
      "0: r0 = *(u32 *)(r1 +164)
      1: r2 = r0
      2: r2 += -1
      3: r2 >>= 63
      4: r2 |= r0
      5: r0 = 1
      6: *(u16 *)(r1 +56) = r0
      7: *(u16 *)(r1 +58) = r2
      8: r0 = 3
      9: *(u16 *)(r1 +60) = r0
      10: r0 = 4
      11: *(u16 *)(r1 +62) = r0
      12: r0 = 5
      13: *(u16 *)(r1 +62) = r0
      14: r0 = *(u64 *)(r1 +48)
      15: r0 += 5
      16: *(u64 *)(r1 +48) = r0
      17: r0 = *(u16 *)(r1 +58)
      18: if r0 <= 0x1 goto pc+2
      19: r0 = -1
      20: exit
      21: r0 = 2
      22: exit"
    `);
  });

  test('metadata off their alignment are taken in pieces', () => {
    const odd = packed({ a: u8, address: be32 });
    expect(
      code('ctx.meta.odd.address = ctx.mark; return ctx.meta.odd.address === 1 ? ctx.next() : ctx.drop();', { writes: { odd } }),
    ).toMatchInlineSnapshot(`
      "0: r0 = *(u32 *)(r1 +8)
      1: r2 = r0
      2: r2 = be32 r2
      3: *(u8 *)(r1 +49) = r2
      4: r3 = r2
      5: r3 >>= 8
      6: *(u8 *)(r1 +50) = r3
      7: r2 >>= 16
      8: *(u8 *)(r1 +51) = r2
      9: *(u8 *)(r1 +52) = r0
      10: r2 = *(u8 *)(r1 +49)
      11: r0 = *(u8 *)(r1 +50)
      12: r0 <<= 8
      13: r2 |= r0
      14: r0 = *(u8 *)(r1 +51)
      15: r0 <<= 16
      16: r2 |= r0
      17: r0 = *(u8 *)(r1 +52)
      18: r0 <<= 24
      19: r2 |= r0
      20: if w2 != 0x1000000 goto pc+2
      21: r0 = -1
      22: exit
      23: r0 = 2
      24: exit"
    `);
  });

  test('redirects', () => {
    expect(code('return ctx.redirect(3);')).toMatchInlineSnapshot(`
      "0: r1 = 3
      1: r2 = 0
      2: call bpf_redirect#23
      3: exit"
    `);
    expect(code('return ctx.redirectIngress(3);')).toMatchInlineSnapshot(`
      "0: r1 = 3
      1: r2 = 1
      2: call bpf_redirect#23
      3: exit"
    `);
    expect(code('return ctx.redirectNeigh(3);')).toMatchInlineSnapshot(`
      "0: r1 = 3
      1: r2 = 0
      2: r3 = 0
      3: r4 = 0
      4: call bpf_redirect_neigh#152
      5: exit"
    `);
    expect(code('return ctx.redirectPeer(3);')).toMatchInlineSnapshot(`
      "0: r1 = 3
      1: r2 = 0
      2: call bpf_redirect_peer#155
      3: exit"
    `);
  });

  test('tunnels', () => {
    const body = `const key = ctx.tunnelKey(); if (!key) return ctx.next();
      return ctx.setTunnelKey({ id: key.id, remote: key.local, tos: 0, ttl: 64, extra: 0, label: 0, local: key.remote }, 'ipv6') ? ctx.redirect(4) : ctx.drop();`;
    expect(code(body)).toMatchInlineSnapshot(`
      "0: r6 = r1
      1: r1 = r6
      2: r2 = r10
      3: r2 += -48
      4: r3 = 44
      5: r4 = 0
      6: call bpf_skb_get_tunnel_key#20
      7: if r0 != 0x0 goto pc+27
      8: r0 = *(u32 *)(r10 -48)
      9: r1 = *(u32 *)(r10 -20)
      10: r2 = *(u64 *)(r10 -16)
      11: r3 = *(u32 *)(r10 -8)
      12: r4 = *(u32 *)(r10 -44)
      13: r5 = *(u64 *)(r10 -40)
      14: r7 = *(u32 *)(r10 -32)
      15: *(u32 *)(r10 -48) = r0
      16: *(u32 *)(r10 -44) = r1
      17: *(u64 *)(r10 -40) = r2
      18: *(u32 *)(r10 -32) = r3
      19: *(u32 *)(r10 -28) = 16384
      20: *(u32 *)(r10 -24) = 0
      21: *(u32 *)(r10 -20) = r4
      22: *(u64 *)(r10 -16) = r5
      23: *(u32 *)(r10 -8) = r7
      24: r1 = r6
      25: r2 = r10
      26: r2 += -48
      27: r3 = 44
      28: r4 = 1
      29: call bpf_skb_set_tunnel_key#21
      30: if r0 != 0x0 goto pc+6
      31: r1 = 4
      32: r2 = 0
      33: call bpf_redirect#23
      34: exit
      35: r0 = -1
      36: exit
      37: r0 = 2
      38: exit"
    `);
  });

  test('the hash is computed once, and only where it is used', () => {
    expect(code('const h = ctx.hash; return h === ctx.hash && h > 5 ? ctx.drop() : ctx.next();').match(/get_hash_recalc/g)).toHaveLength(1);
    expect(code('const h = ctx.hash; return ctx.next();')).not.toContain('call');
  });
});

describe('refused', () => {
  test('members that the hook does not have', () => {
    const cases: readonly (readonly [body: string, hook: Hook])[] = [
      ['return ctx.tx();', 'tcIngress'],
      ['return ctx.abort();', 'tcEgress'],
      ['const q = ctx.rxQueue;', 'tc'],
      ['ctx.mark = 1;', 'xdp'],
      ['const n = ctx.segments;', 'xdp'],
      ['const n = ctx.ifindex;', 'xdp'],
      ['ctx.queue = 1;', 'xdp'],
      ['ctx.clone(1);', 'xdp'],
      ['return ctx.redirectNeigh(1);', 'xdp'],
      ['return ctx.redirectPeer(1);', 'tc'],
      ['return ctx.redirectPeer(1);', 'tcEgress'],
      ['const { tunnelKey } = ctx;', 'xdp'],
    ];
    const lines = cases.map(([body, hook]) =>
      refused(body, hook)
        .split('\n')
        .filter((line) => /stage '|hint/.test(line))
        .join(''),
    );
    expect(lines.join('\n')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': ctx.tx is not there at tcIngress   = hint: use ctx.redirect(ctx.ifindex)
      stage.ts:2:12: stage 'sample': ctx.abort is not there at tcEgress   = hint: use ctx.drop()
      stage.ts:2:15: stage 'sample': ctx.rxQueue is not there at tc   = hint: ctx.queue is the transmit queue
      stage.ts:2:5: stage 'sample': ctx.mark is not there at xdp   = hint: tell later stages by ctx.meta
      stage.ts:2:15: stage 'sample': ctx.segments is not there at xdp   = hint: at XDP no packet has been put together yet
      stage.ts:2:15: stage 'sample': ctx.ifindex is not there at xdp   = hint: use ctx.ingressIfindex
      stage.ts:2:5: stage 'sample': ctx.queue is not there at xdp   = hint: ctx.rxQueue is the queue that the packet came in on
      stage.ts:2:5: stage 'sample': ctx.clone is not there at xdp
      stage.ts:2:12: stage 'sample': ctx.redirectNeigh is not there at xdp   = hint: ask for it at tcEgress, or write the addresses and use ctx.redirect(ifindex)
      stage.ts:2:12: stage 'sample': ctx.redirectPeer is not there at tc   = hint: the kernel takes it at tcIngress alone
      stage.ts:2:12: stage 'sample': ctx.redirectPeer is not there at tcEgress   = hint: the kernel takes it at tcIngress alone
      stage.ts:2:9: stage 'sample': ctx.tunnelKey is not there at xdp"
    `);
  });

  test('assignments', () => {
    expect(refused('ctx.hash = 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': ctx.hash cannot be assigned to
       2 | ctx.hash = 1;
         | ^^^^^^^^"
    `);
    expect(refused('ctx.mark = 1n;')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': a bigint where a number is stored
       2 | ctx.mark = 1n;
         |            ^^
         = hint: use Number(x)"
    `);
    expect(refused('ctx.queue = 65535;')).toMatchInlineSnapshot(`
      "stage.ts:2:13: stage 'sample': ctx.queue takes 0..65534; the value is 65535
       2 | ctx.queue = 65535;
         |             ^^^^^
         = hint: mask it: & 0x7fff"
    `);
    expect(refused('ctx.queue += 1;')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': ctx.queue takes 0..65534; the value may be 1..65536
       2 | ctx.queue += 1;
         | ^^^^^^^^^^^^^^
         = hint: mask it: & 0x7fff"
    `);
  });

  test('arguments', () => {
    const ports = devmap({ name: 'ports', maxEntries: 4 });
    expect(refused('return ctx.redirect(ports, 1);', 'tc', { uses: { ports } })).toMatchInlineSnapshot(`
      "stage.ts:2:21: stage 'sample': a devmap leads packets of XDP alone
       2 | return ctx.redirect(ports, 1);
         |                     ^^^^^
         = hint: pass the index of the interface"
    `);
    expect(refused('return ctx.redirectIngress();')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': nothing where a number is expected
       2 | return ctx.redirectIngress();
         |        ^^^^^^^^^^^^^^^^^^^^^"
    `);
    expect(refused('ctx.clone(-1);')).toMatchInlineSnapshot(`
      "stage.ts:2:11: stage 'sample': the argument is -1, expected 0..4294967295
       2 | ctx.clone(-1);
         |           ^^
         = hint: make it unsigned: x >>> 0"
    `);
    expect(refused("ctx.tunnelKey('ipv5');")).toMatchInlineSnapshot(`
      "stage.ts:2:15: stage 'sample': the family must be 'ipv4' or 'ipv6'
       2 | ctx.tunnelKey('ipv5');
         |               ^^^^^^"
    `);
    expect(refused('ctx.setTunnelKey();')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': setTunnelKey() needs a key
       2 | ctx.setTunnelKey();
         | ^^^^^^^^^^^^^^^^^^
         = hint: declare it with TunnelKey: { id, remote, … }"
    `);
    expect(refused('ctx.setTunnelKey({ id: 1 });')).toMatchInlineSnapshot(`
      "stage.ts:2:18: stage 'sample': field 'remote' is missing
       2 | ctx.setTunnelKey({ id: 1 });
         |                  ^^^^^^^^^
         = hint: fields: id, remote, tos, ttl, extra, label, local"
    `);
    expect(refused('ctx.adjustTail(ctx.length);')).toMatchInlineSnapshot(`
      "stage.ts:2:16: stage 'sample': the argument may be 0..1048576, at TC expected -2147483648..1024
       2 | ctx.adjustTail(ctx.length);
         |                ^^^^^^^^^^
         = hint: bound it: Math.min(x, 1024)"
    `);
  });

  test('metadata', () => {
    const writes = { words: array(u32, 4), other: u32 };
    expect(refused('ctx.meta.words[ctx.mark & 3] = 1;', 'tc', { writes })).toMatchInlineSnapshot(`
      "stage.ts:2:16: stage 'sample': an array among the metadata of TC has constant indices only
       2 | ctx.meta.words[ctx.mark & 3] = 1;
         |                ^^^^^^^^^^^^
         = hint: compare the index with each constant"
    `);
    const pair = struct({ a: u8, b: u8 });
    const body = 'const one = ctx.mark > 5 ? ctx.meta.x : ctx.meta.y; if (one.a) return ctx.drop();';
    expect(refused(body, 'tc', { writes: { x: pair, y: pair } })).toMatchInlineSnapshot(`
      "stage.ts:2:57: stage 'sample': it refers to different metadata on different paths
       2 | const one = ctx.mark > 5 ? ctx.meta.x : ctx.meta.y; if (one.a) return ctx.drop();
         |                                                         ^^^
         = hint: read the fields where they are chosen"
    `);
    expect(refused('', 'tc', { writes: { words: array(u32, 4), big: u64 } })).toMatchInlineSnapshot(
      `"stage 'sample': its metadata take 24 bytes, expected at most 20, which is what TC has"`,
    );
  });
});

/** The code that members of sockets become, and what is refused at their hooks. */
import { disassemble } from '@tailrace/bpf';
import { array, type Hook, sockhash, sockmap, struct, u8, u32 } from '@tailrace/stage';
import { describe, expect, test } from 'vitest';
import { compileStage } from '../compile.ts';
import { refusal, stageOf } from '../fixture.ts';

const uses = {
  byIndex: sockmap({ name: 'byIndex', maxEntries: 4 }),
  byPorts: sockhash({ name: 'byPorts', key: struct({ local: u32, remote: u32 }), maxEntries: 4 }),
  head: array(u8, 4),
};
const code = (body: string, hook: Hook): string => disassemble(compileStage(stageOf(body, { hook, uses })).program.instructions);
const refused = (body: string, hook: Hook): string => refusal(stageOf(`${body}\nreturn ctx.next();`, { hook, uses }));

describe('code', () => {
  test('data that came in: bytes, pulled where they are not at hand', () => {
    expect(code('const h = ctx.at(head, 0); return h && h[0] === 22 ? ctx.pass() : ctx.drop();', 'skSkb')).toMatchInlineSnapshot(`
      "0: r6 = r1
      1: r0 = *(u32 *)(r6 +76)
      2: r1 = *(u32 *)(r6 +80)
      3: r2 = r0
      4: r2 += 4
      5: if r2 > r1 goto pc+6
      6: r0 = *(u8 *)(r0 +0)
      7: if r0 == 0x16 goto pc+2
      8: r0 = 0
      9: exit
      10: r0 = 1
      11: exit
      12: r2 = *(u32 *)(r6 +0)
      13: r1 -= r0
      14: if r1 >= r2 goto pc-7
      15: if r2 >= 0x4 goto pc+8
      16: r1 = r6
      17: call bpf_skb_pull_data#39
      18: r0 = *(u32 *)(r6 +76)
      19: r2 = *(u32 *)(r6 +80)
      20: r1 = r0
      21: r1 += 4
      22: if r1 > r2 goto pc-15
      23: goto pc-18
      24: r2 = 4
      25: goto pc-10"
    `);
  });

  test('data that are sent: pointers of 8 bytes, and a pull of their own', () => {
    expect(code('const h = ctx.at(head, 0); return h && h[0] === 22 ? ctx.pass() : ctx.drop();', 'skMsg')).toMatchInlineSnapshot(`
      "0: r6 = r1
      1: r0 = *(u64 *)(r6 +0)
      2: r1 = *(u64 *)(r6 +8)
      3: r2 = r0
      4: r2 += 4
      5: if r2 > r1 goto pc+6
      6: r0 = *(u8 *)(r0 +0)
      7: if r0 == 0x16 goto pc+2
      8: r0 = 0
      9: exit
      10: r0 = 1
      11: exit
      12: r3 = *(u32 *)(r6 +68)
      13: r1 -= r0
      14: if r1 >= r3 goto pc-7
      15: if r3 >= 0x4 goto pc+10
      16: r1 = r6
      17: r2 = 0
      18: r4 = 0
      19: call bpf_msg_pull_data#63
      20: r0 = *(u64 *)(r6 +0)
      21: r2 = *(u64 *)(r6 +8)
      22: r1 = r0
      23: r1 += 4
      24: if r1 > r2 goto pc-17
      25: goto pc-20
      26: r3 = 4
      27: goto pc-12"
    `);
  });

  test('on to another socket', () => {
    expect(code('return ctx.redirect(byIndex, 3);', 'skSkb')).toMatchInlineSnapshot(`
      "0: r2 = map[fd:0]
      2: r3 = 3
      3: r4 = 0
      4: call bpf_sk_redirect_map#52
      5: exit"
    `);
    expect(code('return ctx.redirectIngress(byPorts, { local: ctx.remotePort, remote: ctx.localPort });', 'skMsg')).toMatchInlineSnapshot(`
      "0: r0 = *(u32 *)(r1 +60)
      1: r0 = be32 r0
      2: w0 &= 65535
      3: r2 = *(u32 *)(r1 +64)
      4: *(u32 *)(r10 -8) = r0
      5: *(u32 *)(r10 -4) = r2
      6: r2 = map[fd:0]
      8: r3 = r10
      9: r3 += -8
      10: r4 = 1
      11: call bpf_msg_redirect_hash#71
      12: exit"
    `);
  });

  test('on to another socket, if there is one', () => {
    expect(code("return ctx.redirect(byIndex, 3, 'pass');", 'skSkb')).toMatchInlineSnapshot(`
      "0: r2 = map[fd:0]
      2: r3 = 3
      3: r4 = 0
      4: call bpf_sk_redirect_map#52
      5: if r0 != 0x1 goto pc+1
      6: exit
      7: r0 = 1
      8: exit"
    `);
  });

  test('events', () => {
    expect(
      code('if (ctx.activeEstablished) byPorts.add({ local: ctx.localPort, remote: ctx.remotePort }); return ctx.pass();', 'sockOps'),
    ).toMatchInlineSnapshot(`
      "0: r0 = *(u32 *)(r1 +0)
      1: if r0 != 0x4 goto pc+12
      2: r2 = *(u32 *)(r1 +68)
      3: r0 = *(u32 *)(r1 +64)
      4: r0 = be32 r0
      5: w0 &= 65535
      6: *(u32 *)(r10 -8) = r2
      7: *(u32 *)(r10 -4) = r0
      8: r2 = map[fd:0]
      10: r3 = r10
      11: r3 += -8
      12: r4 = 0
      13: call bpf_sock_hash_update#70
      14: r0 = 1
      15: exit"
    `);
  });

  test('the ends of a connection', () => {
    expect(code('return ctx.family === 2 && ctx.remoteAddr === 0x7f000001 ? ctx.pass() : ctx.drop();', 'skSkb')).toMatchInlineSnapshot(`
      "0: r0 = *(u32 *)(r1 +88)
      1: if r0 != 0x2 goto pc+2
      2: r0 = *(u32 *)(r1 +92)
      3: if w0 == 0x100007f goto pc+2
      4: r0 = 0
      5: exit
      6: r0 = 1
      7: exit"
    `);
    expect(code('const a = ctx.localAddr6; return a.hi === 0n && a.lo === 1n ? ctx.pass() : ctx.drop();', 'skMsg')).toMatchInlineSnapshot(`
      "0: r0 = *(u32 *)(r1 +44)
      1: r0 = be32 r0
      2: r2 = *(u32 *)(r1 +48)
      3: r2 = be32 r2
      4: r0 <<= 32
      5: r0 |= r2
      6: r2 = *(u32 *)(r1 +52)
      7: r2 = be32 r2
      8: r1 = *(u32 *)(r1 +56)
      9: r1 = be32 r1
      10: r2 <<= 32
      11: r2 |= r1
      12: if r0 != 0x0 goto pc+1
      13: if r2 == 0x1 goto pc+2
      14: r0 = 0
      15: exit
      16: r0 = 1
      17: exit"
    `);
  });
});

describe('bytes that come twice', () => {
  test('are told by where they are, and taken off', () => {
    expect(
      code('if (ctx.sequence === 7 && !ctx.trimHead(ctx.length & 15)) return ctx.drop(); return ctx.pass();', 'skSkb'),
    ).toMatchInlineSnapshot(`
      "0: r0 = *(u32 *)(r1 +48)
      1: if r0 != 0x7 goto pc+7
      2: r2 = *(u32 *)(r1 +0)
      3: w2 &= 15
      4: r2 = -r2
      5: r3 = 0
      6: r4 = 0
      7: call bpf_skb_adjust_room#50
      8: if r0 != 0x0 goto pc+2
      9: r0 = 1
      10: exit
      11: r0 = 0
      12: exit"
    `);
  });

  test('as many as the kernel takes', () => {
    expect(refused('ctx.trimHead(4096); return ctx.pass();', 'skSkb')).toMatchInlineSnapshot(`
      "stage.ts:2:14: stage 'sample': the argument is 4096, expected 0..4095
       2 | ctx.trimHead(4096); return ctx.pass();
         |              ^^^^
         = hint: mask it: & 0xfff"
    `);
    expect(refused('return ctx.sequence === 1 ? ctx.pass() : ctx.drop();', 'skMsg')).toContain('ctx.sequence is not there at skMsg');
  });
});

describe('the namespace of a connection', () => {
  test.each(['skMsg', 'sockOps'] as const)('%s', (hook) => {
    expect(code('return ctx.netnsCookie === 1n ? ctx.pass() : ctx.next();', hook)).toContain('call bpf_get_netns_cookie#122');
  });

  test('is not told at skSkb', () => {
    expect(refused('return ctx.netnsCookie === 1n ? ctx.pass() : ctx.drop();', 'skSkb')).toContain('ctx.netnsCookie is not there at skSkb');
  });
});

describe('refused', () => {
  test('what frames have', () => {
    expect(refused('ctx.tcp();', 'skSkb')).toMatchInlineSnapshot(`
      "stage.ts:2:5: stage 'sample': ctx.tcp is not there at skSkb
       2 | ctx.tcp();
         |     ^^^"
    `);
    expect(refused('if (ctx.length > 1) return ctx.pass();', 'sockOps')).toMatchInlineSnapshot(`
      "stage.ts:2:9: stage 'sample': ctx.length is not there at sockOps
       2 | if (ctx.length > 1) return ctx.pass();
         |         ^^^^^^"
    `);
    expect(refused('return ctx.drop();', 'sockOps')).toMatchInlineSnapshot(`
      "stage.ts:2:12: stage 'sample': ctx.drop is not there at sockOps
       2 | return ctx.drop();
         |            ^^^^"
    `);
  });

  test('redirects that lead to no socket', () => {
    expect(refused('return ctx.redirect(1);', 'skSkb')).toMatchInlineSnapshot(`
      "stage.ts:2:21: stage 'sample': data go to a socket of a sockmap or a sockhash
       2 | return ctx.redirect(1);
         |                     ^
         = hint: write ctx.redirect(sockets, key)"
    `);
    expect(refused('return ctx.redirect(byIndex);', 'skMsg')).toMatchInlineSnapshot(`
      "stage.ts:2:8: stage 'sample': redirect() needs a key
       2 | return ctx.redirect(byIndex);
         |        ^^^^^^^^^^^^^^^^^^^^^"
    `);
    expect(refused("return ctx.redirect(byIndex, 1, 'tx');", 'skMsg')).toMatchInlineSnapshot(`
      "stage.ts:2:33: stage 'sample': what becomes of data without a socket must be 'drop' or 'pass'
       2 | return ctx.redirect(byIndex, 1, 'tx');
         |                                 ^^^^"
    `);
    expect(refused('byIndex.add(1);', 'skMsg')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': 'byIndex' takes sockets on their events: add(key) is there at sockOps
       2 | byIndex.add(1);
         | ^^^^^^^^^^^^^^
         = hint: use the handle"
    `);
    expect(refused('byIndex.lookup(1);', 'skSkb')).toMatchInlineSnapshot(`
      "stage.ts:2:1: stage 'sample': sockmap 'byIndex' has no lookup()
       2 | byIndex.lookup(1);
         | ^^^^^^^^^^^^^^^^^
         = hint: sockOps stages add(key) to it, skSkb and skMsg stages pass it to ctx.redirect(map, key)"
    `);
  });
});

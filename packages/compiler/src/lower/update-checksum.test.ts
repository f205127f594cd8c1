import { stage, type XdpContext } from '@tailrace/stage';
import { expect, test } from 'vitest';
import { compileStage } from '../compile.ts';

test.each([
  [
    'a header without one',
    (ctx: XdpContext<unknown>) => {
      const ip = ctx.ipv4();
      if (ip) ctx.updateChecksum(ip as never, 1, 2);
      return ctx.pass();
    },
    'the header has no checksum that covers its segment',
  ],
  [
    'no header',
    (ctx: XdpContext<unknown>) => {
      ctx.updateChecksum(1 as never, 1, 2);
      return ctx.pass();
    },
    'a number where a header is expected',
  ],
  [
    'unlike words',
    (ctx: XdpContext<unknown>) => {
      const ip = ctx.ipv6();
      const tcp = ctx.tcp();
      if (ip && tcp) ctx.updateChecksum(tcp, ip.saddr, 2 as never);
      return ctx.pass();
    },
    'a number and an address, expected two of a kind',
  ],
  [
    'what it covers',
    (ctx: XdpContext<unknown>) => {
      const tcp = ctx.tcp();
      if (tcp) ctx.updateChecksum(tcp, 1, 2, 'all' as never);
      return ctx.pass();
    },
    "what changed must be 'segment' or 'pseudoHeader'",
  ],
])('refuses %s', (_what, program, message) => {
  expect(() => compileStage(stage({ name: 'wrong', hook: 'xdp', program }))).toThrow(message);
});

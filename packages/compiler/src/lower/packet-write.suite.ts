/** A header is looked for anew once the bytes that decide about it were written. */
import type { Engine } from '@tailrace/bpf';
import { Ipv4, stage } from '@tailrace/stage';
import { packet, run, simulate } from '@tailrace/testing';
import { expect, test } from 'vitest';

const frames = [
  packet().ipv4().tcp(),
  packet().ipv4().udp(),
  packet().ipv6().tcp(),
  packet()
    .ipv4({ options: new Uint8Array(8) })
    .tcp(),
];
const programs = {
  protocol: stage({
    name: 'a',
    hook: 'xdp',
    program(ctx) {
      const ip = ctx.ipv4();
      if (!ip || !ctx.tcp()) return ctx.pass();
      ip.protocol = 17;
      return ctx.tcp() ? ctx.drop() : ctx.tx();
    },
  }),
  etherType: stage({
    name: 'b',
    hook: 'xdp',
    program(ctx) {
      const eth = ctx.ethernet();
      if (!eth || !ctx.ipv4()) return ctx.pass();
      eth.etherType = 0x86dd;
      return ctx.ipv4() ? ctx.drop() : ctx.tx();
    },
  }),
  ihl: stage({
    name: 'c',
    hook: 'xdp',
    program(ctx) {
      const ip = ctx.ipv4();
      const t = ctx.tcp();
      if (!ip || !t) return ctx.pass();
      ip.versionIhl = 0x46;
      const u = ctx.tcp();
      if (!u) return ctx.abort();
      return ctx.offsetOf(u) === ctx.offsetOf(t) ? ctx.drop() : ctx.tx();
    },
  }),
  at: stage({
    name: 'd',
    hook: 'xdp',
    uses: { Ipv4 },
    program(ctx, { Ipv4 }) {
      const ip = ctx.at(Ipv4, 14);
      if (!ip || !ctx.tcp()) return ctx.pass();
      ip.protocol = 17;
      return ctx.tcp() ? ctx.drop() : ctx.tx();
    },
  }),
  offset: stage({
    name: 'e',
    hook: 'xdp',
    program(ctx) {
      const t = ctx.tcp();
      if (!t) return ctx.pass();
      return ctx.offsetOf(t) === 34 ? ctx.drop() : ctx.offsetOf(t) === 54 ? ctx.tx() : ctx.abort();
    },
  }),
};
/** The cases, on an engine. */
export function packetWriteSuite(engine: Engine): void {
  for (const [name, s] of Object.entries(programs))
    for (const [i, f] of frames.entries())
      test(`${name} ${i}`, async () => {
        const { verdict } = await run(s, f.bytes(), { engine });
        expect(verdict).toBe(simulate(s, f.bytes()).verdict);
      });
}

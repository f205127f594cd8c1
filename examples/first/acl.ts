/** The README's stage: blocks source prefixes. Runs off the wire, on one packet that is made here. */

import { packet } from '@tailrace/testing';
import { ip, ipv4Prefix, lpmTrie, pipeline, stage, u64, userspace } from 'tailrace';

const acl = stage({
  name: 'acl',
  hook: 'xdp',
  uses: { blocked: lpmTrie({ name: 'blocked', key: ipv4Prefix, value: u64, maxEntries: 10_000 }) },
  program(ctx, { blocked }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    const hits = blocked.lookup({ prefixLen: 32, addr: ip.saddr });
    if (!hits) return ctx.next();
    hits.value += 1n;
    return ctx.drop();
  },
});

await using running = await pipeline('edge', { xdp: [acl] }).run(userspace());
const blocked = running.map(acl.uses.blocked);
const frame = packet().ipv4({ saddr: '203.0.113.7' }).tcp({ dport: 80 }).bytes();
console.log((await running.run(frame)).verdict);
blocked.set({ prefixLen: 24, addr: ip('203.0.113.0') }, 0n);
console.log((await running.run(frame)).verdict, blocked.get({ prefixLen: 24, addr: ip('203.0.113.0') }));

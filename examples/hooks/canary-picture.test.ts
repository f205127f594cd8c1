/** A canary with traffic in it, as pictures: canary.svg is what is drawn here, `vitest -u` draws it anew. */
import { packet } from '@tailrace/testing';
import { drawPipeline, drawSvg, userspace } from 'tailrace';
import { expect, test } from 'vitest';
import present from './pipeline.ts';
import next from './stricter.ts';

const FLOWS = 2_000;

test('both sides of a canary with what their packets came to, in the terminal and as SVG', async () => {
  await using running = await present.run(userspace());
  await using trial = await running.canary(next, { share: 0.1 });
  for (let flow = 0; flow < FLOWS; flow++) {
    const dport = flow % 40 === 0 ? 53 : 4000 + (flow % 3);
    const datagram = packet()
      .ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' })
      .udp({ sport: 10_000 + flow, dport });
    await running.inject(datagram.payload(flow % 90 === 0 ? 1 : 100).bytes());
    await running.inject(
      packet()
        .ipv4({ saddr: '10.0.0.2', daddr: '10.0.0.1' })
        .udp({ sport: dport, dport: 10_000 + flow })
        .bytes(),
      {
        direction: 'egress',
      },
    );
  }
  const { present: stats, canary } = trial.stats();
  const options = { stats, canary: { ...trial.describe(), stats: canary }, wire: 'eth0' };
  expect(drawPipeline(running.describe(), options)).toMatchInlineSnapshot(`
    "   eth0
       │
       ▼ XDP
       ├──▶ present  1,805 packets · drop 1.2% · pass 98.8%
       │  ╭──────────╮
       │  │ classify │  1,805 packets · 254.1 kB
       │  ╰──────────╯  next 1,783 ─▶ pass · runt 22 ─▶ drop
       │
       ├──▶ canary, 10% of all flows  195 packets · drop 3.6% · pass 96.4%
       │  ╭──────────╮
       │  │ classify │  195 packets · 27.6 kB · drop 6 · for reserved 6
       │  ╰──────────╯  next 188 ─▶ pass · runt 1 ─▶ drop
       │
       ▼ TC ingress  with length, tenant
    ╭──────────╮
    │ account  │  1,971 packets · 279.9 kB
    ╰──────────╯  next 1,971 ─▶ pass
       │
       the network stack
       │
       ▼ TC egress
    ╭──────────╮
    │ count    │  2,000 packets · 84.0 kB
    ╰──────────╯  next 2,000 ─▶ pass
       │
       eth0"
  `);
  await expect(drawSvg(running.describe(), options)).toMatchFileSnapshot('canary.svg');
});

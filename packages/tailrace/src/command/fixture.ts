/** A pipeline for tests of commands: two stages, an exit between them that one of them wires onward, and one map. */
import { pipeline } from '@tailrace/pipeline';
import { hash, stage, u32, u64 } from '@tailrace/stage';

const senders = hash({ name: 'senders', key: u32, value: u64, maxEntries: 16 });

const first = stage({
  name: 'first',
  hook: 'xdp',
  program(ctx) {
    if (ctx.length < 100) return ctx.exit('short');
    return ctx.next();
  },
});
const second = stage({
  name: 'second',
  hook: 'xdp',
  uses: { senders },
  program(ctx, { senders }) {
    const hits = senders.lookup(7);
    if (hits) hits.value += 1n;
    return ctx.next();
  },
});
const last = stage({ name: 'last', hook: 'xdp', program: (ctx) => ctx.drop() });

export const pair = pipeline('pair', { xdp: [first.on({ short: last }), second] });

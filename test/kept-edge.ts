/** A pipeline for persist.kernel.test.ts: its stages write their generation into each numbered frame, and count frames in one map. */
import { pipeline } from '@tailrace/pipeline';
import { be32, hash, stage, struct, u32, u64 } from '@tailrace/stage';

/** A frame of 60 bytes: behind the addresses an EtherType for local experiments, its number, and who wrote into it. */
export const PROBE = { etherType: 0x88b5, bytes: 60, number: 14, first: 18, last: 22 } as const;
/** What is written, from byte 18 on. */
const stamp = struct({ first: be32, last: be32 });

/** Keys of `seen`. */
export const AT = { xdp: 1, tcIngress: 2, mixed: 3 } as const;

/** One process's declarations. */
export function keptEdge(name: string) {
  const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 4 });
  const edge = (generation: number) => {
    const uses = { seen, stamp, generation };
    const first = stage({
      name: 'first',
      hook: 'xdp',
      uses,
      writes: { generation: u32 },
      onMiss: 'drop',
      program(ctx, { seen, stamp, generation }) {
        ctx.meta.generation = generation;
        const ethernet = ctx.ethernet();
        if (!ethernet) return ctx.exit('other');
        if (ethernet.etherType !== 0x88b5) return ctx.exit('other');
        const entry = seen.lookup(1);
        if (entry) entry.value += 1n;
        const at = ctx.at(stamp, 18);
        if (at) at.first = generation;
        return ctx.next();
      },
    });
    const last = stage({
      name: 'last',
      hook: 'xdp',
      uses: { stamp, generation },
      onMiss: 'drop',
      program(ctx, { stamp, generation }) {
        const at = ctx.at(stamp, 18);
        if (at) at.last = generation;
        return ctx.next();
      },
    });
    const guard = stage({
      name: 'guard',
      hook: 'tcIngress',
      uses: { seen, generation },
      reads: { generation: u32 },
      program(ctx, { seen, generation }) {
        const ethernet = ctx.ethernet();
        if (!ethernet) return ctx.next();
        if (ethernet.etherType !== 0x88b5) return ctx.next();
        const entry = seen.lookup(2);
        if (entry) entry.value += 1n;
        const mixed = seen.lookup(3);
        if (mixed && ctx.meta.generation !== generation) mixed.value += 1n;
        return ctx.next();
      },
    });
    return pipeline(name, { xdp: [first.on({ other: 'pass' }), last], tcIngress: [guard] });
  };
  return { seen, edge };
}

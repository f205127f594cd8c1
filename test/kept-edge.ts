/** A pipeline for persist.kernel.test.ts and its neighbours: its stages write their generation into each numbered frame, and count frames. */
import { pipeline } from '@tailrace/pipeline';
import { be32, hash, stage, struct, u32, u64 } from '@tailrace/stage';

/** A frame of 60 bytes: behind the addresses an EtherType for local experiments, its number, and who wrote into it. */
export const PROBE = { etherType: 0x88b5, bytes: 60, number: 14, first: 18, last: 22, out: 26 } as const;
/** What is written on the way in, from byte 18 on. */
const stamp = struct({ first: be32, last: be32 });
/** What is written on the way out, from byte 26 on. */
const mark = struct({ out: be32 });

/** Where a frame's number is, at byte 14. */
const Numbered = struct({ number: be32 });

/** The names of its stages, which no other pipeline has. */
export const STAGES: readonly string[] = ['keptFirst', 'keptLast', 'keptGuard', 'keptOut'];

/** Keys of `seen`. */
export const AT = { xdp: 1, tcIngress: 2, tcEgress: 4, mixed: 3 } as const;

/** One process's declarations. */
export function keptEdge(name: string) {
  const seen = hash({ name: 'seen', key: u32, value: u64, maxEntries: 4 });
  const stages = (generation: number) => {
    const uses = { seen, stamp, generation };
    const first = stage({
      name: 'keptFirst',
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
      name: 'keptLast',
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
      name: 'keptGuard',
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
    const out = stage({
      name: 'keptOut',
      hook: 'tcEgress',
      uses: { seen, mark, generation },
      onMiss: 'drop',
      program(ctx, { seen, mark, generation }) {
        const ethernet = ctx.ethernet();
        if (!ethernet) return ctx.next();
        if (ethernet.etherType !== 0x88b5) return ctx.next();
        const entry = seen.lookup(4);
        if (entry) entry.value += 1n;
        const at = ctx.at(mark, 26);
        if (at) at.out = generation;
        return ctx.next();
      },
    });
    return { first, last, guard, out };
  };
  const edge = (generation: number) => {
    const { first, last, guard, out } = stages(generation);
    return pipeline(name, { xdp: [first.on({ other: 'pass' }), last], tcIngress: [guard], tcEgress: [out] });
  };
  // frames with odd numbers
  const pick = stage({
    name: 'keptPick',
    hook: 'xdp',
    uses: { Numbered },
    program(ctx, { Numbered }) {
      const frame = ctx.at(Numbered, 14);
      return frame && (frame.number & 1) === 1 ? ctx.exit('canary') : ctx.next();
    },
  });
  return { seen, stages, edge, match: [pick, pick.at('tc')] };
}

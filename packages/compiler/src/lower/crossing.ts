/** Metadata on their way from XDP to TC: written in front of the packet, where the kernel keeps them for the skb. */
import { Helper } from '@tailrace/bpf';
import { XDP_MD } from '../hook-model.ts';
import type { Crossing } from '../placement.ts';
import { alignment, chunk } from './access.ts';
import { forgetPacket } from './fact.ts';
import type { Program } from './program.ts';
import { metadataPlace } from './state.ts';

/** Bytes that a crossing takes in front of the packet: the tag and the words. */
export const crossingSize = ({ words }: Pick<Crossing, 'words'>): number => 4 + 4 * words;

/** Puts the tag and the fields in front of the packet, where there is room; goes on without them where there is none. */
export function cross(program: Program, crossing: Crossing): void {
  const { lowering } = program;
  const { context } = lowering.graph;
  const size = crossingSize(crossing);
  const done = lowering.newJoin();
  const made = lowering.call(Helper.xdp_adjust_meta, [context, lowering.constant(-size)], { movesPacket: true });
  forgetPacket(lowering);
  lowering.branch(
    'eq',
    made,
    lowering.constant(0),
    () => {
      const start = lowering.load(4, 'context', context, XDP_MD.dataMeta, 'packet');
      const end = lowering.load(4, 'context', context, XDP_MD.data, 'packet');
      lowering.check(
        start,
        size,
        end,
        () => {
          lowering.store(4, 'packet', start, 0, lowering.constant(crossing.tag));
          for (const field of crossing.fields) {
            const from = metadataPlace(program, field.from);
            for (let at = 0; at < field.size; ) {
              const part = chunk(Math.min(field.size - at, alignment(from.offset + at), alignment(field.to + at)));
              lowering.store(part, 'packet', start, 4 + field.to + at, lowering.load(part, from.space, from.base, from.offset + at));
              at += part;
            }
          }
          for (const at of unusedBytes(crossing)) lowering.store(1, 'packet', start, 4 + at, lowering.constant(0));
          lowering.jump(done);
        },
        () => lowering.jump(done),
      );
    },
    () => lowering.jump(done),
    'then',
  );
  lowering.enter(done);
}

/** Bytes of the words that no field fills; stores of neighbours become one later. */
export function unusedBytes({ words, fields }: Crossing): readonly number[] {
  return Array.from({ length: 4 * words }, (_, at) => at).filter((at) => !fields.some(({ to, size }) => to <= at && at < to + size));
}

/**
 * What stands below a hook: its chain, or, where a canary sorts packets, both chains side by side, each below a caption that says how
 * packets fare there.
 */
import { type CanaryPicture, canaryChain, sideFigures, trafficText } from './canary-picture.ts';
import type { ChainDescription } from './description.ts';
import { type ChainColumn, type CountsByStage, layoutChain, SPINE } from './svg-chain.ts';
import { arrow, element, fontSize, textAt, widthOf } from './svg-element.ts';

/** Chains with their place, ready to be drawn. */
export interface HookColumn extends Pick<ChainColumn, 'boxWidth' | 'width' | 'height'> {
  /** Draws them with their upper left corner there, and the ways to them from the hook's box, which ends at `from`. */
  draw(x: number, y: number, from: number): string;
}

/** Between a side's chain and what is beside it. */
const GAP = 34;
/** From the canary's chain to its frame. */
const FRAME = 14;
const LINE = 16;
/** From the spine to the caption. */
const INDENT = 12;
/** From the hook's box to where the way to the canary turns off. */
const TURN = 12;

/** Lays out what is below a hook. */
export function layoutHook(chain: ChainDescription, counts: CountsByStage | undefined, canary: CanaryPicture | undefined): HookColumn {
  const next = canary && canaryChain(canary, chain.hook);
  if (canary === undefined || next === undefined) return layoutAlone(layoutChain(chain, counts));
  const present = sideOf('present', [], chain, counts);
  const other = sideOf('canary', [trafficText(canary)], next, canary.stats?.[chain.hook]);
  const caption = Math.max(...[present, other].map(({ lines }) => lines.length)) * LINE + 12;
  const [offset, height] = [present.width + GAP + FRAME, caption + Math.max(present.column.height, other.column.height) + FRAME];
  return {
    boxWidth: present.column.boxWidth,
    width: offset + other.width + FRAME,
    height,
    draw(x, y, from) {
      const [left, right, boxes] = [x + SPINE, x + offset + SPINE, y + caption];
      const frame = { x: x + offset - FRAME, y: y - 4, width: other.width + 2 * FRAME, height: height + 4, rx: 10, class: 'canarybox' };
      return [
        element('rect', frame),
        arrow([
          [left, from],
          [left, boxes],
        ]),
        arrow([
          [left, from + TURN],
          [right, from + TURN],
          [right, boxes],
        ]),
        ...drawCaption(present, left + INDENT, y),
        ...drawCaption(other, right + INDENT, y),
        present.column.draw(x, boxes),
        other.column.draw(x + offset, boxes),
      ].join('\n');
    },
  };
}

function layoutAlone(column: ChainColumn): HookColumn {
  return {
    ...column,
    draw: (x, y, from) =>
      [
        arrow([
          [x + SPINE, from],
          [x + SPINE, y],
        ]),
        column.draw(x, y),
      ].join('\n'),
  };
}

/** One of two chains. */
interface Side {
  readonly name: 'present' | 'canary';
  /** Its caption. */
  readonly lines: readonly string[];
  readonly column: ChainColumn;
  /** Of chain and caption. */
  readonly width: number;
}

function sideOf(name: Side['name'], about: readonly string[], chain: ChainDescription, counts: CountsByStage | undefined): Side {
  const [packets, ...verdicts] = counts ? sideFigures(chain, counts) : [];
  const lines = [[name, ...about].join(' · '), ...(packets === undefined ? [] : [packets, verdicts.join(' · ')])];
  const column = layoutChain(chain, counts);
  return { name, lines, column, width: Math.max(column.width, ...lines.map((line) => SPINE + INDENT + widthOf(line, fontSize.name))) };
}

function drawCaption({ name, lines }: Side, x: number, y: number): readonly string[] {
  return lines.map((line, at) => textAt(x, y + 12 + at * LINE, at > 0 ? 'detail' : name === 'canary' ? 'name canary' : 'name', line));
}

/**
 * A pipeline as SVG: above, the way of packets from the wire through the hooks to the network stack and back; below each
 * hook, its chain. The same description gives the same bytes; colours follow the page, light or dark.
 */
import type { CanaryPicture, StatsByHook } from './canary-picture.ts';
import { type ChainHook, chainHooks, hookTitle, isPacketHook } from './chain-hook.ts';
import type { ChainDescription, PipelineDescription } from './description.ts';
import { arrow, definitions, element, escapeText, fontSize, textAt, widthOf } from './svg-element.ts';
import { type HookColumn, layoutHook } from './svg-hook.ts';

/** How to draw a pipeline as SVG. */
export interface SvgOptions {
  /** What `running.stats()` gives, or `present` of a canary's `stats()`. */
  readonly stats?: StatsByHook;
  /** A canary that runs: where packets are sorted, both chains are drawn, and how packets fare on each side. */
  readonly canary?: CanaryPicture;
  /** What packets come from and go to, e.g. `eth0`. */
  readonly wire?: string;
}

const MARGIN = 24;
const HEADING = 36;
const STOP_HEIGHT = 34;
const GAP = 40;
/** From the hook's name to its first stage. */
const DROP = 36;

/** A stop on the way: a hook with its chain, or a place before, between and behind. */
interface Stop {
  readonly title: string;
  /** Of what has its title. */
  readonly boxWidth: number;
  /** With verdicts and lanes of its chain. */
  readonly width: number;
  readonly column?: HookColumn;
  /** What packets bring along from the stop before. */
  readonly carried: string;
  /** Nothing comes here from the stop before. */
  readonly apart?: boolean;
}

/** Draws a pipeline: an SVG document that ends in a newline. */
export function drawSvg<L>(pipeline: PipelineDescription<L>, { wire = 'the wire', ...counted }: SvgOptions = {}): string {
  const stops = stopsOf(pipeline, counted, wire);
  const [top, chains] = [MARGIN + HEADING, MARGIN + HEADING + STOP_HEIGHT + DROP];
  const drawn: string[] = [];
  let x = MARGIN;
  // the right end of chains: a place may stand above verdicts and lanes, another chain may not
  let chainEnd = 0;
  let right = MARGIN + widthOf(pipeline.name, fontSize.heading);
  for (const [at, stop] of stops.entries()) {
    const previous = stops[at - 1];
    if (previous) {
      const from = x + previous.boxWidth;
      const room = Math.max(GAP, widthOf(stop.carried, fontSize.detail) + 28);
      x = Math.max(from + room, stop.column ? chainEnd + GAP : 0);
      const y = top + STOP_HEIGHT / 2;
      if (!stop.apart)
        drawn.push(
          arrow([
            [from, y],
            [x, y],
          ]),
        );
      if (stop.carried !== '') drawn.push(textAt((from + x - 8) / 2, y - 7, 'detail', stop.carried, 'middle'));
    }
    drawn.push(drawStop(stop, x, top, chains));
    right = Math.max(right, x + stop.width);
    if (stop.column) chainEnd = x + stop.width;
  }
  const width = Math.ceil(right + MARGIN);
  const lowest = Math.max(top + STOP_HEIGHT, ...stops.map(({ column }) => (column ? chains + column.height : 0)));
  const height = Math.ceil(lowest + MARGIN);
  const content = [
    `<title>${escapeText(`pipeline ${pipeline.name}`)}</title>`,
    definitions(),
    element('rect', { width, height, class: 'page' }),
    textAt(MARGIN, MARGIN + 14, 'heading', pipeline.name),
    ...drawn,
  ];
  const frame = { xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${width} ${height}`, width, height, class: 'tailrace', role: 'img' };
  return `${element('svg', frame, `\n${content.join('\n')}\n`)}\n`;
}

function stopsOf<L>(pipeline: PipelineDescription<L>, { stats, canary }: Omit<SvgOptions, 'wire'>, wire: string): readonly Stop[] {
  const chains: { readonly [K in ChainHook]?: ChainDescription } = pipeline.chains as Readonly<Record<string, ChainDescription>>;
  const stack = 'network stack';
  const comesIn = chains.xdp !== undefined || chains.tcIngress !== undefined;
  const hooks = chainHooks.flatMap((hook): readonly Stop[] => {
    const chain = chains[hook];
    if (chain === undefined) return [];
    const column = layoutHook(chain, stats?.[hook], canary);
    const carried = hook === 'tcIngress' ? pipeline.crossing.join(', ') : '';
    const stop: Stop = { title: hookTitle[hook], boxWidth: column.boxWidth, width: column.width, column, carried };
    if (!isPacketHook(hook)) return [{ ...stop, apart: true }];
    return hook === 'tcEgress' && comesIn ? [placeStop(stack), stop] : [stop];
  });
  const sockets = hooks.filter(({ apart }) => apart);
  if (sockets.length === hooks.length) return sockets;
  const packets = hooks.filter(({ apart }) => !apart);
  return [placeStop(comesIn ? wire : stack), ...packets, placeStop(chains.tcEgress ? wire : stack), ...sockets];
}

function placeStop(title: string): Stop {
  const width = widthOf(title, fontSize.hook) + 28;
  return { title, boxWidth: width, width, carried: '' };
}

function drawStop({ title, boxWidth, column }: Stop, x: number, top: number, chains: number): string {
  const middle = top + STOP_HEIGHT / 2 + 4.5;
  const rect = { x, y: top, width: boxWidth, height: STOP_HEIGHT };
  if (!column)
    return [
      element('rect', { ...rect, rx: STOP_HEIGHT / 2, class: 'place' }),
      textAt(x + boxWidth / 2, middle, 'label', title, 'middle'),
    ].join('\n');
  return [
    element('rect', { ...rect, rx: 6, class: 'hookbox' }),
    textAt(x + boxWidth / 2, middle, 'hook', title, 'middle'),
    column.draw(x, chains, top + STOP_HEIGHT),
  ].join('\n');
}

/**
 * One chain as a column of SVG: its stages from top to bottom, `next` straight down, every other edge out of a row of its
 * own on the right, to a verdict beside it or along a lane to the stage that it leads to.
 *
 *     ┌──────────┐
 *     │ classify │◀───────────╮
 *     │     runt ●──▶ (drop)  │
 *     └──┬───────┘            │   lanes
 */
import type { ChainDescription, EdgeDescription, StageDescription } from './description.ts';
import { bytes, number, reasonsMet } from './figure.ts';
import type { StageStats } from './stats.ts';
import { arrow, element, fontSize, textAt, widthOf } from './svg-element.ts';

/** Counters by the stage's name. */
export type CountsByStage = Readonly<Record<string, StageStats>>;

/** A chain with its place, ready to be drawn. */
export interface ChainColumn {
  /** Of the boxes. */
  readonly boxWidth: number;
  /** With verdicts and lanes. */
  readonly width: number;
  readonly height: number;
  /** Draws it with its upper left corner there. */
  draw(x: number, y: number): string;
}

/** Where `next` leaves a box, and where it comes in. */
export const SPINE = 24;
const PAD = 12;
const TITLE = 28;
const DETAIL = 16;
const PORT = 24;
const LEAST_WIDTH = 132;
/** Characters of a line of details. */
const DETAIL_CHARS = 40;
const TO_VERDICT = 34;
const LANE = 12;

/** A line of a box that an edge leaves from. */
interface Port {
  readonly edge: EdgeDescription;
  readonly label: string;
  readonly taken: string;
  /** Of its middle, from the column's top. */
  readonly y: number;
}

interface Box {
  readonly stage: StageDescription;
  readonly y: number;
  readonly height: number;
  readonly details: readonly Detail[];
  readonly ports: readonly Port[];
  /** Packets that went on to the box below, as text; undefined where `next` does not lead there. */
  readonly falls: string | undefined;
}

interface Detail {
  readonly text: string;
  readonly kind: 'detail' | 'detail good' | 'detail bad';
}

/** Edges that lead to one stage share a lane. */
interface Lane {
  readonly to: Box;
  readonly from: readonly Port[];
  /** From the left, 0 first. */
  readonly index: number;
}

/** Lays a chain out. */
export function layoutChain(chain: ChainDescription, counts: CountsByStage | undefined): ChainColumn {
  const boxes = layoutBoxes(chain, counts);
  const boxWidth = Math.max(LEAST_WIDTH, ...boxes.map(boxRoom));
  const verdicts = boxes.flatMap(({ ports }) => ports.flatMap(({ edge }) => (edge.verdict === undefined ? [] : [edge.verdict])));
  const pill = verdicts.length === 0 ? 0 : Math.max(...verdicts.map((verdict) => widthOf(verdict, fontSize.label))) + 20;
  const lanes = layoutLanes(boxes);
  const laneStart = boxWidth + (pill === 0 ? 2 * LANE : TO_VERDICT + pill + LANE);
  const laneCount = Math.max(0, ...lanes.map(({ index }) => index + 1));
  const last = boxes.at(-1);
  return {
    boxWidth,
    width: laneCount > 0 ? laneStart + laneCount * LANE : boxWidth + (pill === 0 ? 0 : TO_VERDICT + pill),
    height: last ? last.y + last.height : 0,
    draw: (x, y) =>
      [
        ...lanes.flatMap(({ to, from, index }) => {
          const [lane, target] = [x + laneStart + index * LANE, y + to.y + TITLE / 2];
          return from.map((port) =>
            arrow([
              [x + boxWidth, y + port.y],
              [lane, y + port.y],
              [lane, target],
              [x + boxWidth + 1, target],
            ]),
          );
        }),
        ...framesOf(boxes).map(({ top, bottom }) =>
          element('rect', {
            x: x - FRAME,
            y: y + top - FRAME,
            width: boxWidth + 2 * FRAME,
            height: bottom - top + 2 * FRAME,
            rx: 10,
            class: 'fused',
          }),
        ),
        ...boxes.map((box, at) => drawBox(box, boxes[at + 1], { x, y, boxWidth, pill })),
      ].join('\n'),
  };
}

/** From the boxes of a program to its frame. */
const FRAME = 7;

/** Stages of a fused program that stand below each other are framed. */
function framesOf(boxes: readonly Box[]): readonly { readonly top: number; readonly bottom: number }[] {
  const runs: { readonly top: number; bottom: number }[] = [];
  let before: string | undefined;
  for (const { stage, y, height } of boxes) {
    const { program } = stage;
    const last = runs.at(-1);
    if (program !== undefined && last && program === before) last.bottom = y + height;
    else if (program !== undefined) runs.push({ top: y, bottom: y + height });
    before = program;
  }
  return runs;
}

function layoutBoxes(chain: ChainDescription, counts: CountsByStage | undefined): readonly Box[] {
  let y = 0;
  return chain.stages.map((stage, at): Box => {
    const below = chain.stages[at + 1];
    const counted = counts?.[stage.name];
    const down = below && stage.edges.find(({ kind, to }) => kind === 'next' && to === below.name);
    const details = detailsOf(stage, counted);
    const firstPort = y + TITLE + details.length * DETAIL + (details.length > 0 ? 4 : 0);
    const ports = stage.edges
      .filter((edge) => edge !== down)
      .map(
        (edge, row): Port => ({
          edge,
          label: edge.back ? `↺ ${edge.label}` : edge.label,
          taken: takenBy(edge, counted),
          y: firstPort + row * PORT + PORT / 2,
        }),
      );
    const height = firstPort - y + ports.length * PORT + (ports.length > 0 ? 4 : details.length > 0 ? 6 : 2);
    const box: Box = { stage, y, height, details, ports, falls: down && takenBy(down, counted) };
    y += height + (down ? 36 : 24);
    return box;
  });
}

function takenBy(edge: EdgeDescription, counts: StageStats | undefined): string {
  return counts === undefined ? '' : number(edge.kind === 'next' ? counts.next : (counts.exits[edge.label] ?? 0n));
}

function detailsOf({ reads, writes, maps }: StageDescription, counts: StageStats | undefined): readonly Detail[] {
  const plain = (text: string): Detail => ({ text, kind: 'detail' });
  const listed = (heading: string, names: readonly string[]): readonly Detail[] =>
    wrapped(heading, [...new Set(names)]).map((line) => plain(line));
  const verdicts = Object.entries(counts?.verdicts ?? {}).filter(([, packets]) => packets > 0n);
  return [
    ...(counts ? [plain(`${number(counts.packets)} packets · ${bytes(counts.bytes)}`)] : []),
    ...verdicts.map(
      ([name, packets]): Detail => ({ text: `${name} ${number(packets)}`, kind: isBad(name) ? 'detail bad' : 'detail good' }),
    ),
    ...wrapped('for', counts ? reasonsMet(counts) : []).map((text): Detail => ({ text, kind: 'detail bad' })),
    ...(counts && counts.misses > 0n ? [{ text: `missed ${number(counts.misses)}`, kind: 'detail bad' } as const] : []),
    ...listed('reads', reads),
    ...listed('writes', writes),
    ...listed('maps', maps),
  ];
}

/** `maps a, b, c` in as many lines as it takes. */
function wrapped(heading: string, names: readonly string[]): readonly string[] {
  const lines: string[] = [];
  names.forEach((name, at) => {
    const word = at < names.length - 1 ? `${name},` : name;
    const line = lines.at(-1);
    if (line === undefined) lines.push(`${heading} ${word}`);
    else if (line.length + 1 + word.length <= DETAIL_CHARS) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  });
  return lines;
}

function boxRoom({ stage, details, ports }: Box): number {
  const { name, detail, label } = fontSize;
  return (
    2 * PAD +
    Math.max(
      widthOf(titleOf(stage), name),
      ...details.map(({ text }) => widthOf(text, detail)),
      ...ports.map((port) => widthOf(`${port.label} ${port.taken}`, label) + 6),
    )
  );
}

/** Every stage that others than the one above lead to gets the leftmost lane that is free along its way; short ways first. */
function layoutLanes(boxes: readonly Box[]): readonly Lane[] {
  const ports = boxes.flatMap((box) => box.ports);
  const wanted = boxes.flatMap((to) => {
    const from = ports.filter(({ edge }) => edge.to === to.stage.name);
    const ends = [to.y + TITLE / 2, ...from.map(({ y }) => y)];
    return from.length === 0 ? [] : [{ to, from, top: Math.min(...ends), bottom: Math.max(...ends) }];
  });
  const placed: ((typeof wanted)[number] & { readonly index: number })[] = [];
  for (const way of wanted.sort((a, b) => a.bottom - a.top - (b.bottom - b.top) || a.top - b.top)) {
    let index = 0;
    while (placed.some((other) => other.index === index && other.top <= way.bottom && way.top <= other.bottom)) index++;
    placed.push({ ...way, index });
  }
  return placed;
}

function drawBox(
  { stage, y: top, height, details, ports, falls }: Box,
  below: Box | undefined,
  { x, y, boxWidth, pill }: { readonly x: number; readonly y: number; readonly boxWidth: number; readonly pill: number },
): string {
  const right = x + boxWidth;
  const bottom = y + top + height;
  const spine = x + SPINE;
  const rule = y + (ports[0]?.y ?? 0) - PORT / 2;
  return [
    element('rect', { x, y: y + top, width: boxWidth, height, rx: 6, class: 'box' }),
    textAt(x + PAD, y + top + 19, 'name', titleOf(stage)),
    ...details.map(({ text, kind }, at) => textAt(x + PAD, y + top + TITLE + at * DETAIL + 9, kind, text)),
    ...(ports.length > 0 ? [element('path', { d: `M${x + 1} ${rule}H${right - 1}`, class: 'rule' })] : []),
    ...ports.map((port) => drawPort(port, right, y + port.y, pill)),
    ...(falls === undefined || below === undefined
      ? []
      : [
          arrow([
            [spine, bottom],
            [spine, y + below.y],
          ]),
        ]),
    ...(falls
      ? [textAt(spine + 10, bottom + 21, 'label count', falls)]
      : falls === ''
        ? [textAt(spine + 10, bottom + 21, 'label count', 'next')]
        : []),
  ].join('\n');
}

function drawPort({ edge, label, taken }: Port, right: number, y: number, pill: number): string {
  const { verdict } = edge;
  const counted = taken === '' ? '' : ` ${taken}`;
  const kind = verdict !== undefined && isBad(verdict) ? 'bad' : 'good';
  return [
    textAt(right - PAD - widthOf(counted, fontSize.label), y + 4, 'label', label, 'end'),
    ...(taken === '' ? [] : [textAt(right - PAD, y + 4, 'label count', taken, 'end')]),
    element('circle', { cx: right, cy: y, r: 3, class: 'port' }),
    ...(verdict === undefined
      ? []
      : [
          arrow([
            [right + 3, y],
            [right + TO_VERDICT, y],
          ]),
          element('rect', { x: right + TO_VERDICT, y: y - 9, width: pill, height: 18, rx: 9, class: `${kind}box` }),
          textAt(right + TO_VERDICT + pill / 2, y + 4, `label ${kind}`, verdict, 'middle'),
        ]),
  ].join('\n');
}

const titleOf = ({ name, stage }: StageDescription): string => (stage === name || name.endsWith(`.${stage}`) ? name : `${name} = ${stage}`);

const isBad = (verdict: string): boolean => verdict === 'drop' || verdict === 'abort';

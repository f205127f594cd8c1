/** The bench on a terminal: a table for each suite, then the aims. Pure text; colours where they are asked for. */
import type { Judgement } from './aims.ts';
import type { Outcome, Row, Suite } from './row.ts';

/** Marks good and bad; without a terminal both leave the text as it is. */
export interface Palette {
  good(text: string): string;
  bad(text: string): string;
  faint(text: string): string;
}

/** Text as it is. */
export const plain: Palette = { good: (text) => text, bad: (text) => text, faint: (text) => text };

/** ANSI colours. */
export const coloured: Palette = {
  good: (text) => `\u001b[32m${text}\u001b[39m`,
  bad: (text) => `\u001b[31m${text}\u001b[39m`,
  faint: (text) => `\u001b[2m${text}\u001b[22m`,
};

const HEAD = ['', '', 'ns', 'spread', 'insns', 'ours / this'];

/** Renders one suite's rows and notes, with a line end behind each line. */
export function renderSuite(suite: Pick<Suite, 'name' | 'hook' | 'about'>, { rows, notes }: Outcome, palette: Palette): string {
  const cells = rows.map((row, index) => [row.name === rows[index - 1]?.name ? '' : row.name, ...columns(row)]);
  const widths = HEAD.map((head, column) => Math.max(head.length, ...cells.map((line) => line[column]?.length ?? 0)));
  const render = (line: readonly string[]) => line.map((cell, column) => pad(cell, widths[column] ?? 0, column)).join('  ');
  return [
    `${suite.name}${suite.hook === null ? '' : ` at ${suite.hook}`}: ${suite.about}`,
    ...(rows.length > 0 ? [palette.faint(`  ${render(HEAD)}`)] : []),
    ...rows.map((row, index) => `  ${colour(row, palette)(render(cells[index] ?? []))}`),
    ...notes.map((note) => `  ${palette.bad(note)}`),
    '',
  ]
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

/** Renders the aims, those missed marked as such. */
export function renderAims(judgements: readonly Judgement[], palette: Palette): string {
  if (judgements.length === 0) return '';
  const width = Math.max(...judgements.map(({ aim }) => aim.length));
  const lines = judgements.map(({ aim, value, limit, met }) => {
    const text = `  ${aim.padEnd(width)}  ${value.toFixed(2).padStart(6)}  aim ${limit.toFixed(2)}  ${met ? 'met' : 'missed'}`;
    return met ? palette.good(text) : palette.bad(text);
  });
  const met = judgements.filter((judgement) => judgement.met).length;
  return [
    'aims: tailrace divided by the other where nothing else is said, so smaller is better',
    ...lines,
    `  ${met} of ${judgements.length} met`,
    '',
  ]
    .map((line) => `${line}\n`)
    .join('');
}

function columns(row: Row): readonly string[] {
  return [
    row.variant,
    duration(row.ns),
    `±${duration(row.spread)}`,
    row.insns === null ? '' : String(row.insns),
    row.ratio === null ? '' : `${row.ratio.toFixed(2)}${spreadOf(row)}${row.ratio > 1 ? ' slower' : ''}`,
  ];
}

function spreadOf({ ratioSpread }: Row): string {
  return ratioSpread === undefined ? '' : ` ±${ratioSpread.toFixed(2)}`;
}

/** Nanoseconds with a tenth up to 1,000, whole and grouped from there on. */
function duration(ns: number): string {
  return Math.abs(ns) < 1_000 ? ns.toFixed(1) : Math.round(ns).toLocaleString('en-GB');
}

function pad(cell: string, width: number, column: number): string {
  return column < 2 ? cell.padEnd(width) : cell.padStart(width);
}

function colour({ ratio }: Row, palette: Palette): (text: string) => string {
  if (ratio === null) return (text) => text;
  return ratio > 1 ? palette.bad : palette.good;
}

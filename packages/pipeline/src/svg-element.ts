/** Pieces of SVG as text: elements, escaped text, how much room text takes, and the colours for light and dark pages. */

/** Attributes of an element; numbers are rounded to a tenth. */
export type SvgAttributes = Readonly<Record<string, string | number>>;

/** An element with its content, which is SVG already. */
export function element(name: string, attributes: SvgAttributes, content = ''): string {
  const written = Object.entries(attributes).map(
    ([key, value]) => ` ${key}="${typeof value === 'number' ? round(value) : escapeText(value)}"`,
  );
  return `<${name}${written.join('')}${content === '' ? '/>' : `>${content}</${name}>`}`;
}

/** A line of text; `kind` is a class of the style below, `anchor` what `x` is of it. */
export function textAt(x: number, y: number, kind: string, content: string, anchor: 'start' | 'middle' | 'end' = 'start'): string {
  return element('text', { x, y, class: kind, ...(anchor === 'start' ? {} : { 'text-anchor': anchor }) }, escapeText(content));
}

/** A line that goes straight and turns at rounded corners through `points`, with an arrow at its end. */
export function arrow(points: readonly (readonly [x: number, y: number])[], radius = 6): string {
  const parts = points.map(([x, y], at) => {
    const [before, after] = [points[at - 1], points[at + 1]];
    if (!before) return `M${round(x)} ${round(y)}`;
    if (!after) return `L${round(x)} ${round(y)}`;
    const toward = ([px, py]: readonly [number, number]): string => {
      const distance = Math.hypot(px - x, py - y);
      const part = distance === 0 ? 0 : Math.min(radius, distance / 2) / distance;
      return `${round(x + (px - x) * part)} ${round(y + (py - y) * part)}`;
    };
    return `L${toward(before)}Q${round(x)} ${round(y)} ${toward(after)}`;
  });
  return element('path', { d: parts.join(''), class: 'edge', 'marker-end': 'url(#tailrace-arrow)' });
}

/** Room that text takes: every character of the font has the same. */
export function widthOf(text: string, size: number): number {
  return [...text].length * size * 0.602;
}

/** Text as XML takes it; characters that XML cannot hold become U+FFFD. */
export function escapeText(text: string): string {
  const names: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones that XML 1.0 has no way to write
  return text.replace(/[&<>"]/g, (sign) => names[sign] ?? sign).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd');
}

/** Sizes of text by kind, in px. */
export const fontSize = { heading: 16, hook: 13, name: 13, detail: 11, label: 12 } as const;

/** The style and the arrow's head. Everything is below one class, so that a page around it keeps its own style. */
export function definitions(): string {
  const font = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
  const sizes = Object.entries(fontSize).map(([kind, size]) => `.tailrace .${kind}{font-size:${size}px}`);
  const colors = (theme: Theme): string =>
    [
      `.tailrace .page{fill:${theme.page}}`,
      `.tailrace text{fill:${theme.ink}}`,
      `.tailrace .detail,.tailrace .count{fill:${theme.dim}}`,
      `.tailrace .box{fill:${theme.box};stroke:${theme.frame}}`,
      `.tailrace .fused{fill:none;stroke:${theme.frame};stroke-dasharray:5 4}`,
      `.tailrace .hookbox{fill:${theme.hook};stroke:${theme.hook}}`,
      `.tailrace .hook{fill:${theme.onHook}}`,
      `.tailrace .place{fill:${theme.page};stroke:${theme.frame}}`,
      `.tailrace .edge,.tailrace .rule{stroke:${theme.line}}`,
      `.tailrace .head,.tailrace .port{fill:${theme.line}}`,
      `.tailrace .rule{stroke:${theme.rule}}`,
      `.tailrace .good{fill:${theme.good}}.tailrace .goodbox{fill:${theme.goodBox};stroke:${theme.good}}`,
      `.tailrace .canary{fill:${theme.canary}}.tailrace .canarybox{fill:${theme.canaryBox};stroke:${theme.canary}}`,
      `.tailrace .bad{fill:${theme.bad}}.tailrace .badbox{fill:${theme.badBox};stroke:${theme.bad}}`,
    ].join('');
  const style = [
    `.tailrace text{font-family:${font}}`,
    ...sizes,
    '.tailrace .heading,.tailrace .hook,.tailrace .name{font-weight:600}',
    '.tailrace .edge{fill:none;stroke-width:1.5}',
    colors(light),
    `@media (prefers-color-scheme:dark){${colors(dark)}}`,
  ].join('\n');
  const head = element('path', { d: 'M0 0L8 4L0 8Z', class: 'head' });
  const size = { markerWidth: 8, markerHeight: 8, refX: 7, refY: 4, orient: 'auto', markerUnits: 'userSpaceOnUse' };
  return `<style>${style}</style>\n${element('defs', {}, element('marker', { id: 'tailrace-arrow', ...size }, head))}`;
}

interface Theme {
  readonly page: string;
  readonly ink: string;
  readonly dim: string;
  readonly box: string;
  readonly frame: string;
  readonly line: string;
  readonly rule: string;
  readonly hook: string;
  readonly onHook: string;
  readonly good: string;
  readonly goodBox: string;
  readonly bad: string;
  readonly badBox: string;
  readonly canary: string;
  readonly canaryBox: string;
}

const light: Theme = {
  page: '#ffffff',
  ink: '#1f2328',
  dim: '#59636e',
  box: '#f6f8fa',
  frame: '#b7bfc8',
  line: '#6e7781',
  rule: '#dfe4e9',
  hook: '#0b5c8a',
  onHook: '#ffffff',
  good: '#116329',
  goodBox: '#e6f6ea',
  bad: '#a40e26',
  badBox: '#fdebec',
  canary: '#8a5a00',
  canaryBox: '#fffaec',
};

const dark: Theme = {
  page: '#0d1117',
  ink: '#e6edf3',
  dim: '#9198a1',
  box: '#161b22',
  frame: '#484f58',
  line: '#8b949e',
  rule: '#2b3138',
  hook: '#58a6d6',
  onHook: '#0d1117',
  good: '#56d364',
  goodBox: '#12261a',
  bad: '#ff8182',
  badBox: '#2d1518',
  canary: '#e3b341',
  canaryBox: '#1a160a',
};

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}

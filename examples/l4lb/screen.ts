/** What the demo shows: headings, bars that grow in place on a terminal, tables that stand still elsewhere. */
import { stdout } from 'node:process';

const live = stdout.isTTY === true;
const paint = (code: number) => (text: string) => (live ? `\u001b[${code}m${text}\u001b[0m` : text);
export const bold = paint(1);
export const dim = paint(2);
export const green = paint(32);
export const red = paint(31);
export const color = live;

export function heading(text: string): void {
  stdout.write(`\n${bold(text)}\n`);
}

export function line(text: string): void {
  stdout.write(`  ${text}\n`);
}

/** A block of lines that is drawn over itself on a terminal, and only once, at its end, elsewhere. */
export class LiveBlock {
  #lines = 0;
  #last: readonly string[] = [];

  update(lines: readonly string[]): void {
    this.#last = lines;
    if (live) this.#draw();
  }

  end(): void {
    this.#draw();
    this.#lines = 0;
  }

  #draw(): void {
    const up = this.#lines > 0 ? `\u001b[${this.#lines}A\u001b[J` : '';
    stdout.write(up + this.#last.map((l) => `  ${l}\n`).join(''));
    this.#lines = this.#last.length;
  }
}

/** `real1  ██████████ 104  34.7 %` for each name. */
export function bars(counts: ReadonlyMap<string, number>, width = 36): readonly string[] {
  const total = [...counts.values()].reduce((a, b) => a + b, 0);
  const most = Math.max(1, ...counts.values());
  return [...counts].map(([name, count]) => {
    const bar = '█'.repeat(Math.round((count / most) * width)).padEnd(width);
    return `${name.padEnd(8)} ${bar} ${String(count).padStart(5)}  ${total === 0 ? '' : `${((100 * count) / total).toFixed(1)} %`}`;
  });
}

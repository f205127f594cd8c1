import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import { cut, LiveBlock, type OutputStream, outputOn, palette } from './output.ts';

/** A stream that keeps what is written. */
class Screen extends EventEmitter implements OutputStream {
  text = '';
  isBehind = false;
  readonly isTTY: boolean;
  readonly columns: number;
  readonly rows: number;

  constructor(isTTY: boolean, columns = 20, rows = 5) {
    super();
    [this.isTTY, this.columns, this.rows] = [isTTY, columns, rows];
  }

  write(text: string): boolean {
    this.text += text;
    return !this.isBehind;
  }
}

test.each([
  [true, {}, true, true],
  [true, { NO_COLOR: '1' }, false, true],
  [true, { NO_COLOR: '' }, true, true],
  [true, { TERM: 'dumb' }, false, false],
  [false, {}, false, false],
])('terminal %s with %o: colour %s, live %s', (isTTY, environment, color, live) => {
  const output = outputOn(new Screen(isTTY), environment);
  expect([output.color, output.live, output.size]).toEqual([color, live, live ? { columns: 20, rows: 5 } : undefined]);
});

test('paint or none', () => {
  expect(palette(true).red('x')).toBe('\u001b[31mx\u001b[0m');
  expect(palette(false).red('x')).toBe('x');
});

test('a block is drawn over itself, cut to the screen, and whole at its end', () => {
  const screen = new Screen(true, 8, 4);
  const block = new LiveBlock(outputOn(screen, {}));
  block.draw(['one', 'a line that is long']);
  expect(screen.text).toBe('one\na line t\n');
  screen.text = '';
  block.draw(['1', '2', '3', '4', '5']);
  expect(screen.text).toBe('\u001b[2A\u001b[J1\n2\n… 3 more\n');
  screen.text = '';
  block.above('a longer line that stays');
  expect(screen.text).toBe('\u001b[3A\u001b[Ja longer line that stays\n1\n2\n… 3 more\n');
  screen.text = '';
  block.end(['1', '2', '3', '4', 'and the whole of it']);
  expect(screen.text).toBe('\u001b[3A\u001b[J1\n2\n3\n4\nand the whole of it\n');
});

test.each([
  ['plain', 3, 'pla'],
  ['plain', 9, 'plain'],
  ['\u001b[31mred\u001b[0m and', 2, '\u001b[31mre\u001b[0m'],
  ['\u001b[31mred\u001b[0m and', 3, '\u001b[31mred\u001b[0m'],
  ['\u001b[31mred\u001b[0m and', 5, '\u001b[31mred\u001b[0m a'],
  ['╭──╮ 𝒙', 4, '╭──╮'],
])('%j cut to %i', (line, columns, expected) => {
  expect(cut(line, columns)).toBe(expected);
});

test('a reader that is behind is waited for, until it has caught up or is gone', async () => {
  for (const end of ['drain', 'error']) {
    const screen = new Screen(false);
    const output = outputOn(screen, {});
    output.write('one');
    expect(output.ready()).toBeUndefined();
    screen.isBehind = true;
    output.write('two');
    output.write('three');
    const ready = output.ready();
    expect(ready).toBeInstanceOf(Promise);
    screen.emit(end, Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    await ready;
    expect(output.ready()).toBeUndefined();
    expect(screen.text).toBe('onetwothree');
  }
});

test('once nobody reads, that is told, and nothing is written', () => {
  const screen = new Screen(false);
  const output = outputOn(screen, {});
  const heard: string[] = [];
  output.onClosed(() => heard.push('first'));
  const forget = output.onClosed(() => heard.push('second'));
  forget();
  screen.emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  expect(heard).toEqual(['first']);
  output.write('lost');
  expect(screen.text).toBe('');
  expect(() => screen.emit('error', Object.assign(new Error('no space'), { code: 'ENOSPC' }))).toThrow('no space');
});

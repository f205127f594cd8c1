import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type FilterOwner, filterName, ownerIsGone, parseFilterName } from './filter-owner.ts';

function own(): FilterOwner {
  const owner = parseFilterName(filterName('acl', false));
  expect(owner).toBeDefined();
  return owner as FilterOwner;
}

test('a name tells program, process and namespaces', () => {
  expect(filterName('l4lb.encap', false)).toMatch(
    new RegExp(`^tailrace:l4lb\\.encap pid=${process.pid} start=[1-9]\\d* in=pid:\\[\\d+\\],time:\\[\\d+\\]$`),
  );
  expect(filterName('l4lb.encap', true)).toBe(`${filterName('l4lb.encap', false)} qdisc`);
  expect(parseFilterName(filterName('l4lb.encap', true))).toEqual({ ...own(), program: 'l4lb.encap', madeQdisc: true });
});

test('a name of any length and spelling fits the kernel and is read back', () => {
  const name = filterName('ein Filter für alle\n'.repeat(40), true);
  expect(Buffer.byteLength(name)).toBeLessThan(256);
  expect(parseFilterName(name)).toMatchObject({ pid: process.pid, madeQdisc: true });
});

test.each(['', 'acl', 'tailrace:acl', 'tailrace:acl pid=1 start=2', 'x tailrace:acl pid=1 start=2 in=a'])('%j names no owner', (name) => {
  expect(parseFilterName(name)).toBeUndefined();
});

test('an owner that lives is not gone, and a number that another process has now is', () => {
  expect(ownerIsGone(own())).toBe(false);
  expect(ownerIsGone({ ...own(), start: '1' })).toBe(true);
  expect(ownerIsGone({ ...own(), pid: 1, start: startOf(1) })).toBe(false);
});

test('of processes in other namespaces nothing is known', () => {
  const elsewhere = { ...own(), namespaces: 'pid:[1],time:[2]' };
  expect(ownerIsGone({ ...elsewhere, pid: 0x3f_ffff })).toBe(false);
  expect(ownerIsGone({ ...elsewhere, start: '1' })).toBe(false);
});

test('a process that ended is gone', async () => {
  const child = spawn(process.execPath, ['-e', 'process.stdin.resume()']);
  await once(child, 'spawn');
  const owner = { ...own(), pid: child.pid ?? 0, start: startOf(child.pid ?? 0) };
  expect(ownerIsGone(owner)).toBe(false);
  child.kill();
  await once(child, 'exit');
  expect(ownerIsGone(owner)).toBe(true);
});

function startOf(pid: number): string {
  return (
    readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')[19] ?? ''
  );
}

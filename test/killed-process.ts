/** Processes of tests that are killed: waited for by what they say. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { expect } from 'vitest';

/** A process that runs. */
export interface ProcessToKill {
  readonly pid: number;
  /** What it has said. */
  readonly output: string;
  /** Writes a line to it. */
  tell(line: string): void;
  /** Resolves once it has said so. */
  says(word: string): Promise<void>;
  /** After so many milliseconds, in which it must not end by itself. */
  kill(ms?: number): Promise<void>;
}

const children = new Set<ChildProcess>();

/** Starts a file of this folder. */
export function start(file: string, args: readonly string[]): ProcessToKill {
  const child = spawn(process.execPath, [`${import.meta.dirname}/${file}`, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.add(child);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  return {
    pid: child.pid ?? 0,
    tell: (line) => void child.stdin.write(`${line}\n`),
    get output() {
      return output;
    },
    async says(word) {
      while (!output.includes(word)) {
        expect(child.exitCode, `a process that was to be ${word}`).toBeNull();
        await setTimeout(1);
      }
    },
    async kill(ms = 0) {
      await setTimeout(ms);
      expect(child.exitCode).toBeNull();
      child.kill('SIGKILL');
      await once(child, 'exit');
      children.delete(child);
    },
  };
}

/** Kills those that a test left. */
export function killAll(): void {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
}

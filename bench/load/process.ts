/** Processes that take part in a measurement, all on one CPU: what is compared is work, and not where the scheduler puts it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { TailraceError } from '@tailrace/bpf';

/** Where a process runs. */
export interface Place {
  /** A folder of cgroup2 that it joins; default that of this process. */
  readonly cgroup?: string;
}

/** The last CPU that this process may use. */
const cpu = readFileSync('/proc/self/status', 'utf8').match(/^Cpus_allowed_list:.*?(\d+)$/m)?.[1] ?? '0';

/** Ends with this process, however that ends. */
const PINNED = ['setpriv', '--pdeathsig', 'KILL', 'taskset', '-c', cpu];
const JOINING = ['sh', '-c', 'echo $$ >"$0/cgroup.procs" && exec "$@"'];

/** A process, until the end of its scope. */
export class Process implements AsyncDisposable {
  readonly #name: string;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #ended: Promise<void>;
  #out = '';
  #errors = '';
  #stopped = false;

  constructor(command: readonly string[], { cgroup }: Place = {}) {
    this.#name = command.slice(0, 3).join(' ');
    const [file = '', ...args] = [...(cgroup === undefined ? [] : [...JOINING, cgroup]), ...PINNED, ...command];
    const child = spawn(file, args, { stdio: 'pipe' });
    this.#child = child;
    child.stdout.on('data', (bytes: Buffer) => {
      this.#out += bytes;
    });
    child.stderr.on('data', (bytes: Buffer) => {
      this.#errors += bytes;
    });
    this.#ended = new Promise((resolve, reject) => {
      const fail = (why: string, cause?: Error) =>
        reject(new TailraceError('conflict', `${this.#name} ${why}${this.#errors && `: ${this.#errors.trim()}`}`, { cause }));
      child.once('error', (cause) => fail('does not start', cause));
      child.once('close', (code, signal) => {
        if (code === 0 || (this.#stopped && (signal === 'SIGTERM' || code === 128 + 15))) resolve();
        else fail(`ended with ${signal ?? code}`);
      });
    });
    this.#ended.catch(() => undefined);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Its first line. Throws TailraceError where it ends before. */
  async line(): Promise<string> {
    while (!this.#out.includes('\n')) await this.during(once(this.#child.stdout, 'data'));
    return this.#out.slice(0, this.#out.indexOf('\n'));
  }

  /** All that it has written, once it has ended. Throws TailraceError where it has failed. */
  async output(): Promise<string> {
    await this.#ended;
    return this.#out;
  }

  /** What the work gives. Throws TailraceError where the process ends before. */
  during<T>(work: Promise<T>): Promise<T> {
    const gone = this.#ended.then((): never => {
      throw new TailraceError('conflict', `${this.#name} ended before it was asked to`);
    });
    return Promise.race([work, gone]);
  }

  /** Ends it, by SIGTERM. Throws TailraceError where it has failed. */
  stop(): Promise<string> {
    this.#stopped = true;
    this.#child.kill('SIGTERM');
    return this.output();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopped) return;
    this.#child.kill('SIGKILL');
    await this.#ended.catch(() => undefined);
  }
}

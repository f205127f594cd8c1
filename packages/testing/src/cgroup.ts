/** A cgroup (v2) of a test's own, whose sockets `kernel({ cgroup })` watches. */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { UnsupportedError } from '@tailrace/bpf';

let made = 0;

/** `using cgroup = new Cgroup()`. Needs root. */
export class Cgroup implements Disposable {
  /** Its folder. */
  readonly path: string;
  readonly #home: string;

  /** Throws UnsupportedError where no cgroup2 is mounted. */
  constructor() {
    const mount = readFileSync('/proc/self/mounts', 'utf8').match(/^\S+ (\S+) cgroup2 /m)?.[1];
    if (mount === undefined)
      throw new UnsupportedError('no cgroup2 is mounted, whose sockets could be watched', { hint: 'mount -t cgroup2 none /sys/fs/cgroup' });
    this.#home = `${mount}${readFileSync('/proc/self/cgroup', 'utf8').match(/^0::(.*)$/m)?.[1] ?? '/'}`;
    made += 1;
    this.path = `${mount}/tailrace-${process.pid}-${made}`;
    mkdirSync(this.path);
  }

  /** Has this process be in it, and those that it starts from now on. */
  enter(): void {
    move(this.path);
  }

  /** Has this process be where it was when the cgroup was made. */
  leave(): void {
    move(this.#home);
  }

  /** Leaves it and deletes it. Throws EBUSY where other processes are still in it. */
  close(): void {
    this.leave();
    rmdirSync(this.path);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function move(folder: string): void {
  writeFileSync(`${folder}/cgroup.procs`, String(process.pid));
}

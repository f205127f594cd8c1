/** The load generator, load.c: what it measures as promises. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileNative } from '../clang.ts';
import { type Place, Process } from './process.ts';

/** A server to measure. */
export interface Target extends Place {
  /** On 127.0.0.1. */
  readonly port: number;
}

/** Latencies, ns. */
export interface PingResult {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
}

/** Bytes that were sent and have arrived, and how long that took. */
export interface BulkResult {
  readonly bytes: number;
  readonly ns: number;
}

/** How many connections, and how long that took. */
export interface ConnectResult {
  readonly count: number;
  readonly ns: number;
}

/** The compiled generator, until the end of its scope. Clients join the target's cgroup. */
export class Generator implements Disposable {
  /** A folder for files of a run, gone with the generator. */
  readonly folder = mkdtempSync(join(tmpdir(), 'tailrace-load-'));
  readonly #program = join(this.folder, 'load');

  /** Throws UnsupportedError where clang is missing, TailraceError where it refuses the source. */
  constructor() {
    using undo = new DisposableStack();
    undo.use(this);
    compileNative(fileURLToPath(new URL('./load.c', import.meta.url)), this.#program);
    undo.move();
  }

  /** Starts a server. Throws TailraceError where it fails. */
  async serve(place: Place = {}): Promise<{ readonly process: Process; readonly port: number }> {
    const process = new Process([this.#program, 'serve'], place);
    return { process, port: Number(await process.line()) };
  }

  /** 64 bytes there and back, again and again on each connection. Throws TailraceError where something else comes back. */
  ping(target: Target, connections: number, ms: number): Promise<PingResult> {
    return this.#measure<PingResult>(['ping', target.port, connections, ms], target);
  }

  /** As many bytes as go through. Throws TailraceError where not all arrive. */
  bulk(target: Target, connections: number, ms: number): Promise<BulkResult> {
    return this.#measure<BulkResult>(['bulk', target.port, connections, ms], target);
  }

  /** A MiB, an answer, and so on, on each connection. Throws TailraceError where not all arrive. */
  answered(target: Target, connections: number, ms: number): Promise<BulkResult> {
    return this.#measure<BulkResult>(['answered', target.port, connections, ms], target);
  }

  /** So many MB a second on one connection. Throws TailraceError where not all arrive. */
  steady(target: Target, megabytes: number, ms: number): Promise<BulkResult> {
    return this.#measure<BulkResult>(['steady', target.port, megabytes, ms], target);
  }

  /** Connections one after the other, each for one byte there and back. Throws TailraceError where one fails. */
  connect(target: Target, ms: number): Promise<ConnectResult> {
    return this.#measure<ConnectResult>(['connect', target.port, ms], target);
  }

  async #measure<T>(args: readonly (string | number)[], place: Place): Promise<T> {
    await using client = new Process([this.#program, ...args.map(String)], place);
    return JSON.parse(await client.output()) as T;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

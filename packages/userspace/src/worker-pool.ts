/**
 * Worker threads: each has an area of its own in the shared memory and its own instance of every chain's module, and runs the
 * part of a batch that it is given. The thread that made the pool is the first worker, and waits for the others.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { TailraceError } from '@tailrace/bpf';
import {
  CONTROL_BROKE,
  CONTROL_CHAIN,
  CONTROL_COUNT,
  CONTROL_DESCRIPTORS,
  CONTROL_IDLE,
  CONTROL_MESSAGE,
  CONTROL_RUN,
  CONTROL_STATE,
  CONTROL_STOP,
  CONTROL_TRAPPED,
  WORKER_CONTROL,
  WORKER_SIZE,
  WORKERS,
} from './layout.ts';
import type { EngineMemory } from './memory.ts';
import { initializeWorker } from './worker-area.ts';

/** Part of a batch: descriptors side by side. */
export interface Share {
  readonly descriptors: number;
  readonly count: number;
}

/** How a thread's share ended, where not well. */
export interface Failure {
  /** Start of its area. */
  readonly worker: number;
  /** It trapped; otherwise what broke it. */
  readonly cause: 'trap' | string;
}

/** What a thread runs: no module of ours, so that it needs no file. */
const THREAD = `
const { workerData: { memory, control, port }, receiveMessageOnPort } = require('node:worker_threads');
const { setFlagsFromString } = require('node:v8');
const compile = (bytes) => {
  // as optimized-module.ts has it
  setFlagsFromString('--no-liftoff');
  setFlagsFromString('--no-wasm-lazy-compilation');
  try {
    return new WebAssembly.Module(bytes);
  } finally {
    setFlagsFromString('--liftoff');
    setFlagsFromString('--wasm-lazy-compilation');
  }
};
const words = new Int32Array(memory.buffer, control, 4);
const chains = new Map();
const [STATE, CHAIN, DESCRIPTORS, COUNT] = [${CONTROL_STATE / 4}, ${CONTROL_CHAIN / 4}, ${CONTROL_DESCRIPTORS / 4}, ${CONTROL_COUNT / 4}];
const done = (state) => { Atomics.store(words, STATE, state); Atomics.notify(words, STATE); };
for (;;) {
  Atomics.wait(words, STATE, ${CONTROL_IDLE});
  const state = Atomics.load(words, STATE);
  if (state === ${CONTROL_STOP}) break;
  if (state !== ${CONTROL_RUN} && state !== ${CONTROL_MESSAGE}) { Atomics.wait(words, STATE, state); continue; }
  try {
    if (state === ${CONTROL_RUN}) chains.get(Atomics.load(words, CHAIN))(Atomics.load(words, DESCRIPTORS) >>> 0, Atomics.load(words, COUNT));
    else {
      const { message: { chain, bytes } } = receiveMessageOnPort(port);
      if (bytes === undefined) chains.delete(chain);
      else chains.set(chain, new WebAssembly.Instance(compile(bytes), { env: { memory } }).exports.batch);
    }
    done(${CONTROL_IDLE});
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) port.postMessage(String(error));
    done(error instanceof WebAssembly.RuntimeError ? ${CONTROL_TRAPPED} : ${CONTROL_BROKE});
  }
}
`;

/** A thread as the pool sees it. */
interface Thread {
  readonly worker: Worker;
  readonly port: MessagePort;
  /** Start of its area. */
  readonly area: number;
  readonly words: Int32Array<SharedArrayBuffer>;
}

/** Threads beside the one that made it. */
export class WorkerPool {
  readonly #threads: readonly Thread[];
  #chains = 0;
  #isClosed = false;

  /** `count` threads more; `seeds` are where their random numbers start. */
  constructor(memory: EngineMemory, count: number, seed: bigint) {
    this.#threads = Array.from({ length: count }, (_, index) => {
      const area = WORKERS + (index + 1) * WORKER_SIZE;
      initializeWorker(memory, area, { cpu: index + 1, seed: seed + BigInt(index + 1) * 0x9e37_79b9_7f4a_7c15n });
      const control = area + WORKER_CONTROL;
      const { port1: port, port2 } = new MessageChannel();
      const workerData = { memory: memory.memory, control, port: port2 };
      const worker = new Worker(THREAD, { eval: true, name: `tailrace-${index + 1}`, workerData, transferList: [port2] });
      worker.unref();
      port.unref();
      return { worker, port, area, words: new Int32Array(memory.memory.buffer, control, 4) };
    });
  }

  /** Areas of the threads, in their order. */
  get areas(): readonly number[] {
    return this.#threads.map(({ area }) => area);
  }

  /** A number for a chain. */
  newChain(): number {
    return ++this.#chains;
  }

  /** Gives each thread its module of a chain. Throws TailraceError where one cannot be compiled. */
  load(chain: number, modules: readonly Uint8Array<ArrayBuffer>[]): void {
    for (const [index, thread] of this.#threads.entries()) this.#tell(thread, { chain, bytes: modules[index] });
    this.#await();
  }

  /** Forgets a chain. */
  unload(chain: number): void {
    if (this.#isClosed) return;
    for (const thread of this.#threads) this.#tell(thread, { chain, bytes: undefined });
    this.#await();
  }

  /** Starts each thread on its share; `own` is what this thread does meanwhile. Returns what went wrong at the others. */
  run(chain: number, shares: readonly Share[], own: () => void): readonly Failure[] {
    for (const [index, { words }] of this.#threads.entries()) {
      const share = shares[index];
      if (share === undefined || share.count === 0) continue;
      Atomics.store(words, CONTROL_CHAIN / 4, chain);
      Atomics.store(words, CONTROL_DESCRIPTORS / 4, share.descriptors);
      Atomics.store(words, CONTROL_COUNT / 4, share.count);
      this.#set(words, CONTROL_RUN);
    }
    try {
      own();
    } finally {
      this.#settled();
    }
    return this.#failures();
  }

  /** Ends all threads. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { words } of this.#threads) this.#set(words, CONTROL_STOP);
    for (const { port } of this.#threads) port.close();
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #tell({ port, words }: Thread, message: { readonly chain: number; readonly bytes: Uint8Array<ArrayBuffer> | undefined }): void {
    port.postMessage(message);
    this.#set(words, CONTROL_MESSAGE);
  }

  #set(words: Int32Array<SharedArrayBuffer>, state: number): void {
    Atomics.store(words, CONTROL_STATE / 4, state);
    Atomics.notify(words, CONTROL_STATE / 4);
  }

  /** Waits until no thread runs. */
  #settled(): void {
    for (const { words } of this.#threads)
      for (const state of [CONTROL_RUN, CONTROL_MESSAGE])
        while (Atomics.load(words, CONTROL_STATE / 4) === state) Atomics.wait(words, CONTROL_STATE / 4, state);
  }

  #await(): void {
    this.#settled();
    const [failure] = this.#failures();
    if (failure) throw new TailraceError('compile', `a worker thread cannot run the chain: ${failure.cause}`);
  }

  /** What went wrong, told once. */
  #failures(): readonly Failure[] {
    return this.#threads.flatMap(({ area, words, port }) => {
      const state = Atomics.load(words, CONTROL_STATE / 4);
      if (state === CONTROL_IDLE) return [];
      this.#set(words, CONTROL_IDLE);
      if (state === CONTROL_TRAPPED) return [{ worker: area, cause: 'trap' }];
      return [{ worker: area, cause: String(receiveMessageOnPort(port)?.message ?? 'no reason was given') }];
    });
  }
}

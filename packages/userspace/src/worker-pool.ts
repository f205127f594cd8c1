/**
 * Worker threads: each has an area of its own in the shared memory and its own instance of every chain's module, and runs the
 * part of a batch that it is given. The thread that made the pool is the first worker, and waits for the others.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
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
import type { WebAssemblyModule } from './webassembly.ts';
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
const words = new Int32Array(memory.buffer, control, 4);
const chains = new Map();
const [STATE, CHAIN, DESCRIPTORS, COUNT] = [${CONTROL_STATE / 4}, ${CONTROL_CHAIN / 4}, ${CONTROL_DESCRIPTORS / 4}, ${CONTROL_COUNT / 4}];
const done = (state) => { Atomics.store(words, STATE, state); Atomics.notify(words, STATE); };
const read = () => {
  for (let received; (received = receiveMessageOnPort(port)) !== undefined; ) {
    const { chain, module } = received.message;
    if (module === undefined) chains.delete(chain);
    else chains.set(chain, new WebAssembly.Instance(module, { env: { memory } }).exports.batch);
  }
};
for (;;) {
  Atomics.wait(words, STATE, ${CONTROL_IDLE});
  const state = Atomics.load(words, STATE);
  if (state === ${CONTROL_STOP}) break;
  if (state !== ${CONTROL_RUN} && state !== ${CONTROL_MESSAGE}) { Atomics.wait(words, STATE, state); continue; }
  try {
    read();
    if (state === ${CONTROL_RUN}) chains.get(Atomics.load(words, CHAIN))(Atomics.load(words, DESCRIPTORS) >>> 0, Atomics.load(words, COUNT));
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

  /** Gives each thread its module of a chain, which it takes before it next runs packets; returns the chain's number. */
  load(modules: readonly WebAssemblyModule[]): number {
    const chain = ++this.#chains;
    for (const [index, thread] of this.#threads.entries()) tell(thread, { chain, module: modules[index] });
    return chain;
  }

  /** Forgets a chain. */
  unload(chain: number): void {
    if (this.#isClosed) return;
    for (const thread of this.#threads) tell(thread, { chain, module: undefined });
  }

  /** Starts each thread on its share; `own` is what this thread does meanwhile. Returns what went wrong at the others. */
  run(chain: number, shares: readonly Share[], own: () => void): readonly Failure[] {
    this.#settled();
    for (const [index, { words }] of this.#threads.entries()) {
      const share = shares[index];
      if (share === undefined || share.count === 0) continue;
      Atomics.store(words, CONTROL_CHAIN / 4, chain);
      Atomics.store(words, CONTROL_DESCRIPTORS / 4, share.descriptors);
      Atomics.store(words, CONTROL_COUNT / 4, share.count);
      set(words, CONTROL_RUN);
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
    for (const { words } of this.#threads) set(words, CONTROL_STOP);
    for (const { port } of this.#threads) port.close();
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  /** Waits until no thread runs. */
  #settled(): void {
    for (const { words } of this.#threads)
      for (const state of [CONTROL_RUN, CONTROL_MESSAGE])
        while (Atomics.load(words, CONTROL_STATE / 4) === state) Atomics.wait(words, CONTROL_STATE / 4, state);
  }

  /** What went wrong, told once. */
  #failures(): readonly Failure[] {
    return this.#threads.flatMap(({ area, words, port }) => {
      const state = Atomics.load(words, CONTROL_STATE / 4);
      if (state === CONTROL_IDLE) return [];
      set(words, CONTROL_IDLE);
      if (state === CONTROL_TRAPPED) return [{ worker: area, cause: 'trap' }];
      const cause = String(receiveMessageOnPort(port)?.message ?? 'no reason was given');
      // what else it says follows from that
      while (receiveMessageOnPort(port) !== undefined);
      return [{ worker: area, cause }];
    });
  }
}

/** A thread reads what it is told before it runs anything; where it idles, at once. */
function tell({ port, words }: Thread, message: { readonly chain: number; readonly module: WebAssemblyModule | undefined }): void {
  port.postMessage(message);
  Atomics.compareExchange(words, CONTROL_STATE / 4, CONTROL_IDLE, CONTROL_MESSAGE);
  Atomics.notify(words, CONTROL_STATE / 4);
}

function set(words: Int32Array<SharedArrayBuffer>, state: number): void {
  Atomics.store(words, CONTROL_STATE / 4, state);
  Atomics.notify(words, CONTROL_STATE / 4);
}

/** Programs run on a socket's data or on its events: into the worker's area, through the chain, and what the program wants. */
import type { LoadedMap, ProgramType } from '@tailrace/bpf';
import type { Chain } from './chain.ts';
import { writeEnds } from './connection-ends.ts';
import {
  ADDED_KEY,
  ADDED_LIST,
  ADDED_SIZE,
  ANSWER_FLAGS,
  ANSWER_KEY,
  ANSWER_REDIRECT,
  ANSWER_SIZE,
  ANSWER_TARGET,
  CLOCK_NOW,
  CONTEXT_EVENT,
  CONTEXT_MESSAGE,
  CONTEXT_SIZE,
  CONTEXT_SKB,
  EVENT_FAMILY,
  EVENT_OPERATION,
  MAP_KEY_SIZE,
  MESSAGE_BYTES,
  MESSAGE_FAMILY,
  PACKET_CEILING,
  PACKET_CONTEXT,
  PACKET_DATA,
  PACKET_END,
  PACKET_FLOOR,
  PACKET_META,
  PACKET_NETWORK,
  PACKET_OF_SOCKET,
  REDIRECT_SOCKET,
  REGION_BASE,
  REGION_COUNT,
  REGION_LENGTH,
  REGION_SIZE,
  REGION_STRIDE,
  SHARED,
  SKB_CB,
  SKB_FAMILY,
  SKB_LEN,
  SOCKET_ADDED,
  SOCKET_APPLY,
  SOCKET_CORK,
  SOCKET_KEY,
  SOCKET_NUMBER,
  SOCKET_PROGRAMS,
  TAG_PACKET,
  WORKER_ANSWER,
  WORKER_CONTEXT,
  WORKER_PACKET,
  WORKER_REGIONS,
  WORKER_SOCKET,
} from './layout.ts';
import type { SocketInput, SocketOutcome, SocketTarget } from './socket-program.ts';
import type { WorkerContext } from './worker-context.ts';

/** Bytes that are made room for at first. */
const LEAST_ROOM = 65_536;
const FAMILY: Readonly<Partial<Record<ProgramType, number>>> = { skSkb: SKB_FAMILY, skMsg: MESSAGE_FAMILY, sockOps: EVENT_FAMILY };
const CONTEXT: Readonly<Partial<Record<ProgramType, number>>> = { skSkb: CONTEXT_SKB, skMsg: CONTEXT_MESSAGE, sockOps: CONTEXT_EVENT };

/** Room for the data of one chain at a time; it is given back by `close`. */
export class SocketRoom {
  readonly #chain: Chain;
  readonly #context: WorkerContext;
  /** The map behind a descriptor's address. */
  readonly #mapAt: (address: number) => LoadedMap | undefined;
  #room = { address: 0, bytes: 0 };

  constructor(chain: Chain, context: WorkerContext, mapAt: (address: number) => LoadedMap | undefined) {
    this.#chain = chain;
    this.#context = context;
    this.#mapAt = mapAt;
  }

  /** Runs the chain. Throws TrapError. */
  run(input: SocketInput): SocketOutcome {
    const { memory, worker, now } = this.#context;
    const length = input.bytes?.length ?? 0;
    const floor = this.#take(length);
    this.#enter(floor, input);
    memory.view.setBigUint64(SHARED + CLOCK_NOW, now(), true);
    const verdict = Number(BigInt.asUintN(32, this.#chain.run()));
    const { u8, view } = memory;
    const socket = (field: number): number => view.getUint32(worker + WORKER_SOCKET + field, true);
    return {
      verdict,
      // what a message pulls is all that its program sees, and not all that there is
      bytes: u8.subarray(
        this.#chain.spec.type === 'skSkb' ? view.getUint32(worker + WORKER_PACKET + PACKET_DATA, true) : floor,
        floor + length,
      ),
      target: this.#target(),
      applyBytes: socket(SOCKET_APPLY),
      corkBytes: socket(SOCKET_CORK),
      added: Array.from({ length: socket(SOCKET_ADDED) }, (_, index) =>
        this.#entry(socket(ADDED_LIST + index * ADDED_SIZE), worker + WORKER_SOCKET + ADDED_LIST + index * ADDED_SIZE + ADDED_KEY),
      ),
    };
  }

  close(): void {
    if (this.#room.address !== 0) this.#context.memory.free(this.#room.address);
    this.#room = { address: 0, bytes: 0 };
  }

  #enter(floor: number, { bytes = new Uint8Array(), sequence = 0, ends, event }: SocketInput): void {
    const { memory, worker } = this.#context;
    const { u8, view } = memory;
    const { type } = this.#chain.spec;
    const context = worker + WORKER_CONTEXT;
    const end = floor + bytes.length;
    u8.set(bytes, floor);
    u8.fill(0, context, context + CONTEXT_SIZE);
    u8.fill(0, worker + WORKER_ANSWER, worker + WORKER_ANSWER + ANSWER_SIZE);
    u8.fill(0, worker + WORKER_SOCKET, worker + WORKER_SOCKET + SOCKET_KEY);
    const packet = worker + WORKER_PACKET;
    const region = worker + WORKER_REGIONS + TAG_PACKET * REGION_SIZE;
    const words: readonly (readonly [address: number, value: number])[] = [
      [packet + PACKET_CONTEXT, CONTEXT[type] ?? CONTEXT_SKB],
      [packet + PACKET_FLOOR, floor],
      [packet + PACKET_META, floor],
      [packet + PACKET_DATA, floor],
      [packet + PACKET_END, end],
      [packet + PACKET_CEILING, end],
      [packet + PACKET_NETWORK, 0],
      [packet + PACKET_OF_SOCKET, 1],
      [region + REGION_BASE, floor],
      [region + REGION_LENGTH, bytes.length],
      [region + REGION_STRIDE, 0],
      [region + REGION_COUNT, 1],
      [worker + WORKER_SOCKET + SOCKET_ADDED, 0],
      ...(type === 'skSkb' ? [[context + SKB_LEN, bytes.length] as const, [context + SKB_CB, sequence] as const] : []),
      ...(type === 'skMsg' ? [[context + MESSAGE_BYTES, bytes.length] as const] : []),
    ];
    for (const [address, value] of words) view.setUint32(address, value, true);
    writeEnds(memory, context + (FAMILY[type] ?? SKB_FAMILY), ends);
    if (event === undefined) return;
    view.setUint32(context + EVENT_OPERATION, event.operation, true);
    view.setUint32(worker + WORKER_SOCKET + SOCKET_NUMBER, event.socket, true);
    view.setUint32(worker + WORKER_SOCKET + SOCKET_PROGRAMS, event.programs, true);
  }

  #target(): SocketTarget | undefined {
    const { memory, worker } = this.#context;
    const answer = (offset: number): number => memory.view.getUint32(worker + WORKER_ANSWER + offset, true);
    if (answer(ANSWER_REDIRECT) !== REDIRECT_SOCKET) return undefined;
    const entry = this.#entry(answer(ANSWER_TARGET), worker + WORKER_SOCKET + SOCKET_KEY);
    return { ...entry, socket: answer(ANSWER_KEY), ingress: answer(ANSWER_FLAGS) !== 0 };
  }

  #entry(address: number, key: number): { readonly map: LoadedMap; readonly key: Uint8Array } {
    const { u8, view } = this.#context.memory;
    // only maps of this engine are given to its helpers
    const map = this.#mapAt(address) as LoadedMap;
    return { map, key: u8.slice(key, key + view.getUint32(address + MAP_KEY_SIZE, true)) };
  }

  /** Address of at least so many bytes. */
  #take(bytes: number): number {
    if (this.#room.bytes < bytes || this.#room.address === 0) {
      this.close();
      const size = Math.max(bytes, LEAST_ROOM);
      this.#room = { address: this.#context.memory.allocate(size, 64, "a socket's data"), bytes: size };
    }
    return this.#room.address;
  }
}

/** Raw Ethernet frames on an interface of a topology, each wait with a bound. */
import { type NetworkNamespace, PacketSocket } from '@tailrace/kernel';
import { TimeoutError, within } from './deadline.ts';
import { describe } from './description.ts';
import { frameBytes, type Packet } from './packet.ts';

/** Which frame to wait for, and how long. */
export interface FrameWait {
  /** Default: any frame. */
  readonly where?: (frame: Uint8Array) => boolean;
  /** Default 1,000. */
  readonly timeoutMs?: number;
}

/**
 * Sends frames out of an interface and receives what comes in on it, from when it was opened on. Frames are kept in
 * order until they are asked for; those that a wait passes over are gone.
 */
export class Frames implements Disposable {
  readonly #socket: PacketSocket;
  readonly #watch: Disposable;
  readonly #name: string;
  readonly #queue: Uint8Array[] = [];
  #wake: (() => void) | undefined;
  #open = true;

  /** Throws SyscallError, ArgumentError where there is no such interface. */
  constructor(namespace: NetworkNamespace, interfaceName: string, options: { readonly outgoing?: boolean } = {}) {
    this.#name = interfaceName;
    this.#socket = new PacketSocket(namespace, interfaceName, options);
    this.#watch = this.#socket.watch(() => this.#drain());
  }

  /** Sends a frame. Throws SyscallError (EMSGSIZE beyond the MTU). */
  send(frame: Packet | Uint8Array): void {
    this.#socket.send(frameBytes(frame));
  }

  /** The first frame for which `where` holds. Throws TimeoutError that describes the frames that came instead. */
  async receive({ where = () => true, timeoutMs = 1000 }: FrameWait = {}): Promise<Uint8Array> {
    const others: Uint8Array[] = [];
    const deadline = performance.now() + timeoutMs;
    const what = `a frame on ${this.#name}`;
    const seen = (): string => others.map((frame) => describe(frame)).join('\n\n');
    for (;;) {
      this.#drain();
      for (let frame = this.#queue.shift(); frame !== undefined; frame = this.#queue.shift()) {
        if (where(frame)) return frame;
        others.push(frame);
      }
      const left = deadline - performance.now();
      if (left <= 0) throw new TimeoutError(what, timeoutMs, seen());
      await within(this.#more(), left, what).catch((error: unknown) => {
        throw error instanceof TimeoutError ? new TimeoutError(what, timeoutMs, seen()) : error;
      });
    }
  }

  /** All frames for which `where` holds that come within `durationMs`, default 100. */
  async collect({
    where = () => true,
    durationMs = 100,
  }: {
    readonly where?: (frame: Uint8Array) => boolean;
    readonly durationMs?: number;
  } = {}): Promise<Uint8Array[]> {
    await new Promise((resolve) => setTimeout(resolve, durationMs));
    this.#drain();
    return this.#queue.splice(0).filter(where);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch[Symbol.dispose]();
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #more(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    return promise;
  }

  /** Empties the socket: a frame that waited there too long would be dropped for others. */
  #drain(): void {
    if (!this.#open) return;
    for (let frame = this.#socket.receive(); frame !== undefined; frame = this.#socket.receive()) this.#queue.push(frame);
    if (this.#queue.length > 0) this.#wake?.();
  }
}

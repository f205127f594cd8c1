/**
 * News that connections have ended, and of nothing else: whoever waits for the event loop's own poll is woken by every byte that comes, also by
 * those that a program on the socket sends elsewhere.
 */
import { Descriptor } from './descriptor.ts';
import { FdAlarm } from './fd-alarm.ts';
import { allocate } from './memory.ts';
import { syscall } from './syscall.ts';

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
/** The peer has ended or is gone, told once each (include/uapi/linux/eventpoll.h). */
const EPOLLRDHUP = 0x2000;
const EPOLLET = 0x8000_0000;
/** struct epoll_event: events, and 8 bytes of our own. It is packed on x64 only. */
const EVENT = process.arch === 'x64' ? { bytes: 12, own: 4 } : { bytes: 16, own: 8 };
/** Events that are taken at a time. */
const EVENTS = 64;

/** Watches connections, as many as there are, by one descriptor of the kernel's. The process stays alive while there are any. */
export class EndWatch implements Disposable {
  readonly #epoll: Descriptor;
  readonly #alarm: FdAlarm;
  readonly #events = allocate(EVENTS * EVENT.bytes);
  readonly #ends = new Map<number, () => void>();
  #lastId = 0;

  /** Throws SyscallError. */
  constructor() {
    this.#epoll = new Descriptor(syscall('epoll_create1', 'connections', EPOLL_CLOEXEC), 'a watch of connections');
    this.#alarm = new FdAlarm(this.#epoll.fd);
  }

  /**
   * Has `onEnd` called when the peer of a connection has ended it and when the connection breaks, once each, also where that was before. It is
   * not called any more once what this returns is disposed of. Throws SyscallError.
   */
  watch(fd: number, onEnd: () => void): Disposable {
    this.#lastId = (this.#lastId + 1) >>> 0;
    const id = this.#lastId;
    const { view, address } = allocate(16);
    view.setUint32(0, (EPOLLRDHUP | EPOLLET) >>> 0, true);
    view.setUint32(EVENT.own, id, true);
    syscall('epoll_ctl', 'a connection', this.#epoll.fd, EPOLL_CTL_ADD, fd, address);
    this.#ends.set(id, onEnd);
    if (this.#ends.size === 1) this.#alarm.start(this.#onEvents);
    return {
      // the kernel forgets a connection once it is closed, and until then tells us what nobody listens to
      [Symbol.dispose]: () => {
        if (this.#ends.delete(id) && this.#ends.size === 0) this.#alarm.stop();
      },
    };
  }

  [Symbol.dispose](): void {
    this.#ends.clear();
    this.#alarm[Symbol.dispose]();
    this.#epoll.close();
  }

  readonly #onEvents = (): void => {
    const { view, address } = this.#events;
    const count = syscall('epoll_pwait', 'connections', this.#epoll.fd, address, EVENTS, 0, 0, 0);
    const ids = Array.from({ length: count }, (_, at) => view.getUint32(at * EVENT.bytes + EVENT.own, true));
    try {
      for (const id of ids) this.#ends.get(id)?.();
    } finally {
      if (this.#ends.size > 0 && !this.#epoll.closed) this.#alarm.start(this.#onEvents);
    }
  };
}

/**
 * Perf event arrays: a perf event of the kernel's own kind (PERF_COUNT_SW_BPF_OUTPUT) for each CPU, in whose slot programs find
 * it, and its ring in memory that the kernel shares (kernel/events/core.c, kernel/events/ring_buffer.c at v6.18).
 *
 *     page that says how far both sides are | data, which records reach over the end of
 */
import { PerfCursor, type PerfPlaces, perfRingBytes, type RecordAlarm, RecordReader } from '@tailrace/bpf';
import { bpf } from './bpf.ts';
import { Errno, SyscallError } from './errno.ts';
import { FdAlarm } from './fd-alarm.ts';
import type { KernelMap } from './map.ts';
import { mapMemory, pageSize } from './mapping.ts';
import { allocate } from './memory.ts';
import { closeFd, syscall, trySyscall } from './syscall.ts';

const F_DUPFD_CLOEXEC = 1030;
const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const PERF_FLAG_FD_CLOEXEC = 8;
const PERF_TYPE_SOFTWARE = 1;
const PERF_COUNT_SW_BPF_OUTPUT = 10;
const PERF_SAMPLE_RAW = 1n << 10n;
const PERF_FORMAT_LOST = 1n << 4n;
/** PERF_ATTR_SIZE_VER0. */
const ATTRIBUTE_BYTES = 64;
/** As the kernel takes pid and group: int. */
const NONE = 0xffff_ffff;
/** struct perf_event_mmap_page: data_head, data_tail. */
const HEAD = 1024;
const TAIL = 1032;

/** Opens the reader of a perf event array: `wanted` bytes for each CPU that is online now. Throws SyscallError, leaving nothing open. */
export function openPerfEvents(map: KernelMap, cpus: number, wanted: number, onReadable: () => void): RecordReader {
  const about = `perf event array ${map.spec.name}`;
  const bytes = perfRingBytes(wanted, pageSize());
  using undo = new DisposableStack();
  // A descriptor of its own: slots are emptied by it when the map may be closed.
  const mapFd = undo.adopt(syscall('fcntl', about, map.fd, F_DUPFD_CLOEXEC, 0), closeFd);
  const epoll = undo.adopt(syscall('epoll_create1', about, EPOLL_CLOEXEC), closeFd);
  const fds: number[] = [];
  const rings: PerfPlaces[] = [];
  for (let cpu = 0; cpu < Math.min(cpus, map.spec.maxEntries); cpu++) {
    const fd = openEvent(cpu, about);
    if (fd === undefined) continue;
    undo.adopt(fd, closeFd);
    fds.push(fd);
    const part = { offset: 0, length: pageSize() + bytes, writable: true };
    const { buffer } = undo.adopt(mapMemory(fd, part, about), (mapping) => mapping.unmap());
    rings.push({ buffer, head: HEAD, tail: TAIL, data: pageSize(), bytes });
    // struct epoll_event: events, and 8 bytes of our own.
    const event = allocate(16);
    event.view.setUint32(0, EPOLLIN, true);
    syscall('epoll_ctl', about, epoll, EPOLL_CTL_ADD, fd, event.address);
    undo.adopt(setSlot(mapFd, cpu, fd, about), (clear) => clear());
  }
  const cursor = new PerfCursor(rings, () => lostBy(fds, about));
  const alarm = undo.use(new PerfAlarm(epoll, () => cursor.pending > 0));
  return new RecordReader({ about, cursor, alarm, onReadable, resources: undo.move() });
}

/** The event of a CPU; undefined where it is not online. */
function openEvent(cpu: number, about: string): number | undefined {
  const { view, address } = allocate(ATTRIBUTE_BYTES);
  // struct perf_event_attr
  view.setUint32(0, PERF_TYPE_SOFTWARE, true);
  view.setUint32(4, ATTRIBUTE_BYTES, true);
  view.setBigUint64(8, BigInt(PERF_COUNT_SW_BPF_OUTPUT), true);
  view.setBigUint64(16, 1n, true); // sample_period: every one
  view.setBigUint64(24, PERF_SAMPLE_RAW, true);
  view.setBigUint64(32, PERF_FORMAT_LOST, true);
  view.setUint32(48, 1, true); // wakeup_events
  const fd = trySyscall('perf_event_open', address, NONE, cpu, NONE, PERF_FLAG_FD_CLOEXEC);
  if (fd === -Errno.ENODEV) return undefined;
  if (fd < 0) throw new SyscallError('perf_event_open', -fd, `${about}, CPU ${cpu}`);
  return fd;
}

/** Puts an event into its slot; gives what takes it out, without which it would outlive its descriptor. */
function setSlot(map_fd: number, cpu: number, fd: number, about: string): () => void {
  const words = allocate(16);
  words.view.setUint32(0, cpu, true);
  words.view.setUint32(8, fd, true);
  bpf('BPF_MAP_UPDATE_ELEM', { map_fd, key: words.address, value: words.address + 8 }, about, [words]);
  return () => void bpf('BPF_MAP_DELETE_ELEM', { map_fd, key: words.address }, about, [words]);
}

/** What the kernel counted. Records of its own that say so come with the next one that finds a place only. */
function lostBy(fds: readonly number[], about: string): bigint {
  // value, lost
  const { view, address } = allocate(16);
  let sum = 0n;
  for (const fd of fds) {
    syscall('read', about, fd, address, 16);
    sum += view.getBigUint64(8, true);
  }
  return sum;
}

/**
 * Rings where one of the events has something. The kernel says so once, and forgets it when it is asked (`perf_poll`), also by the
 * event loop as it begins to watch: what came before that is looked for afterwards.
 */
class PerfAlarm implements RecordAlarm, Disposable {
  readonly #poll: FdAlarm;
  readonly #isPending: () => boolean;
  #look: NodeJS.Immediate | undefined;

  constructor(epoll: number, isPending: () => boolean) {
    this.#poll = new FdAlarm(epoll);
    this.#isPending = isPending;
  }

  start(ring: () => void): void {
    if (this.#isPending()) return ring();
    this.#poll.start(() => (this.#isPending() ? ring() : this.start(ring)));
    // The second turn of the loop is behind the poll in which it began to watch.
    this.#look = setImmediate(() => {
      this.#look = setImmediate(() => {
        if (this.#isPending()) ring();
      });
    });
  }

  stop(): void {
    this.#poll.stop();
    clearImmediate(this.#look);
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#poll[Symbol.dispose]();
  }
}

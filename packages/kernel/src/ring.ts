/**
 * Kernel ring buffers (kernel/bpf/ringbuf.c at v6.18): one page that says how far we have read, one that says how far
 * programs have come, and the data, mapped twice in a row so that a record never breaks off at the end.
 *
 *     consumer page (read and write) | producer page, data, data again (read only)
 */
import { RecordReader, RingCursor } from '@tailrace/bpf';
import { FdAlarm } from './fd-alarm.ts';
import type { KernelMap } from './map.ts';
import { mapMemory, pageSize } from './mapping.ts';
import { closeFd, syscall } from './syscall.ts';

const F_DUPFD_CLOEXEC = 1030;

/** Opens the reader of a ring buffer. Throws SyscallError, leaving nothing open. */
export function openRingBuffer(map: KernelMap, onReadable: () => void): RecordReader {
  const about = `ring buffer ${map.spec.name}`;
  const page = pageSize();
  const { maxEntries: bytes } = map.spec;
  using undo = new DisposableStack();
  // A descriptor of its own: polling must not outlive the number.
  const fd = syscall('fcntl', about, map.fd, F_DUPFD_CLOEXEC, 0);
  undo.defer(() => closeFd(fd));
  const consumer = undo.adopt(mapMemory(fd, { offset: 0, length: page, writable: true }, about), (mapping) => mapping.unmap());
  const rest = undo.adopt(mapMemory(fd, { offset: page, length: page + 2 * bytes, writable: false }, about), (mapping) => mapping.unmap());
  const cursor = new RingCursor({
    consumed: { buffer: consumer.buffer, offset: 0 },
    produced: { buffer: rest.buffer, offset: 0 },
    data: { buffer: rest.buffer, offset: page },
    bytes,
  });
  const alarm = undo.use(new FdAlarm(fd));
  return new RecordReader({ about, cursor, alarm, onReadable, resources: undo.move() });
}

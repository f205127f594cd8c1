/** Reading ring buffers of the userspace engine: records lie whole in its memory (see runtime/ring.ts). */
import { RecordReader, RingCursor } from '@tailrace/bpf';
import type { UserspaceMap } from './map.ts';
import type { EngineMemory } from './memory.ts';
import { WakeAlarm } from './wake-alarm.ts';

/** A reader that the engine tells when programs ran on its thread. */
export class UserspaceReader extends RecordReader {
  readonly #alarm: WakeAlarm;

  constructor(parts: ConstructorParameters<typeof RecordReader>[0] & { readonly alarm: WakeAlarm }) {
    super(parts);
    this.#alarm = parts.alarm;
  }

  /** Programs ran on this thread, and may have woken it. */
  notify(): void {
    this.#alarm.notify();
  }
}

/** Opens the reader of a ring buffer. The ring stays where it is when the memory grows. */
export function openRingBuffer(memory: EngineMemory, map: UserspaceMap, onReadable: () => void): UserspaceReader {
  const { runtime } = memory;
  const { buffer } = memory.memory;
  const at = (address: number) => ({ buffer, offset: address >>> 0 });
  const cursor = new RingCursor({
    consumed: at(runtime.ring_consumer(map.address)),
    produced: at(runtime.ring_producer(map.address)),
    data: at(runtime.ring_data(map.address)),
    bytes: map.spec.maxEntries,
  });
  using resources = new DisposableStack();
  map.hold();
  resources.defer(() => map.release());
  const alarm = new WakeAlarm(buffer, runtime.ring_armed(map.address), runtime.ring_wake(map.address), () => cursor.pending > 0);
  resources.use(alarm);
  return new UserspaceReader({ about: `ring buffer ${map.spec.name}`, cursor, alarm, onReadable, resources: resources.move() });
}

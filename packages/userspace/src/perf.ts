/** Reading perf event arrays of the userspace engine: rings in its memory, in the array's slots while they are read (runtime/perf.ts). */
import { PerfCursor, type PerfPlaces, perfRingBytes, UpdateFlag } from '@tailrace/bpf';
import { PERF_BYTES, PERF_DATA, PERF_HEAD, PERF_LOST, PERF_TAIL } from './layout.ts';
import type { UserspaceMap } from './map.ts';
import type { EngineMemory } from './memory.ts';
import { UserspaceReader } from './ring.ts';
import { WakeAlarm } from './wake-alarm.ts';

/** The least that a ring has: what it is in a kernel of small pages. */
const PAGE = 4096;

/** Opens the reader of a perf event array: `wanted` bytes for each CPU. Throws SyscallError (ENOMEM), leaving nothing behind. */
export function openPerfEvents(
  memory: EngineMemory,
  map: UserspaceMap,
  cpus: number,
  wanted: number,
  onReadable: () => void,
): UserspaceReader {
  const { runtime } = memory;
  const about = `perf event array ${map.spec.name}`;
  const bytes = perfRingBytes(wanted, PAGE);
  using undo = new DisposableStack();
  map.hold();
  undo.defer(() => map.release());
  const addresses: number[] = [];
  for (let cpu = 0; cpu < Math.min(cpus, map.spec.maxEntries); cpu++) {
    const address = undo.adopt(memory.allocate(PERF_DATA + bytes, 64, about), (at) => memory.free(at));
    memory.view.setUint32(address + PERF_BYTES, bytes, true);
    setSlot(memory, map, cpu, address);
    undo.defer(() => clearSlot(memory, map, cpu));
    addresses.push(address);
  }
  // of all of memory, which may have grown for them
  const { buffer } = memory.memory;
  const rings = addresses.map((at): PerfPlaces => ({ buffer, head: at + PERF_HEAD, tail: at + PERF_TAIL, data: at + PERF_DATA, bytes }));
  const lost = () => addresses.reduce((sum, at) => sum + memory.view.getBigUint64(at + PERF_LOST, true), 0n);
  const cursor = new PerfCursor(rings, lost);
  const alarm = new WakeAlarm(buffer, runtime.ring_armed(map.address), runtime.ring_wake(map.address), () => cursor.pending > 0);
  undo.use(alarm);
  return new UserspaceReader({ about, cursor, alarm, onReadable, resources: undo.move() });
}

function setSlot(memory: EngineMemory, map: UserspaceMap, slot: number, ring: number): void {
  const at = memory.scratch(16);
  memory.view.setUint32(at, slot, true);
  memory.view.setUint32(at + 8, ring, true);
  memory.runtime.map_update_entry(map.address, at, at + 8, UpdateFlag.any);
}

function clearSlot(memory: EngineMemory, map: UserspaceMap, slot: number): void {
  const at = memory.scratch(8);
  memory.view.setUint32(at, slot, true);
  memory.runtime.map_delete(map.address, at);
}

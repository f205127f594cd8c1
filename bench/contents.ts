/** What maps hold: as text to compare, since two sides that did the same work hold the same, and as counters to prove a path. */
import { isPerCpu, type LoadedMap } from '@tailrace/bpf';
import { PathError } from './contest.ts';

/** The entries of a map by key, in hex; values of per-CPU kinds as sums of their words, since a side may have run elsewhere. */
export function contents(map: LoadedMap): Readonly<Record<string, string>> {
  const { count, keys, values } = map.readAll();
  const entries = Array.from({ length: count }, (_, index) => {
    const key = Buffer.from(keys.subarray(index * map.spec.keySize, (index + 1) * map.spec.keySize)).toString('hex');
    const value = values.subarray(index * map.valueStride, (index + 1) * map.valueStride);
    return [key, isPerCpu(map.spec.type) ? sums(value, map.spec.valueSize) : Buffer.from(value).toString('hex')] as const;
  });
  return Object.fromEntries(entries.sort(([left], [right]) => (left < right ? -1 : 1)));
}

/** The sum over all CPUs of the u64 at `offset` of a per-CPU value. */
export function perCpuSum(value: Uint8Array | undefined, valueBytes: number, offset: number): bigint {
  if (!value) throw new PathError('a per-CPU array has no such entry');
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const stride = Math.ceil(valueBytes / 8) * 8;
  let sum = 0n;
  for (let at = offset; at < value.length; at += stride) sum += view.getBigUint64(at, true);
  return sum;
}

/** The sums of a per-CPU value's 64-bit words. */
function sums(value: Uint8Array, bytes: number): string {
  return Array.from({ length: bytes / 8 }, (_, word) => perCpuSum(value, bytes, word * 8)).join(' ');
}

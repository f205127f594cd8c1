/** Counters of per-CPU maps, read back to prove which way packets went. */
import { PathError } from './contest.ts';

/** The sum over all CPUs of the u64 at `offset` of a per-CPU value. */
export function perCpuSum(value: Uint8Array | undefined, valueBytes: number, offset: number): bigint {
  if (!value) throw new PathError('a per-CPU array has no such entry');
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const stride = Math.ceil(valueBytes / 8) * 8;
  let sum = 0n;
  for (let at = offset; at < value.length; at += stride) sum += view.getBigUint64(at, true);
  return sum;
}

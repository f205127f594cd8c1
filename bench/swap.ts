/**
 * A chain that changes under packets, in userspace: batches run all the time while the first program of the balancer's chain
 * is swapped again and again, so that the whole chain is compiled anew each time.
 */
import { setImmediate } from 'node:timers/promises';
import { Helper, insn, type LoadedProgram, type ProgramSpec } from '@tailrace/bpf';
import { userspace } from '@tailrace/userspace';
import { loadBalancer } from './balancer.ts';
import { PathError, programSpec, rowOf } from './contest.ts';
import type { Effort, Row } from './row.ts';

/** Names of the rows. */
export const SWAP_GAP = 'l4lb: longest wait for a batch during a swap';
export const SWAP_TIME = 'l4lb: swap, from the call to the first packet';

const BATCH = 64;

/** ns, one sample a swap: how long the batches stood still at most, and how long the swap took. */
export async function swapRows(packet: Uint8Array, effort: Effort): Promise<readonly Row[]> {
  await using instance = await userspace().open();
  const balancer = await loadBalancer(instance, 'tailrace');
  const array = instance.createMap({ name: 'bench/swap', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 2, flags: 0 });
  const load = (spec: ProgramSpec): Promise<LoadedProgram> => instance.loadProgram(spec, new Map([['array', array]]));
  await array.setProgram(1, balancer.entry);
  let before = await load(version(0));
  await array.setProgram(0, before);
  const entry = await load(jumping('entry', 0, []));
  const packets = Array.from({ length: BATCH }, () => ({ packet }));
  const [gaps, times]: [number[], number[]] = [[], []];
  for (let round = 1; round <= Math.max(3, effort.rounds); round++) {
    const next = await load(version(round));
    runs(entry, packets);
    const start = process.hrtime.bigint();
    let [isIn, longest, last] = [false, 0n, start];
    const swapped = array.setProgram(0, next).then(() => {
      isIn = true;
    });
    while (!isIn) {
      runs(entry, packets);
      const now = process.hrtime.bigint();
      if (now - last > longest) longest = now - last;
      last = now;
      await setImmediate();
    }
    await swapped;
    runs(entry, packets);
    times.push(Number(process.hrtime.bigint() - start));
    gaps.push(Number(longest));
    before.close();
    before = next;
  }
  const row = { suite: 'userspace', hook: 'xdp' } as const;
  return [rowOf({ ...row, name: SWAP_GAP }, 'tailrace', gaps), rowOf({ ...row, name: SWAP_TIME }, 'tailrace', times)];
}

const XDP_TX = 3;

/** Throws PathError where a packet did not leave by the balancer. */
function runs(entry: LoadedProgram, packets: readonly { readonly packet: Uint8Array }[]): void {
  const results = entry.runBatch?.(packets) ?? [];
  if (results.some(({ returnValue }) => returnValue !== XDP_TX)) throw new PathError('a packet was lost during a swap');
}

/** Programs that differ, so that none is known already. */
function version(number: number): ProgramSpec {
  return jumping('version', 1, [insn.mov32(0, number)]);
}

function jumping(name: string, slot: number, before: ProgramSpec['instructions']): ProgramSpec {
  return programSpec(
    'xdp',
    name,
    [...before, insn.wideMap(2), insn.mov32(3, slot), insn.call(Helper.tail_call), insn.mov32(0, 0), insn.exit()],
    [{ pc: before.length, map: 'array' }],
  );
}

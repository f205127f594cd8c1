/**
 * XDP: takes back, between the runs of one test run, the room in front of the packet that a program took for metadata:
 * otherwise there would be none left after the kernel's 255 bytes, and every further run would measure the way without. The
 * program in front asks the kernel to move the room's start whether there is any or not, so that it costs the same for all.
 */
import { type EngineInstance, Helper, insn, type LoadedProgram, type ProgramSpec, reg } from '@tailrace/bpf';
import { type Entrant, type Floor, PathError, programSpec } from './contest.ts';
import { verdictNumber } from './hook.ts';

/** The same entrant behind the program in front; `bytes` is the room that it takes for each packet. */
export function takingBack(entrant: Entrant, bytes: number): Entrant {
  return {
    ...entrant,
    async load(instance) {
      const loaded = await entrant.load(instance);
      const { entry, taken } = await inFrontOf(instance, loaded.entry);
      return {
        ...loaded,
        entry,
        verify(runs) {
          loaded.verify(runs);
          const [most, found] = [BigInt(runs) * BigInt(bytes), taken()];
          // The last packet of each run is handed back as it is.
          if (bytes === 0 ? found !== 0n : found < most - BigInt(bytes))
            throw new PathError(
              `${found} bytes in front of ${runs} packets were taken back, expected ${bytes === 0 ? 'none' : `${most} or more`}`,
            );
        },
      };
    },
  };
}

/** What the program in front costs. */
export function takingBackFloor(): Floor {
  const still = programSpec('xdp', 'still', [insn.mov32(0, verdictNumber('xdp', 'pass')), insn.exit()]);
  return async (instance) => (await inFrontOf(instance, await instance.loadProgram(still, new Map()))).entry;
}

async function inFrontOf(instance: EngineInstance, target: LoadedProgram) {
  const counter = instance.createMap({ name: 'bench/taken', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 });
  const next = instance.createMap({ name: 'bench/next', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 });
  await next.setProgram(0, target);
  return {
    entry: await instance.loadProgram(
      inFront,
      new Map([
        ['counter', counter],
        ['next', next],
      ]),
    ),
    /** Bytes that were taken back so far. */
    taken(): bigint {
      const value = counter.lookup(new Uint8Array(4));
      if (!value) throw new PathError('the program in front has no counter');
      return new DataView(value.buffer, value.byteOffset).getBigUint64(0, true);
    },
  };
}

/** Moves the start of the room to the packet's, and adds the distance to the counter. */
const inFront: ProgramSpec = programSpec(
  'xdp',
  'take_back',
  [
    insn.mov(6, reg(1)),
    insn.load(4, 2, 6, 0),
    insn.load(4, 3, 6, 8),
    insn.alu64('sub', 2, reg(3)),
    insn.wideMapValue(4, 0),
    insn.load(8, 5, 4, 0),
    insn.alu64('add', 5, reg(2)),
    insn.store(8, 4, 0, 5),
    insn.call(Helper.xdp_adjust_meta),
    insn.mov(1, reg(6)),
    insn.wideMap(2),
    insn.mov(3, 0),
    insn.call(Helper.tail_call),
    insn.mov32(0, 0),
    insn.exit(),
  ],
  [
    { pc: 4, map: 'counter', valueOffset: 0 },
    { pc: 11, map: 'next' },
  ],
);

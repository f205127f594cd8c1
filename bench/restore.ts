/**
 * XDP: restores the packet between the runs of one test run, which the kernel does not: a program in front of the measured
 * one undoes what that did to the packet (moves the head back, writes the first bytes again), gives it the next flow's
 * source address, counts, and jumps on. Without it every run but the first would measure another path.
 */
import { type EngineInstance, Helper, type Instruction, insn, type LoadedProgram, type ProgramSpec, reg, slotCount } from '@tailrace/bpf';
import { type Floor, PathError, programSpec } from './contest.ts';

/** How a measured program changes an IPv4 packet, and which flows are to come. */
export interface Restoration {
  /** The packet before the program. */
  readonly packet: Uint8Array;
  /** Bytes by which the program moves the packet's head: negative where it adds a header. */
  readonly moved: number;
  /** Bytes from the packet's first that have to be written again. */
  readonly rewritten: number;
  /** 1: always the packet's own flow; more: as many flows in scattered order, a power of two. */
  readonly flows: number;
}

/** The program in front, and what it has counted. */
export interface Restored {
  readonly entry: LoadedProgram;
  /** Packets that came back changed as foreseen. */
  changed(): bigint;
}

/** Flows for `Restoration.flows` of which none comes again in a run. */
export const ALWAYS_NEW = 2 ** 32;

const IP_PROTOCOL = 14 + 9;
const IP_SADDR = 14 + 12;
/** Offsets in the one value of the harness's map. */
const CHANGED = 0;
const FLOW = 8;
/** Multiplies a counter into an order that no cache foresees; odd, so that no flow is left out. */
const SCATTER = 0x61c8_8647;
/**
 * Added for every pass over the flows, even, so that each pass takes them in another order: in the same one a table whose
 * entries were laid down in that order is read straight through.
 */
const RESCATTER = 0x3779_b9b8;
const XDP_TX = 3;

/** Puts the program in front of a loaded one. */
export async function restore(instance: EngineInstance, target: LoadedProgram, restoration: Restoration): Promise<Restored> {
  const counters = instance.createMap({ name: 'bench/harness', type: 'array', keySize: 4, valueSize: 16, maxEntries: 1, flags: 0 });
  const next = instance.createMap({ name: 'bench/next', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 });
  await next.setProgram(0, target);
  const maps = new Map([
    ['counters', counters],
    ['next', next],
  ]);
  return {
    entry: await instance.loadProgram(restoringProgram(restoration), maps),
    changed() {
      const value = counters.lookup(new Uint8Array(4));
      if (!value) throw new PathError('the harness has no counters');
      return new DataView(value.buffer, value.byteOffset).getBigUint64(CHANGED, true);
    },
  };
}

/**
 * What restoring costs: once in front of a program that does nothing, once in front of one that moves the head as the
 * measured one does. Their mean holds the way back, which is the harness's, and not the way there, which is not.
 */
export function restorationFloors(restoration: Restoration): readonly Floor[] {
  const still = programSpec('xdp', 'still', [insn.mov32(0, XDP_TX), insn.exit()]);
  return [still, movingProgram(restoration)].map((spec) => async (instance) => {
    const target = await instance.loadProgram(spec, new Map());
    return (await restore(instance, target, restoration)).entry;
  });
}

/** Moves the head and marks the packet as changed; nothing else. */
function movingProgram({ packet, moved }: Restoration): ProgramSpec {
  const rest = [insn.storeImm(1, 2, IP_PROTOCOL, (packet[IP_PROTOCOL] ?? 0) ^ 1)];
  return programSpec('xdp', 'moving', [
    insn.mov(6, reg(1)),
    insn.mov(2, moved),
    insn.call(Helper.xdp_adjust_head),
    ...unlessHeld(IP_PROTOCOL + 1, rest),
    insn.mov32(0, XDP_TX),
    insn.exit(),
  ]);
}

function restoringProgram({ packet, moved, rewritten, flows }: Restoration): ProgramSpec {
  const held = Math.max(rewritten, IP_SADDR + 8);
  const undo = [
    ...counterAddress(),
    insn.load(8, 2, 1, CHANGED),
    insn.alu64('add', 2, 1),
    insn.store(8, 1, CHANGED, 2),
    insn.mov(1, reg(6)),
    insn.mov(2, -moved),
    insn.call(Helper.xdp_adjust_head),
    ...unlessHeld(held, stores(packet.subarray(0, rewritten))),
  ];
  const mask = flows - 1;
  const daddr = new DataView(packet.buffer, packet.byteOffset).getUint32(IP_SADDR + 4, true);
  const nextFlow = [
    ...counterAddress(),
    insn.load(8, 3, 1, FLOW),
    insn.alu64('add', 3, 1),
    insn.store(8, 1, FLOW, 3),
    insn.mov(5, reg(3)),
    insn.alu64('rsh', 5, Math.log2(flows)),
    insn.alu32('mul', 5, RESCATTER),
    insn.alu32('add', 5, SCATTER),
    insn.alu32('mul', 3, reg(5)),
    ...(mask < 0xffff_ffff ? [insn.alu32('and', 3, mask)] : []),
    // Both addresses in one store: programs that load them as one word would wait for a narrower one to reach the cache.
    insn.wide(4, BigInt(daddr) << 32n),
    insn.alu64('or', 3, reg(4)),
    insn.store(8, 2, IP_SADDR, 3),
  ];
  const isPristine = [insn.load(1, 3, 2, IP_PROTOCOL), insn.jump('eq', 3, packet[IP_PROTOCOL] ?? 0, slotCount(undo)), ...undo];
  const instructions = [
    insn.mov(6, reg(1)),
    ...unlessHeld(IP_PROTOCOL + 1, isPristine),
    ...(flows > 1 ? unlessHeld(held, nextFlow) : []),
    insn.mov(1, reg(6)),
    insn.wideMap(2),
    insn.mov(3, 0),
    insn.call(Helper.tail_call),
    insn.mov32(0, 0),
    insn.exit(),
  ];
  return programSpec('xdp', 'restore', instructions, references(instructions));
}

/** Loads the packet's start into r2 and skips `body` where it does not hold that many bytes; r6 is the context. */
function unlessHeld(bytes: number, body: readonly Instruction[]): readonly Instruction[] {
  return [
    insn.load(4, 2, 6, 0),
    insn.load(4, 3, 6, 4),
    insn.mov(4, reg(2)),
    insn.alu64('add', 4, bytes),
    insn.jump('gt', 4, reg(3), slotCount(body)),
    ...body,
  ];
}

/** r1: the address of the harness's counters. */
function counterAddress(): readonly Instruction[] {
  return [insn.wideMapValue(1, 0)];
}

/** Writes constant bytes to where r2 points. */
function stores(bytes: Uint8Array): readonly Instruction[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out: Instruction[] = [];
  let at = 0;
  for (; at + 4 <= bytes.length; at += 4) out.push(insn.storeImm(4, 2, at, view.getInt32(at, true)));
  if (at + 2 <= bytes.length) {
    out.push(insn.storeImm(2, 2, at, view.getInt16(at, true)));
    at += 2;
  }
  if (at < bytes.length) out.push(insn.storeImm(1, 2, at, view.getUint8(at)));
  return out;
}

/** The maps that wide loads mean: a whole map is the program array, a value the counters. */
function references(instructions: readonly Instruction[]): ProgramSpec['mapReferences'] {
  const [wholeMap, mapValue] = [insn.wideMap(0).src, insn.wideMapValue(0, 0).src];
  let pc = 0;
  return instructions.flatMap((instruction) => {
    const at = pc;
    pc += slotCount([instruction]);
    if (instruction.immHigh === undefined) return [];
    if (instruction.src === wholeMap) return [{ pc: at, map: 'next' }];
    return instruction.src === mapValue ? [{ pc: at, map: 'counters', valueOffset: 0 }] : [];
  });
}

import { Helper, insn, reg } from '@tailrace/bpf';
import { packet } from '@tailrace/testing';
import { describe, expect, it } from 'vitest';
import { openMachine, programSpec } from './contest.ts';
import { ALWAYS_NEW, type Restoration, restorationFloors, restore } from './restore.ts';

const inner = packet().ipv4({ saddr: '10.0.0.1', daddr: '10.0.0.2' }).tcp({ sport: 1000, dport: 80 }).padTo(64);
const adding: Restoration = { packet: inner.bytes(), moved: -20, rewritten: 14, flows: 1 };
const removing: Restoration = { packet: packet().ipv4().ipv4().tcp().bytes(), moved: 20, rewritten: 34, flows: 1 };

/** Moves the head and says so in the byte of the IP protocol. */
function move(by: number) {
  return programSpec('xdp', 'move', [
    insn.mov(6, reg(1)),
    insn.mov(2, by),
    insn.call(Helper.xdp_adjust_head),
    insn.load(4, 2, 6, 0),
    insn.load(4, 3, 6, 4),
    insn.mov(4, reg(2)),
    insn.alu64('add', 4, 34),
    insn.jump('gt', 4, reg(3), 2),
    insn.storeImm(1, 2, 23, 99),
    insn.storeImm(8, 2, 0, -1),
    insn.mov32(0, 3),
    insn.exit(),
  ]);
}

describe('restore', () => {
  it.each([
    ['a header that was added', adding],
    ['a header that was removed', removing],
  ])('undoes %s', async (_name, restoration) => {
    await using instance = await openMachine();
    const target = await instance.loadProgram(move(restoration.moved), new Map());
    const restored = await restore(instance, target, restoration);
    const once = await restored.entry.testRun({ packet: restoration.packet });
    expect(restored.changed()).toBe(0n);
    const many = await restored.entry.testRun({ packet: restoration.packet, repeat: 1_000 });
    expect(many.returnValue).toBe(3);
    expect(many.packet).toEqual(once.packet);
    expect(many.packet.length).toBe(restoration.packet.length - restoration.moved);
    expect(restored.changed()).toBeGreaterThanOrEqual(999n);
  });

  it.each([
    [1, 1],
    [16, 16],
    [ALWAYS_NEW, 100],
  ])('sends packets of %d flows', async (flows, expected) => {
    await using instance = await openMachine();
    const target = await instance.loadProgram(programSpec('xdp', 'pass', [insn.mov32(0, 2), insn.exit()]), new Map());
    const restored = await restore(instance, target, { ...adding, flows });
    const seen = new Set<string>();
    for (let run = 0; run < 100; run++)
      seen.add(Buffer.from((await restored.entry.testRun({ packet: adding.packet })).packet).toString('hex'));
    expect(seen.size).toBe(expected);
    expect(restored.changed()).toBe(0n);
  });

  it('has floors that run for ever without losing the packet', async () => {
    for (const floor of restorationFloors({ ...adding, flows: ALWAYS_NEW })) {
      await using instance = await openMachine();
      const program = await floor(instance);
      expect(await program.testRun({ packet: adding.packet, repeat: 1_000 })).toMatchObject({ returnValue: 3 });
    }
  });
});

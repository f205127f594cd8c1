/** The network that an engine is given: programs look routes up in it. */
import { Helper, insn, type ProgramSpec, reg } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { userspace } from './engine.ts';

/** fib_lookup of a packet from ifindex 1 to 10.1.2.3; returns its answer in the low byte and the route's ifindex above. */
const lookup: ProgramSpec = {
  name: 'lookup',
  type: 'xdp',
  frags: false,
  license: 'Dual MIT/GPL',
  instructions: [
    insn.mov(6, reg(1)),
    ...Array.from({ length: 8 }, (_, i) => insn.storeImm(8, 10, -64 + 8 * i, 0)),
    insn.storeImm(1, 10, -64, 2),
    insn.storeImm(4, 10, -64 + 8, 1),
    insn.storeImm(4, 10, -64 + 32, 0x0302010a),
    insn.mov(1, reg(6)),
    insn.mov(2, reg(10)),
    insn.alu64('add', 2, -64),
    insn.mov(3, 64),
    insn.mov(4, 0),
    insn.call(Helper.fib_lookup),
    insn.load(4, 1, 10, -64 + 8),
    insn.alu64('lsh', 1, 8),
    insn.alu64('or', 0, reg(1)),
    insn.exit(),
  ],
  mapReferences: [],
  functions: [{ pc: 0, name: 'lookup' }],
  lines: [],
};

const mac = (last: number) => Uint8Array.of(2, 0, 0, 0, 0, last);

test.each(['wasm', 'interpreter'] as const)('routes of the option, in %s', async (mode) => {
  const network = {
    links: [{ ifindex: 1 }, { ifindex: 7 }],
    routes: [{ prefix: Uint8Array.of(10, 1, 0, 0), prefixLength: 16, ifindex: 7, neighbour: { source: mac(1), destination: mac(2) } }],
  };
  await using engine = await userspace({ mode, network }).open();
  const program = await engine.loadProgram(lookup, new Map());
  expect((await program.testRun({ packet: new Uint8Array(64) })).returnValue).toBe(7 << 8);
  await using without = await userspace({ mode }).open();
  const lost = await without.loadProgram(lookup, new Map());
  // -ENODEV, cut to what is left of it
  expect((await lost.testRun({ packet: new Uint8Array(64) })).returnValue | 0).toBe(-19 | (1 << 8));
});

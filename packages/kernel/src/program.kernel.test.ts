import { insn, MapFlag, reg } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { mapSpec, openFds, passProgram, programSpec, u32 } from './fixture.ts';
import { createMap } from './map.ts';
import { loadProgram } from './program.ts';
import { formatVerifierError, VerifierError } from './verifier.ts';

const packet = Uint8Array.from({ length: 64 }, (_, index) => index);

async function rejection(load: Promise<unknown>): Promise<VerifierError> {
  const error = await load.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(VerifierError);
  return error as VerifierError;
}

test('a program loads, runs, and is known to the kernel', async () => {
  const before = openFds();
  const program = await loadProgram(passProgram, new Map());
  const run = await program.testRun({ packet, repeat: 1000 });
  expect(run).toMatchObject({ returnValue: 2, packet });
  expect(run.durationNs).toBeGreaterThan(0);
  expect(program.info()).toMatchObject({ id: program.id, name: 'sample.pass', translatedSlots: 2, verifiedInstructions: 2 });
  program.close();
  program.close();
  expect(() => program.info()).toThrow('program sample.pass is closed');
  await expect(program.testRun({ packet })).rejects.toThrow('program sample.pass is closed');
  expect(openFds()).toBe(before);
});

test('a packet that grows by encapsulation comes back whole', async () => {
  // bpf_xdp_adjust_head(ctx, -20)
  const grow = programSpec('sample.grow', [insn.mov(2, -20), insn.call(44), insn.mov(0, 3), insn.exit()]);
  using program = disposable(await loadProgram(grow, new Map()));
  const run = await program.value.testRun({ packet });
  expect(run.returnValue).toBe(3);
  expect(run.packet.length).toBe(84);
  expect(run.packet.subarray(20)).toEqual(packet);
});

test('frags-aware programs run over packets larger than a page', async () => {
  using program = disposable(await loadProgram(passProgram, new Map()));
  const jumbo = new Uint8Array(9000).fill(7);
  expect((await program.value.testRun({ packet: jumbo })).packet).toEqual(jumbo);
});

test('short packets and bad repeats are refused', async () => {
  using program = disposable(await loadProgram(passProgram, new Map()));
  await expect(program.value.testRun({ packet: new Uint8Array(13) })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[ArgumentError: a test run takes a packet of at least 14 bytes, got 13]`,
  );
  await expect(program.value.testRun({ packet, repeat: 0 })).rejects.toThrow('repeat must be 1 to 4294967295, got 0');
});

test('map references become the map, or an address in its value', async () => {
  using hits = disposable(createMap(mapSpec('array', { name: 'hits', maxEntries: 1, flags: MapFlag.mmapable }), { cpus: 1 }));
  // *(u64 *)(hits[0] + 8) += 1; then bpf_map_lookup_elem(hits, &0) and return its second word.
  const spec = programSpec(
    'sample.count',
    [
      insn.wideMapValue(1, 8),
      insn.mov(2, 1),
      insn.atomic('add', 8, 1, 0, 2),
      insn.storeImm(4, 10, -4, 0),
      insn.mov(2, reg(10)),
      insn.alu64('add', 2, -4),
      insn.wideMap(1),
      insn.call(1),
      insn.jump('ne', 0, 0, 2),
      insn.mov(0, 0),
      insn.exit(),
      insn.load(4, 0, 0, 8),
      insn.exit(),
    ],
    {
      mapReferences: [
        { pc: 0, map: 'hits', valueOffset: 8 },
        { pc: 7, map: 'hits' },
      ],
    },
  );
  using program = disposable(await loadProgram(spec, new Map([['hits', hits.value]])));
  expect((await program.value.testRun({ packet, repeat: 3 })).returnValue).toBe(3);
  expect(hits.value.lookup(u32(0))?.at(8)).toBe(3);

  const before = openFds();
  await expect(loadProgram(spec, new Map())).rejects.toThrow('program sample.count names the map hits, which was not given');
  const misplaced = { ...spec, mapReferences: [{ pc: 2, map: 'hits' }] };
  await expect(loadProgram(misplaced, new Map([['hits', hits.value]]))).rejects.toThrow(
    'program sample.count has no wide load at pc 2 for map hits',
  );
  expect(openFds()).toBe(before);
});

test('a read past the end: the error has line, instruction and register', async () => {
  const before = openFds();
  const spec = programSpec('sample.read', [
    insn.load(4, 2, 1, 0),
    insn.load(4, 3, 1, 4),
    insn.mov(4, reg(2)),
    insn.alu64('add', 4, 14),
    insn.jump('gt', 4, reg(3), 2),
    insn.load(4, 0, 2, 26),
    insn.exit(),
    insn.mov(0, 2),
    insn.exit(),
  ]);
  const error = await rejection(loadProgram(spec, new Map()));
  expect(error).toMatchObject({ code: 'verifier', pc: 5, source: { file: '/stages/sample.ts', line: 6, column: 3 } });
  expect(error.registers.map(({ name }) => name)).toEqual(['R2']);
  expect(formatVerifierError(error)).toContain('invalid access to packet, off=26 size=4');
  expect(error.log).toContain('processed 6 insns');
  expect(openFds()).toBe(before);
});

test('a program over the limit of a million instructions', async () => {
  const spec = programSpec('sample.endless', [insn.mov(0, 0), insn.alu64('add', 0, 1), insn.jump('ne', 0, 0, -2), insn.exit()]);
  const error = await rejection(loadProgram(spec, new Map()));
  expect(error.reason).toBe('BPF program is too large. Processed 1000001 insn');
});

test('loading happens beside the event loop', async () => {
  const loading = loadProgram(passProgram, new Map());
  let turned = false;
  setImmediate(() => {
    turned = true;
  });
  (await loading).close();
  expect(turned).toBe(true);
});

function disposable<T extends { close(): void }>(value: T): Disposable & { readonly value: T } {
  return { value, [Symbol.dispose]: () => value.close() };
}

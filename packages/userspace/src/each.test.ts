/** bpf_for_each_map_elem: every entry once, with its key and value, whatever the function does to the map meanwhile. */
import { assemble, type MapSpec, type ProgramSpec, WIDE_OPCODE, WidePseudo } from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import { userspace } from './engine.ts';

const spec = (type: MapSpec['type'], keySize: number): MapSpec => ({
  name: 'numbers',
  type,
  keySize,
  valueSize: 8,
  maxEntries: 40,
  flags: 0,
});

/** Goes through the map; the callback does `body` with r1 map, r2 key, r3 value, r4 a sum on the caller's stack. */
function program(body: string, flags = 0): ProgramSpec {
  const text = `
    *(u64 *)(r10 -8) = 0
    r1 = map[fd:0]
    r2 = 0 ll
    r3 = r10
    r3 += -8
    r4 = ${flags}
    call bpf_for_each_map_elem
    if r0 s< 0 goto +3
    r1 = *(u64 *)(r10 -8)
    r1 <<= 8
    r0 |= r1
    exit
    ${body}
    exit`;
  const { instructions } = assemble(text);
  // the wide loads: the map at slot 1, the function behind the first exit
  const slots: number[] = [];
  let pc = 0;
  for (const { opcode } of instructions) {
    slots.push(pc);
    pc += opcode === WIDE_OPCODE ? 2 : 1;
  }
  const start = slots[12] as number;
  const patched = instructions.map((instruction, i) =>
    i === 2 ? { ...instruction, src: WidePseudo.func, imm: start - (slots[2] as number) - 1 } : instruction,
  );
  return {
    name: 'each',
    type: 'xdp',
    frags: false,
    license: 'Dual MIT/GPL',
    instructions: patched,
    mapReferences: [{ pc: slots[1] as number, map: 'numbers' }],
    functions: [
      { pc: 0, name: 'each' },
      { pc: start, name: 'callback' },
    ],
    lines: [],
  };
}

const key = (size: number, index: number): Uint8Array => {
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setUint32(0, index, true);
  return bytes;
};
const value = (number: number): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(number)).buffer);

const SUM = 'r1 = *(u64 *)(r3 +0)\n r2 = *(u64 *)(r4 +0)\n r2 += r1\n *(u64 *)(r4 +0) = r2\n r0 = 0';

async function run(mode: 'wasm' | 'interpreter', map: MapSpec, body: string, flags = 0) {
  await using engine = await userspace({ mode }).open();
  const numbers = engine.createMap(map);
  for (let i = 0; i < 20; i++) numbers.update(key(map.keySize, i), value(i + 1));
  const loaded = await engine.loadProgram(program(body, flags), new Map([['numbers', numbers]]));
  const { returnValue } = await loaded.testRun({ packet: new Uint8Array(64) });
  return { count: returnValue & 0xff, sum: returnValue >>> 8, returnValue: returnValue | 0, left: numbers.readAll().count };
}

describe.each(['wasm', 'interpreter'] as const)('%s', (mode) => {
  test.each([
    ['hash', 4, 20],
    ['hash', 16, 20],
    ['lruHash', 8, 20],
    ['array', 4, 40],
    ['perCpuArray', 4, 40],
    ['perCpuHash', 12, 20],
  ] as const)('%s with keys of %i bytes', async (type, keySize, entries) => {
    expect(await run(mode, spec(type, keySize), SUM)).toMatchObject({ count: entries, sum: 210 });
  });

  test('keys are copies, read only, and stop is stop', async () => {
    const byKey = 'r1 = *(u32 *)(r2 +0)\n r2 = *(u64 *)(r4 +0)\n r2 += r1\n *(u64 *)(r4 +0) = r2\n r0 = 0';
    expect(await run(mode, spec('hash', 4), byKey)).toMatchObject({ count: 20, sum: 190 });
    await expect(run(mode, spec('hash', 4), 'r1 = 5\n *(u32 *)(r2 +0) = r1\n r0 = 0')).rejects.toThrow(
      'write of 4 bytes outside the key of an entry',
    );
    await expect(run(mode, spec('hash', 4), 'r1 = *(u64 *)(r2 +0)\n r0 = 0')).rejects.toThrow('read of 8 bytes outside the key');
    expect((await run(mode, spec('hash', 4), 'r0 = 1')).count).toBe(1);
  });

  test('an entry that is deleted on the way disturbs nobody', async () => {
    const remove = `r6 = r1
      r7 = r4
      r1 = *(u64 *)(r3 +0)
      r5 = *(u64 *)(r7 +0)
      r5 += r1
      *(u64 *)(r7 +0) = r5
      r1 = r6
      call bpf_map_delete_elem
      r0 = 0`;
    expect(await run(mode, spec('hash', 4), remove)).toMatchObject({ count: 20, sum: 210, left: 0 });
  });

  test('flags, and a walk within a walk, are refused', async () => {
    expect((await run(mode, spec('hash', 4), SUM, 1)).returnValue).toBe(-22);
  });
});

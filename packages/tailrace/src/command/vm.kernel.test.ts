/** Raw programs in the kernel: the public cases, and what the wrapping must keep. */
import { existsSync, readFileSync } from 'node:fs';
import { encode, type Instruction, insn } from '@tailrace/bpf';
import { type KernelInstance, kernel } from '@tailrace/kernel';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runInKernel } from './kernel-vm.ts';
import { calledWith } from './main-fixture.ts';
import { casesFile, type IsaCase } from './vm-fixture.ts';

let instance: KernelInstance;
beforeAll(async () => {
  instance = await kernel({ interfaces: [] }).open();
});
afterAll(() => instance.close());

const run = (program: readonly Instruction[], memory = new Uint8Array()) => runInKernel(instance, encode(program), memory);

test('hex in, hex out', async () => {
  const program = Buffer.from(encode([insn.load(2, 0, 1, 0), insn.alu64('add', 0, { register: 2 }), insn.exit()])).toString('hex');
  expect(await calledWith(program, 'vm', '0102 03', '--engine', 'kernel')).toEqual({ code: 0, out: '204\n', err: '' });
});

test('all 64 bits, all of the stack, and memory that is long or short', async () => {
  expect(await run([insn.wide(0, 0xfedc_ba98_7654_3210n), insn.exit()])).toBe(0xfedc_ba98_7654_3210n);
  expect(await run([insn.storeImm(8, 10, -512, 7), insn.load(8, 0, 10, -512), insn.exit()])).toBe(7n);
  expect(await run([insn.mov(0, { register: 2 }), insn.exit()], new Uint8Array(1))).toBe(1n);
  const long = new Uint8Array(20_000);
  long[19_999] = 0xab;
  expect(await run([insn.load(1, 0, 1, 19_999), insn.exit()], long)).toBe(0xabn);
  expect(await run([insn.mov(0, { register: 1 }), insn.alu64('or', 0, { register: 2 }), insn.exit()])).toBe(0n);
});

test('subprograms and callbacks keep their exits and distances', async () => {
  const twice = [insn.mov(0, { register: 1 }), insn.alu64('add', 0, { register: 1 }), insn.exit()];
  expect(await run([insn.mov(1, 21), insn.callSubprogram(1), insn.exit(), ...twice])).toBe(42n);
  // bpf_loop: 5 turns of a callback that adds 3 to what its context points to
  const add = [insn.load(8, 3, 2, 0), insn.alu64('add', 3, 3), insn.store(8, 2, 0, 3), insn.mov(0, 0), insn.exit()];
  const main = [
    insn.storeImm(8, 10, -8, 0),
    insn.mov(1, 5),
    insn.wideFunction(2, 7),
    insn.mov(3, { register: 10 }),
    insn.alu64('add', 3, -8),
    insn.mov(4, 0),
    insn.call(181),
    insn.load(8, 0, 10, -8),
    insn.exit(),
  ];
  expect(await run([...main, ...add])).toBe(15n);
});

test('several exits, near and far', async () => {
  const fill = Array.from({ length: 33_000 }, () => insn.mov(3, 1));
  const program = [insn.mov(0, 1), insn.jump('eq', 2, 0, 1), insn.exit(), ...fill, insn.mov(0, 2), insn.exit()];
  expect(await run(program)).toBe(2n);
  expect(await run(program, new Uint8Array(8))).toBe(1n);
});

test.each([
  [[insn.mov(1, 0), insn.exit()], 'verifier rejected program: R0 !read_ok'],
  [[insn.mov(0, 0), insn.mov(0, { register: 7 }), insn.exit()], 'verifier rejected program (pc 1): R7 !read_ok'],
  [[insn.wideMap(1, 3), insn.mov(0, 0), insn.exit()], 'program at pc 0 loads a map or variable by its number, which has no meaning here'],
  [[insn.callKfunc(5), insn.exit()], 'program at pc 0 calls a kernel function by its number, which has no meaning here'],
])('refused in one line: %j', async (program, message) => {
  const result = await calledWith(Buffer.from(encode(program)).toString('hex'), 'vm', '--engine', 'kernel');
  expect(result).toEqual({ code: 1, out: '', err: `tailrace: ${message}\n` });
});

const isThere = existsSync(casesFile);
describe.skipIf(!isThere)(`conformance${isThere ? '' : ': the folder with the cases is not there'}`, () => {
  const cases: readonly IsaCase[] = isThere ? JSON.parse(readFileSync(casesFile, 'utf8')) : [];

  test('every case that Linux runs', async () => {
    const passing = cases.filter(({ kernel: what }) => what === 'pass');
    expect(passing.length).toBeGreaterThan(0);
    for (const { name, program, memory, result } of passing) {
      const value = await runInKernel(instance, Buffer.from(program, 'hex'), Buffer.from(memory, 'hex'));
      expect([name, value.toString(16)]).toEqual([name, BigInt(result ?? 0).toString(16)]);
    }
  });

  test('every case that is refused', async () => {
    for (const { name, program, memory } of cases.filter(({ kernel: what }) => what !== 'pass')) {
      const refused = runInKernel(instance, Buffer.from(program, 'hex'), Buffer.from(memory, 'hex'));
      await expect(refused, name).rejects.toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^(encoding|verifier|syscall)$/) }),
      );
    }
  });
});

/** Code of functions taken apart: the runtime's own, whose every instruction has to be known, and calls written anew. */
import { expect, test } from 'vitest';
import { BaseModule } from './base-module.ts';
import { codeFrom, reachedFrom } from './function-code.ts';
import { RUNTIME_BASE64 } from './runtime-bytes.ts';
import { FunctionWriter, ModuleWriter, Type } from './wasm-writer.ts';
import { WebAssembly } from './webassembly.ts';

const bytes = Uint8Array.from(Buffer.from(RUNTIME_BASE64, 'base64'));
const runtime = new BaseModule(bytes);
const memory = new WebAssembly.Memory({ initial: 86, maximum: 65_536, shared: true });

test('the whole runtime, with all its functions kept, is the module that it was', () => {
  const module = new ModuleWriter(runtime);
  for (const [name, index] of runtime.sections.exports) module.export(name, index);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), { env: { memory } });
  expect(Object.keys(exports).sort()).toEqual([...runtime.sections.exports.keys()].sort());
  expect(runtime.sections.code.every(({ calls }) => calls.every(({ callee }) => callee < runtime.sections.functions.length))).toBe(true);
});

test.each([...runtime.sections.exports])('%s alone', (name, index) => {
  const module = new ModuleWriter(runtime);
  module.export(name, index);
  // V8 checks types of callees: with wrong numbers it would be no module
  const alone = module.bytes();
  expect(Object.keys(new WebAssembly.Instance(new WebAssembly.Module(alone), { env: { memory } }).exports)).toEqual([name]);
  expect(new BaseModule(alone).sections.functions.length).toBe(reachedFrom([index], runtime.sections.code).length);
});

test('what no export calls is left out, and the others are numbered anew', () => {
  const answer = (value: number): FunctionWriter => new FunctionWriter([], [Type.i32]).i32(value);
  const module = new ModuleWriter(runtime);
  module.add(answer(1));
  const [two, caller] = [module.reserve(), module.reserve()];
  // more than a byte of numbers lies between what is there before and after
  for (let i = 0; i < 200; i++) module.add(answer(i));
  const last = module.add(answer(40));
  module.define(two, answer(2));
  module.define(caller, new FunctionWriter([], [Type.i32]).call(two).call(last).op(0x6a));
  module.export('sum', caller);
  module.export('tail', module.add(new FunctionWriter([], [Type.i32]).returnCall(caller)));
  const written = module.bytes();
  const { sum, tail } = new WebAssembly.Instance(new WebAssembly.Module(written), { env: { memory } }).exports as Record<
    string,
    () => number
  >;
  expect([sum?.(), tail?.(), new BaseModule(written).sections.functions.length]).toEqual([42, 42, 4]);
});

test('instructions that nothing is known of', () => {
  expect(() => codeFrom(Uint8Array.of(0, 0x11, 0, 0, 0x0b))).toThrow('the runtime has an instruction 0x11, which is not known here');
  expect(() => codeFrom(Uint8Array.of(0, 0xfc, 8, 0x0b))).toThrow('the runtime has an instruction 0xfc, which is not known here');
  expect(codeFrom(Uint8Array.of(1, 2, 0x7f, 0x41, 0x80, 0x7f, 0x10, 0x85, 0, 0xfe, 3, 0, 0x0b)).calls).toEqual([
    { at: 7, bytes: 2, callee: 5 },
  ]);
});

/** Round trips over random programs: every opcode, every field at random within its form. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assemble } from './assembler.ts';
import { disassemble } from './disassembler.ts';
import { decode, encode, SLOT_BYTES } from './encoding.ts';
import { EncodingError } from './errors.ts';
import { formProblem } from './form.ts';
import type { Instruction } from './instruction.ts';
import { AtomicCode, InstructionClass, WIDE_OPCODE } from './opcode.ts';

const s16 = fc.oneof(fc.constantFrom(0, 1, 8, 16, 32, -0x8000, 0x7fff), fc.integer({ min: -0x8000, max: 0x7fff }));
const s32 = fc.oneof(
  fc.constantFrom(0, 1, 16, 32, 64, 0x1_0000, -1, -0x8000_0000, 0x7fff_ffff, ...Object.values(AtomicCode)),
  fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
);
const fields = fc.record({
  opcode: fc.integer({ min: 0, max: 255 }),
  dst: fc.integer({ min: 0, max: 10 }),
  src: fc.integer({ min: 0, max: 10 }),
  offset: s16,
  imm: s32,
});

/** Zeroes the fields that its form wants zero, one by one, until it is an instruction or cannot be. */
function settle(instruction: Instruction): Instruction | undefined {
  const problem = formProblem(instruction);
  if (!problem) return instruction;
  if (problem.field === 'opcode') return undefined;
  const accepted = /\d+/.exec(problem.expected)?.[0] ?? '0';
  if (instruction[problem.field] === Number(accepted)) return undefined;
  return settle({ ...instruction, [problem.field]: Number(accepted) });
}

const instruction = fc
  .tuple(fields, s32)
  .map(([one, immHigh]) => settle(one.opcode === WIDE_OPCODE ? { ...one, immHigh } : one))
  .filter((one) => one !== undefined);
const program = fc.array(instruction, { maxLength: 40 });

describe('round trips', () => {
  it('decode undoes encode', () => {
    fc.assert(
      fc.property(program, (instructions) => {
        expect(decode(encode(instructions))).toEqual(instructions);
      }),
      { numRuns: 300 },
    );
  });

  it('assemble undoes disassemble', () => {
    fc.assert(
      fc.property(program, (instructions) => {
        expect(assemble(disassemble(instructions)).instructions).toEqual(instructions);
      }),
      { numRuns: 300 },
    );
  });

  it('encode undoes decode wherever decode returns', () => {
    const slots = fc.uint8Array({ minLength: SLOT_BYTES, maxLength: SLOT_BYTES });
    fc.assert(
      fc.property(slots, fc.integer({ min: 0, max: 255 }), (bytes, opcode) => {
        bytes[0] = opcode;
        let instructions: Instruction[];
        try {
          instructions = decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(EncodingError);
          return;
        }
        expect(encode(instructions)).toEqual(bytes);
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    ['ld', 7, 'wide, abs and ind of 3 sizes'],
    ['ldx', 7, 'mem of 4 sizes, memsx of 3'],
    ['st', 4, 'mem'],
    ['stx', 8, 'mem and atomic of 4 sizes'],
    ['alu', 27, '12 codes of 2 sources, neg, le, be'],
    ['jmp', 27, '11 conditions of 2 sources, ja, call, callx, exit, may_goto'],
    ['jmp32', 23, '11 conditions of 2 sources, ja'],
    ['alu64', 26, '12 codes of 2 sources, neg, bswap'],
  ] as const)('class %s has %i opcodes: %s', (name, count, _parts) => {
    const opcodes = Array.from({ length: 256 }, (_, opcode) => opcode).filter((opcode) => (opcode & 7) === InstructionClass[name]);
    const known = opcodes.filter((opcode) =>
      [0, AtomicCode.loadAcquire].some((imm) =>
        settle({ opcode, dst: 0, src: 0, offset: 0, imm, ...(opcode === WIDE_OPCODE ? { immHigh: 0 } : {}) }),
      ),
    );
    expect(known).toHaveLength(count);
  });
});

/**
 * Instructions to and from bytes: 8 a slot, little endian, as Linux on x86-64 and arm64 takes them (RFC 9669, section
 * 3.1). Both directions refuse what is no instruction, so that `decode(encode(p))` and `encode(decode(b))` are
 * identities wherever they return.
 */
import { EncodingError } from './errors.ts';
import { checkInstruction } from './form.ts';
import { type Instruction, slotCount } from './instruction.ts';
import { WIDE_OPCODE } from './opcode.ts';

/** Bytes of one slot. */
export const SLOT_BYTES = 8;

/** Encodes a program. Throws EncodingError that names pc and field. */
export function encode(instructions: readonly Instruction[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(slotCount(instructions) * SLOT_BYTES);
  const view = new DataView(bytes.buffer);
  let pc = 0;
  for (const instruction of instructions) {
    checkInstruction(instruction, pc);
    writeSlot(view, pc++, instruction);
    if (instruction.immHigh !== undefined) view.setInt32(SLOT_BYTES * pc++ + 4, instruction.immHigh, true);
  }
  return bytes;
}

/** Decodes a program. Throws EncodingError that names pc and field: unknown opcodes, reserved fields, cut slots. */
export function decode(bytes: Uint8Array): Instruction[] {
  if (bytes.length % SLOT_BYTES !== 0)
    throw new EncodingError('opcode', `a program of ${bytes.length} bytes, expected a multiple of ${SLOT_BYTES}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const slots = bytes.length / SLOT_BYTES;
  const instructions: Instruction[] = [];
  for (let pc = 0; pc < slots; pc++) {
    const first = readSlot(view, pc);
    const instruction = first.opcode === WIDE_OPCODE ? { ...first, immHigh: readSecondSlot(view, pc, slots) } : first;
    checkInstruction(instruction, pc);
    if (instruction.opcode === WIDE_OPCODE) pc++;
    instructions.push(instruction);
  }
  return instructions;
}

function writeSlot(view: DataView, pc: number, instruction: Instruction): void {
  const at = pc * SLOT_BYTES;
  view.setUint8(at, instruction.opcode);
  view.setUint8(at + 1, (instruction.src << 4) | instruction.dst);
  view.setInt16(at + 2, instruction.offset, true);
  view.setInt32(at + 4, instruction.imm, true);
}

function readSlot(view: DataView, pc: number): Instruction {
  const at = pc * SLOT_BYTES;
  const registers = view.getUint8(at + 1);
  return {
    opcode: view.getUint8(at),
    dst: registers & 0x0f,
    src: registers >> 4,
    offset: view.getInt16(at + 2, true),
    imm: view.getInt32(at + 4, true),
  };
}

/** The upper immediate of the wide instruction at `pc`; everything else in that slot must be zero. */
function readSecondSlot(view: DataView, pc: number, slots: number): number {
  if (pc + 1 >= slots) throw new EncodingError('immHigh', `pc ${pc}: a wide instruction is cut off, expected two slots`, { pc });
  const { opcode, dst, src, offset, imm } = readSlot(view, pc + 1);
  for (const [field, value] of Object.entries({ opcode, dst, src, offset }))
    if (value !== 0)
      throw new EncodingError(field, `pc ${pc + 1}: ${field} of a wide instruction's second slot is ${value}, expected 0`, {
        pc: pc + 1,
      });
  return imm;
}

/** One instruction's text to data: the grammar that disassembler.ts prints. Labels stay open for the assembler. */
import { Helper } from './helper.ts';
import { type AccessBytes, type AluOperation, insn, type JumpCondition, type Operand, reg } from './insn.ts';
import type { Instruction } from './instruction.ts';
import { type AtomicCode, InstructionClass, Mode, SizeOfBytes, WIDE_OPCODE, WidePseudo } from './opcode.ts';
import type { MapReference } from './program.ts';
import type { Scanner } from './scanner.ts';
import { ALU_OPERATORS, ATOMIC_NAMES, JUMP_OPERATORS, keyOf, LOCK_OPERATORS } from './syntax.ts';

/** An instruction, and what its text leaves open. */
export interface ParsedInstruction {
  readonly instruction: Instruction;
  /** The map that a wide load names. */
  readonly map?: Omit<MapReference, 'pc'>;
  /** The label that a jump or call names. */
  readonly target?: {
    readonly label: string;
    readonly column: number;
    /** Makes the instruction, given the slots from the next one to the label. */
    readonly link: (distance: number) => Instruction;
  };
}

/** Parses one instruction. Throws AssemblyError, or EncodingError where a field is out of range. */
export function parseInstruction(scanner: Scanner): ParsedInstruction {
  const word = scanner.take(/(exit|gotol|goto|may_goto|callx|call|if|lock|store_release)\b/y)?.[1];
  switch (word) {
    case 'exit':
      return { instruction: insn.exit() };
    case 'goto':
      return jumpTo(scanner, insn.ja);
    case 'gotol':
      return jumpTo(scanner, insn.ja32);
    case 'may_goto':
      return jumpTo(scanner, insn.mayGoto);
    case 'callx':
      return { instruction: insn.callRegister(register(scanner)) };
    case 'call':
      return parseCall(scanner);
    case 'if':
      return parseCondition(scanner);
    case 'lock':
      return { instruction: parseLock(scanner) };
    case 'store_release':
      return { instruction: parseStoreRelease(scanner) };
    default:
      break;
  }
  if (scanner.literal('*')) return { instruction: parseStore(scanner) };
  return parseAssignment(scanner);
}

function parseCondition(scanner: Scanner): ParsedInstruction {
  const width = registerWidth(scanner);
  const dst = register(scanner, width);
  const condition = keyOf<JumpCondition, string>(JUMP_OPERATORS, scanner.take(/==|!=|s>=|s<=|s>|s<|>=|<=|>|<|&/y)?.[0] ?? '');
  if (!condition) return scanner.fail('expected a comparison');
  const operand = operandOf(scanner, width, true);
  scanner.expect('goto');
  const jump = width === 'r' ? insn.jump : insn.jump32;
  return jumpTo(scanner, (distance) => jump(condition, dst, operand, distance));
}

/** `pc+5`, `+5` or a label. */
function jumpTo(scanner: Scanner, link: (distance: number) => Instruction): ParsedInstruction {
  const column = scanner.column;
  const distance = scanner.take(/(?:pc\s*)?([+-]\d+)/y)?.[1];
  if (distance !== undefined) return { instruction: link(Number(distance)) };
  const label = scanner.take(/[A-Za-z_$][\w.$/-]*/y)?.[0];
  if (label === undefined) return scanner.fail('expected a distance or a label');
  return { instruction: link(0), target: { label, column, link } };
}

function parseCall(scanner: Scanner): ParsedInstruction {
  const id = scanner.take(/unknown#(-?\d+)|(-?\d+)/y);
  if (id) return { instruction: insn.call(Number(id[1] ?? id[2])) };
  const kfunc = scanner.take(/kernel-function#(-?\d+)(?:@(-?\d+))?/y);
  if (kfunc) return { instruction: insn.callKfunc(Number(kfunc[1]), Number(kfunc[2] ?? 0)) };
  const column = scanner.column;
  const helper = scanner.take(/bpf_(\w+)(?:#(\d+))?/y);
  if (!helper) return jumpTo(scanner, insn.callSubprogram);
  const [, name = '', number] = helper;
  if (!isHelper(name)) return scanner.fail(`unknown helper bpf_${name}`, column);
  if (number !== undefined && Number(number) !== Helper[name]) return scanner.fail(`bpf_${name} is #${Helper[name]}`, column);
  return { instruction: insn.call(Helper[name]) };
}

function isHelper(name: string): name is Helper {
  return Object.hasOwn(Helper, name);
}

function parseLock(scanner: Scanner): Instruction {
  scanner.expect('*');
  const { bytes, base, offset } = memory(scanner);
  const operation = keyOf<keyof typeof LOCK_OPERATORS, string>(LOCK_OPERATORS, scanner.take(/[-+*/|&^%]/y)?.[0] ?? '');
  if (!operation) return scanner.fail("expected '+=', '|=', '&=' or '^='");
  scanner.expect('=');
  return insn.atomic(operation, bytes, base, offset, register(scanner));
}

function parseStoreRelease(scanner: Scanner): Instruction {
  scanner.expect('(');
  const { bytes, base, offset } = memory(scanner);
  scanner.expect(',');
  const src = register(scanner);
  scanner.expect(')');
  return insn.atomic('storeRelease', bytes, base, offset, src);
}

function parseStore(scanner: Scanner): Instruction {
  const { bytes, base, offset } = memory(scanner);
  scanner.expect('=');
  const operand = operandOf(scanner, 'r', bytes < 8);
  return typeof operand === 'number' ? insn.storeImm(bytes, base, offset, operand) : insn.store(bytes, base, offset, operand.register);
}

/** `r1 …` and `w1 …`. */
function parseAssignment(scanner: Scanner): ParsedInstruction {
  if (!scanner.take(/(?=[rw]\d)/y)) return scanner.fail('expected an instruction');
  const width = registerWidth(scanner);
  const dst = register(scanner, width);
  const operator = scanner.take(/(s>>|s\/|s%|<<|>>|[-+*/|&%^])=/y)?.[1];
  if (operator !== undefined) {
    const operation = keyOf<AluOperation, string>(ALU_OPERATORS, operator) ?? scanner.fail('unknown operator');
    const operand = operandOf(scanner, width, width === 'w');
    return { instruction: (width === 'r' ? insn.alu64 : insn.alu32)(operation, dst, operand) };
  }
  if (!scanner.literal('=')) return scanner.fail("expected '=' or an operator like '+='");
  return (
    parseWide(scanner, width, dst) ?? {
      instruction: parseUnary(scanner, width, dst) ?? parseLoad(scanner, width, dst) ?? parseMov(scanner, width, dst),
    }
  );
}

type Width = 'r' | 'w';

function parseMov(scanner: Scanner, width: Width, dst: number): Instruction {
  return (width === 'r' ? insn.mov : insn.mov32)(dst, operandOf(scanner, width, width === 'w'));
}

/** `-r1`, `be16 r1`, `(s8)r2`, `addr_space_cast(r2, 0, 1)`. */
function parseUnary(scanner: Scanner, width: Width, dst: number): Instruction | undefined {
  if (scanner.take(/-(?=\s*[rw])/y)) {
    same(scanner, width, dst);
    return width === 'r' ? insn.neg(dst) : insn.neg32(dst);
  }
  const extend = scanner.take(/\(s(8|16|32)\)/y)?.[1];
  if (extend !== undefined) {
    const bits = Number(extend) as 8 | 16 | 32;
    const src = register(scanner, width);
    if (width === 'r') return insn.movsx(dst, src, bits);
    return bits === 32 ? scanner.fail('w registers extend from s8 and s16') : insn.movsx32(dst, src, bits);
  }
  if (width === 'w') return undefined;
  const swap = scanner.take(/(be|le|bswap)(16|32|64)\b/y);
  if (swap) {
    same(scanner, width, dst);
    const make = swap[1] === 'be' ? insn.toBe : swap[1] === 'le' ? insn.toLe : insn.bswap;
    return make(dst, Number(swap[2]) as 16 | 32 | 64);
  }
  if (!scanner.literal('addr_space_cast(')) return undefined;
  const src = register(scanner);
  const spaces = scanner.take(/,\s*([01])\s*,\s*([01])\s*\)/y) ?? scanner.fail("expected ', 0, 1)' or ', 1, 0)'");
  return insn.castAddressSpace(dst, src, Number(spaces[1]) as 0 | 1, Number(spaces[2]) as 0 | 1);
}

/** `*(u32 *)(r2 +8)`, `*(u8 *)skb[12]`, and the atomics that return a value. */
function parseLoad(scanner: Scanner, width: Width, dst: number): Instruction | undefined {
  if (width === 'w') return undefined;
  const packet = scanner.take(/\*\s*\(\s*u(8|16|32)\s*\*\s*\)\s*skb\s*\[/y)?.[1];
  if (packet !== undefined) return parsePacket(scanner, (Number(packet) / 8) as 1 | 2 | 4, dst);
  if (scanner.literal('*')) return parseMemoryLoad(scanner, dst);
  if (scanner.literal('load_acquire(')) {
    const { bytes, base, offset } = memory(scanner);
    scanner.expect(')');
    return insn.atomic('loadAcquire', bytes, dst, offset, base);
  }
  const column = scanner.column;
  const atomic = scanner.take(/atomic(64)?_(\w+)\(/y);
  if (!atomic) return undefined;
  const operation =
    keyOf<keyof typeof ATOMIC_NAMES, string>(ATOMIC_NAMES, atomic[2] ?? '') ?? scanner.fail(`unknown atomic ${atomic[2]}`, column);
  return parseFetch(scanner, operation, atomic[1] === undefined ? 4 : 8, dst);
}

function parseMemoryLoad(scanner: Scanner, dst: number): Instruction {
  const column = scanner.column;
  const { bytes, base, offset, signed } = memory(scanner, /[us]/y);
  if (!signed) return insn.load(bytes, dst, base, offset);
  return bytes === 8 ? scanner.fail('s64 is spelt u64', column) : insn.loadSx(bytes, dst, base, offset);
}

function parseFetch(scanner: Scanner, operation: AtomicCode, expected: 4 | 8, result: number): Instruction {
  const column = scanner.column;
  const { bytes, base, offset } = memory(scanner);
  if (bytes !== expected) return scanner.fail(`expected u${expected * 8}`, column);
  const exchange = operation === 'cmpxchg';
  if (exchange) scanner.expect(',', 'r0');
  scanner.expect(',');
  const place = scanner.column;
  const src = register(scanner);
  scanner.expect(')');
  const returned = exchange ? 0 : src;
  if (result !== returned) return scanner.fail(`the old value goes to r${returned}, not r${result}`, place);
  return insn.atomic(operation, bytes, base, offset, src);
}

function parsePacket(scanner: Scanner, bytes: 1 | 2 | 4, dst: number): Instruction {
  if (dst !== 0) return scanner.fail('skb[] loads into r0');
  const indirect = scanner.peek() === 'r';
  const src = indirect ? register(scanner) : 0;
  if (indirect) scanner.expect('+');
  const imm = integer(scanner, false);
  scanner.expect(']');
  const mode = indirect ? Mode.ind : Mode.abs;
  return { opcode: InstructionClass.ld | mode | SizeOfBytes[bytes], dst: 0, src, offset: 0, imm };
}

/** `0x5 ll`, `map[name]`, `map[name][0]+8`, `btf_id[5]`, `subprog[+5]`. */
function parseWide(scanner: Scanner, width: Width, dst: number): ParsedInstruction | undefined {
  if (width === 'w') return undefined;
  const number = scanner.take(/(-?)(0x[0-9a-f]+|\d+)\s*ll\b/iy);
  if (number) return { instruction: parseWideNumber(scanner, dst, number) };
  if (scanner.literal('map[')) return parseMap(scanner, dst);
  const btf = scanner.take(/btf_id\[(-?\d+)(?:@(-?\d+))?\]/y);
  if (btf) return { instruction: wideOf(dst, WidePseudo.btfId, Number(btf[1]), Number(btf[2] ?? 0)) };
  if (!scanner.literal('subprog[')) return undefined;
  const parsed = jumpTo(scanner, (distance) => insn.wideFunction(dst, distance));
  scanner.expect(']');
  return parsed;
}

function parseWideNumber(scanner: Scanner, dst: number, match: RegExpExecArray): Instruction {
  const magnitude = BigInt(match[2] ?? '0');
  const value = match[1] === '-' ? -magnitude : magnitude;
  if (value < -(2n ** 63n) || value >= 2n ** 64n) return scanner.fail(`${value} does not fit 64 bits`, match.index + 1);
  return insn.wide(dst, value);
}

function parseMap(scanner: Scanner, dst: number): ParsedInstruction {
  const name = scanner.take(/[^\]]+/y)?.[0] ?? scanner.fail('expected a map');
  scanner.expect(']');
  const byte = scanner.take(/\[0\]\s*\+\s*(\d+)/y)?.[1];
  const index = /^idx:(-?\d+)$/.exec(name)?.[1];
  const fd = /^fd:(-?\d+)$/.exec(name)?.[1];
  const first = Number(index ?? fd ?? 0);
  const kinds = index === undefined ? [WidePseudo.mapFd, WidePseudo.mapValue] : [WidePseudo.mapIndex, WidePseudo.mapIndexValue];
  if (byte === undefined) {
    const instruction = wideOf(dst, kinds[0] ?? 0, first, 0);
    return (index ?? fd) ? { instruction } : { instruction, map: { map: name } };
  }
  const valueOffset = Number(byte);
  if (valueOffset > 0xffff_ffff) return scanner.fail(`${byte} does not fit 32 bits`);
  const instruction = wideOf(dst, kinds[1] ?? 0, first, valueOffset | 0);
  return (index ?? fd) ? { instruction } : { instruction, map: { map: name, valueOffset } };
}

function wideOf(dst: number, src: number, imm: number, immHigh: number): Instruction {
  return { opcode: WIDE_OPCODE, dst, src, offset: 0, imm, immHigh };
}

interface Memory {
  readonly bytes: AccessBytes;
  readonly base: number;
  readonly offset: number;
  readonly signed: boolean;
}

/** `(u32 *)(r2 +8)` */
function memory(scanner: Scanner, letter = /u/y): Memory {
  scanner.expect('(');
  const sign = scanner.take(letter)?.[0] ?? scanner.fail('expected a size like u32');
  const bits = scanner.take(/8|16|32|64/y)?.[0] ?? scanner.fail('expected 8, 16, 32 or 64 bits');
  scanner.expect('*', ')', '(');
  const base = register(scanner);
  const column = scanner.column;
  const match = scanner.take(/([+-])\s*(\d+)/y) ?? scanner.fail('expected an offset like +8');
  const offset = Number(`${match[1]}${match[2]}`);
  if (offset < -0x8000 || offset > 0x7fff) return scanner.fail(`${offset} does not fit a signed 16-bit offset`, column);
  scanner.expect(')');
  return { bytes: (Number(bits) / 8) as AccessBytes, base, offset: offset === 0 ? 0 : offset, signed: sign === 's' };
}

function registerWidth(scanner: Scanner): Width {
  const letter = scanner.peek();
  return letter === 'r' || letter === 'w' ? letter : scanner.fail('expected a register');
}

function register(scanner: Scanner, width: Width = 'r'): number {
  const match = scanner.take(width === 'r' ? /r(10|[0-9])\b/y : /w(10|[0-9])\b/y);
  return match ? Number(match[1]) : scanner.fail(`expected a register ${width}0 to ${width}10`);
}

function same(scanner: Scanner, width: Width, dst: number): void {
  const column = scanner.column;
  if (register(scanner, width) !== dst) scanner.fail(`expected ${width}${dst}, this works in place`, column);
}

function operandOf(scanner: Scanner, width: Width, wraps: boolean): Operand {
  return /^[rw]$/.test(scanner.peek()) ? reg(register(scanner, width)) : integer(scanner, wraps);
}

/** A signed 32-bit integer; where `wraps`, hexadecimal up to 0xffffffff means those 32 bits. */
function integer(scanner: Scanner, wraps: boolean): number {
  const column = scanner.column;
  const match = scanner.take(/([+-]?)\s*(0x[0-9a-f]+|\d+)\b/iy) ?? scanner.fail('expected a register or a number');
  const [, sign, digits = ''] = match;
  const value = Number(digits) * (sign === '-' ? -1 : 1);
  if (wraps && sign === '' && /^0x/i.test(digits) && value <= 0xffff_ffff) return value | 0;
  if (value < -0x8000_0000 || value > 0x7fff_ffff) return scanner.fail(`${digits} does not fit a signed 32-bit immediate`, column);
  return value === 0 ? 0 : value;
}

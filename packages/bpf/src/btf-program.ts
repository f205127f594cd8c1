/**
 * BTF of a program: what BPF_PROG_LOAD wants beside the instructions, so that tail calls work in subprograms and the
 * verifier's log and `bpftool prog dump xlated linum` show source lines. Records are struct bpf_func_info and struct
 * bpf_line_info (include/uapi/linux/bpf.h).
 */
import { BtfBuilder, type BtfTypeId, btfIdentifier } from './btf.ts';
import { EncodingError } from './errors.ts';
import type { FunctionInfo, LineInfo, ProgramSpec, ProgramType } from './program.ts';

/** Bytes of one func_info record: insn_off, type_id. */
export const FUNC_INFO_BYTES = 8;

/** Bytes of one line_info record: insn_off, file_name_off, line_off, line_col. */
export const LINE_INFO_BYTES = 16;

/** What goes into BPF_BTF_LOAD and BPF_PROG_LOAD. */
export interface ProgramBtf {
  /** A BTF blob of its own. */
  readonly btf: Uint8Array;
  /** Records of FUNC_INFO_BYTES each, at least one. */
  readonly funcInfo: Uint8Array;
  /** Records of LINE_INFO_BYTES each; empty for a program without lines. */
  readonly lineInfo: Uint8Array;
}

/** The struct that r1 points at when a program starts. */
const CONTEXT: Readonly<Record<ProgramType, string>> = {
  socketFilter: '__sk_buff',
  schedCls: '__sk_buff',
  xdp: 'xdp_md',
  sockOps: 'bpf_sock_ops',
  skSkb: '__sk_buff',
  skMsg: 'sk_msg_md',
};

const MAX_LINE = 0x3f_ffff; // 22 bits
const MAX_COLUMN = 0x3ff; // 10 bits

/**
 * Describes a program's functions and lines. The entry point is a global `int name(struct xdp_md *ctx)`, subprograms are
 * static `int name(void)`; a spec that lists no functions is one function with the program's name. Characters that C
 * does not know become `_`. Columns past 1023 are capped, the format has no room for more.
 * Throws EncodingError where functions or lines do not rise strictly from 0, or a function lacks a line.
 */
export function programBtf(spec: ProgramSpec): ProgramBtf {
  const functions = programFunctions(spec);
  const builder = new BtfBuilder();
  const { entry, subprogram } = functionTypes(builder, spec.type);
  const names = new Set<string>();
  const funcInfo = functions.flatMap(({ pc, name }, index) => {
    const unique = uniqueName(btfIdentifier(name), names);
    return [pc, index === 0 ? builder.func(unique, entry, 'global') : builder.func(unique, subprogram, 'static')];
  });
  const lineInfo = spec.lines.flatMap((line) => [line.pc, builder.string(line.file), builder.string(line.text), lineColumn(line)]);
  return { btf: builder.toBytes(), funcInfo: words(funcInfo), lineInfo: words(lineInfo) };
}

/** A program's functions, at least one. Throws EncodingError where they or the lines have no right order. */
export function programFunctions(spec: ProgramSpec): readonly FunctionInfo[] {
  const functions = spec.functions.length > 0 ? spec.functions : [{ pc: 0, name: spec.name }];
  checkRising('function', functions);
  if (spec.lines.length > 0) checkLines(functions, spec.lines);
  return functions;
}

/** The types of an entry point and of subprograms. */
export function functionTypes(builder: BtfBuilder, type: ProgramType): { readonly entry: BtfTypeId; readonly subprogram: BtfTypeId } {
  const int = builder.int('int', 4, 'signed');
  const context = builder.ptr(builder.forwardStruct(CONTEXT[type]));
  return { entry: builder.funcProto(int, [{ name: 'ctx', type: context }]), subprogram: builder.funcProto(int, []) };
}

/** Numbers functions of one name, so that each has a symbol of its own. */
function uniqueName(name: string, taken: Set<string>): string {
  let unique = name;
  for (let count = 2; taken.has(unique); count++) unique = `${name.slice(0, 120)}_${count}`;
  taken.add(unique);
  return unique;
}

/** The last word of a line record. Throws EncodingError. */
export function lineColumn({ pc, line, column }: LineInfo): number {
  if (!Number.isInteger(line) || line < 1 || line > MAX_LINE)
    throw new EncodingError('line', `pc ${pc}: line is ${line}, expected 1 to ${MAX_LINE}`, { pc });
  if (!Number.isInteger(column) || column < 1)
    throw new EncodingError('column', `pc ${pc}: column is ${column}, expected 1 or more`, { pc });
  return line * 2 ** 10 + Math.min(column, MAX_COLUMN);
}

function checkRising(field: string, records: readonly { readonly pc: number }[]): void {
  let previous: number | undefined;
  for (const { pc } of records) {
    const wrong = previous === undefined ? pc !== 0 : !Number.isInteger(pc) || pc <= previous;
    const expected = previous === undefined ? 'the first at 0' : `more than ${previous}`;
    if (wrong) throw new EncodingError(field, `${field} record at pc ${pc}, expected ${expected}`, { pc });
    previous = pc;
  }
}

function checkLines(functions: readonly FunctionInfo[], lines: readonly LineInfo[]): void {
  checkRising('line', lines);
  const pcs = new Set(lines.map(({ pc }) => pc));
  for (const { pc, name } of functions)
    if (!pcs.has(pc)) throw new EncodingError('line', `function ${name} starts at pc ${pc} without a line record, expected one`, { pc });
}

function words(values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) view.setUint32(index * 4, value, true);
  return bytes;
}

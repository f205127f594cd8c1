/**
 * WebAssembly modules, written as bytes: sections, functions, instructions (WebAssembly Core Specification 2.0, chapter 5,
 * with tail calls and threads). A module can begin with another one, whose functions keep their numbers.
 */
import { TailraceError } from '@tailrace/bpf';
import { type BaseModule, ExportKind, Section } from './base-module.ts';
import { type CallSite, type FunctionCode, reachedFrom } from './function-code.ts';

/** Value types. */
export const Type = { i32: 0x7f, i64: 0x7e, void: 0x40 } as const;
export type ValueType = 0x7f | 0x7e;
type BlockType = ValueType | 0x40;

/** Instructions without immediates, by their names in the specification. */
export const Op = {
  unreachable: 0x00,
  return: 0x0f,
  drop: 0x1a,
  select: 0x1b,
  i32Eqz: 0x45,
  i32Eq: 0x46,
  i32Ne: 0x47,
  i32LtS: 0x48,
  i32LtU: 0x49,
  i32GtS: 0x4a,
  i32GtU: 0x4b,
  i32LeS: 0x4c,
  i32LeU: 0x4d,
  i32GeS: 0x4e,
  i32GeU: 0x4f,
  i64Eqz: 0x50,
  i64Eq: 0x51,
  i64Ne: 0x52,
  i64LtS: 0x53,
  i64LtU: 0x54,
  i64GtS: 0x55,
  i64GtU: 0x56,
  i64LeS: 0x57,
  i64LeU: 0x58,
  i64GeS: 0x59,
  i64GeU: 0x5a,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i32Mul: 0x6c,
  i32DivS: 0x6d,
  i32DivU: 0x6e,
  i32RemS: 0x6f,
  i32RemU: 0x70,
  i32And: 0x71,
  i32Or: 0x72,
  i32Xor: 0x73,
  i32Shl: 0x74,
  i32ShrS: 0x75,
  i32ShrU: 0x76,
  i64Add: 0x7c,
  i64Sub: 0x7d,
  i64Mul: 0x7e,
  i64DivS: 0x7f,
  i64DivU: 0x80,
  i64RemS: 0x81,
  i64RemU: 0x82,
  i64And: 0x83,
  i64Or: 0x84,
  i64Xor: 0x85,
  i64Shl: 0x86,
  i64ShrS: 0x87,
  i64ShrU: 0x88,
  i64Rotl: 0x89,
  wrap: 0xa7, // i32.wrap_i64
  extendS: 0xac, // i64.extend_i32_s
  extendU: 0xad, // i64.extend_i32_u
  i32Extend8S: 0xc0,
  i32Extend16S: 0xc1,
  i64Extend8S: 0xc2,
  i64Extend16S: 0xc3,
  i64Extend32S: 0xc4,
} as const;

/** Loads and stores: an alignment and an offset follow. */
export const MemoryOp = {
  i32Load: 0x28,
  i64Load: 0x29,
  i64Load8S: 0x30,
  i64Load8U: 0x31,
  i64Load16S: 0x32,
  i64Load16U: 0x33,
  i64Load32S: 0x34,
  i64Load32U: 0x35,
  i32Store: 0x36,
  i64Store: 0x37,
  i64Store8: 0x3c,
  i64Store16: 0x3d,
  i64Store32: 0x3e,
} as const;

/** Atomic accesses (threads), behind the prefix 0xfe: the alignment is always the natural one. */
export const AtomicOp = {
  i64Load: 0x11,
  i64Load8U: 0x14,
  i64Load16U: 0x15,
  i64Load32U: 0x16,
  i64Store: 0x18,
  i64Store8: 0x1b,
  i64Store16: 0x1c,
  i64Store32: 0x1d,
  i64RmwAdd: 0x1f,
  i64Rmw32AddU: 0x22,
  i64RmwAnd: 0x2d,
  i64Rmw32AndU: 0x30,
  i64RmwOr: 0x34,
  i64Rmw32OrU: 0x37,
  i64RmwXor: 0x3b,
  i64Rmw32XorU: 0x3e,
  i64RmwXchg: 0x42,
  i64Rmw32XchgU: 0x45,
  i64RmwCmpxchg: 0x49,
  i64Rmw32CmpxchgU: 0x4e,
} as const;

/** Bytes that grow, with WebAssembly's numbers. */
export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  byte(value: number): this {
    this.#room(1);
    this.#bytes[this.#length++] = value;
    return this;
  }

  bytes(values: Uint8Array | readonly number[]): this {
    this.#room(values.length);
    this.#bytes.set(values, this.#length);
    this.#length += values.length;
    return this;
  }

  /** LEB128, unsigned 32 bits. */
  u32(value: number): this {
    let rest = value >>> 0;
    for (; rest > 0x7f; rest >>>= 7) this.byte((rest & 0x7f) | 0x80);
    return this.byte(rest);
  }

  /** LEB128, signed 32 bits. */
  s32(value: number): this {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }

  /** LEB128, signed 64 bits; takes the low 64 bits of what is given. */
  s64(value: bigint): this {
    let rest = BigInt.asIntN(64, value);
    if (rest >= -0x8000_0000n && rest <= 0x7fff_ffffn) return this.s32(Number(rest));
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }

  name(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.u32(bytes.length).bytes(bytes);
  }

  /** What was written; a copy. */
  take(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  #room(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + more));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }
}

/** The body of one function. */
export class FunctionWriter {
  readonly parameters: readonly ValueType[];
  readonly results: readonly ValueType[];
  readonly #code = new ByteWriter(1024);
  readonly #locals: ValueType[] = [];
  /** Places in the code where numbers of functions come. */
  readonly #calls: CallSite[] = [];
  #depth = 0;

  constructor(parameters: readonly ValueType[], results: readonly ValueType[]) {
    this.parameters = parameters;
    this.results = results;
  }

  /** Labels that are open here: a branch to the outermost one has this depth less one. */
  get depth(): number {
    return this.#depth;
  }

  /** A new local's number. */
  local(type: ValueType): number {
    return this.parameters.length + this.#locals.push(type) - 1;
  }

  op(...codes: readonly number[]): this {
    this.#code.bytes(codes);
    return this;
  }

  get(local: number): this {
    this.#code.byte(0x20).u32(local);
    return this;
  }

  set(local: number): this {
    this.#code.byte(0x21).u32(local);
    return this;
  }

  tee(local: number): this {
    this.#code.byte(0x22).u32(local);
    return this;
  }

  getGlobal(global: number): this {
    this.#code.byte(0x23).u32(global);
    return this;
  }

  setGlobal(global: number): this {
    this.#code.byte(0x24).u32(global);
    return this;
  }

  i32(value: number): this {
    this.#code.byte(0x41).s32(value);
    return this;
  }

  i64(value: bigint): this {
    this.#code.byte(0x42).s64(value);
    return this;
  }

  /** A load or store, at any alignment. */
  memory(op: number, offset = 0): this {
    this.#code.byte(op).u32(0).u32(offset);
    return this;
  }

  /** An atomic access of so many bytes, aligned to them. */
  atomic(op: number, bytes: 1 | 2 | 4 | 8, offset = 0): this {
    this.#code.byte(0xfe).u32(op).u32(Math.log2(bytes)).u32(offset);
    return this;
  }

  call(fn: number): this {
    return this.#callee(0x10, fn);
  }

  returnCall(fn: number): this {
    return this.#callee(0x12, fn);
  }

  block(type: BlockType = Type.void): this {
    this.#depth++;
    return this.op(0x02, type);
  }

  loop(): this {
    this.#depth++;
    return this.op(0x03, Type.void);
  }

  if(type: BlockType = Type.void): this {
    this.#depth++;
    return this.op(0x04, type);
  }

  else(): this {
    return this.op(0x05);
  }

  end(): this {
    this.#depth--;
    return this.op(0x0b);
  }

  br(depth: number): this {
    this.#code.byte(0x0c).u32(depth);
    return this;
  }

  brIf(depth: number): this {
    this.#code.byte(0x0d).u32(depth);
    return this;
  }

  /** Branches to the label that the index chooses; to the last one beyond them. */
  brTable(depths: readonly number[]): this {
    this.#code.byte(0x0e).u32(depths.length - 1);
    for (const depth of depths) this.#code.u32(depth);
    return this;
  }

  /** The function's code; which numbers its callees have is not in it yet. */
  code(): FunctionCode {
    const writer = new ByteWriter(this.#code.length + 2 * this.#locals.length + 8);
    writer.u32(this.#locals.length);
    for (const type of this.#locals) writer.byte(1).byte(type);
    const start = writer.length;
    const bytes = writer.bytes(this.#code.take()).byte(0x0b).take();
    return { bytes, calls: this.#calls.map((call) => ({ ...call, at: start + call.at })) };
  }

  #callee(op: number, fn: number): this {
    this.#code.byte(op);
    this.#calls.push({ at: this.#code.length, bytes: 0, callee: fn });
    return this;
  }
}

/** A module that begins with a base module, with more functions and globals behind. What no export calls is left out. */
export class ModuleWriter {
  readonly #base: BaseModule;
  readonly #types: string[];
  readonly #typeBytes: Uint8Array[];
  readonly #functions: (FunctionWriter | undefined)[] = [];
  readonly #globals: Uint8Array[];
  readonly #exports: { readonly name: string; readonly index: number }[] = [];

  constructor(base: BaseModule) {
    this.#base = base;
    this.#typeBytes = [...base.sections.types];
    this.#types = this.#typeBytes.map((bytes) => bytes.join());
    this.#globals = [...base.sections.globals];
  }

  /** The number of an exported function of the base module. Throws TailraceError where there is none. */
  functionNamed(name: string): number {
    return this.#base.functionNamed(name);
  }

  /** The number of a function type. */
  type(parameters: readonly ValueType[], results: readonly ValueType[]): number {
    const bytes = new ByteWriter(16).byte(0x60).u32(parameters.length).bytes(parameters).u32(results.length).bytes(results).take();
    const known = this.#types.indexOf(bytes.join());
    if (known >= 0) return known;
    this.#types.push(bytes.join());
    return this.#typeBytes.push(bytes) - 1;
  }

  /** A number for a function that is written later. */
  reserve(): number {
    return this.#base.sections.functions.length + this.#functions.push(undefined) - 1;
  }

  define(index: number, writer: FunctionWriter): void {
    this.#functions[index - this.#base.sections.functions.length] = writer;
  }

  add(writer: FunctionWriter): number {
    const index = this.reserve();
    this.define(index, writer);
    return index;
  }

  /** A mutable global's number. */
  global(type: ValueType, value: bigint): number {
    const init = new ByteWriter(16).byte(type).byte(1);
    if (type === Type.i64) init.byte(0x42).s64(value);
    else init.byte(0x41).s32(Number(value));
    return this.#globals.push(init.byte(0x0b).take()) - 1;
  }

  export(name: string, index: number): void {
    this.#exports.push({ name, index });
  }

  /** The module. Throws TailraceError where a reserved function was never written. */
  bytes(): Uint8Array<ArrayBuffer> {
    const { sections } = this.#base;
    const own = this.#functions.map((writer) => {
      if (writer === undefined) throw new TailraceError('compile', 'a function of the module was never written');
      return { type: this.type(writer.parameters, writer.results), code: writer.code() };
    });
    const types = [...sections.functions, ...own.map(({ type }) => type)];
    const code = [...sections.code, ...own.map(({ code }) => code)];
    const kept = reachedFrom(
      this.#exports.map(({ index }) => index),
      code,
    );
    const numbers = new Map(kept.map((index, number) => [index, number]));
    const numberOf = (index: number): number => numbers.get(index) as number;
    const out = new ByteWriter(1 << 16).bytes([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const section = (id: number, count: number, write: (bytes: ByteWriter) => void): void => {
      if (count === 0) return;
      const content = new ByteWriter(1 << 12).u32(count);
      write(content);
      out.byte(id).u32(content.length).bytes(content.take());
    };
    const list = (id: number, items: readonly Uint8Array[]): void =>
      section(id, items.length, (bytes) => {
        for (const item of items) bytes.bytes(item);
      });
    list(Section.type, this.#typeBytes);
    out.byte(Section.import).u32(sections.imports.length).bytes(sections.imports);
    section(Section.function, kept.length, (bytes) => {
      for (const index of kept) bytes.u32(types[index] as number);
    });
    list(Section.global, this.#globals);
    section(Section.export, this.#exports.length, (bytes) => {
      for (const { name, index } of this.#exports) bytes.name(name).byte(ExportKind.function).u32(numberOf(index));
    });
    list(
      Section.code,
      kept.map((index) => bodyOf(code[index] as FunctionCode, numberOf)),
    );
    return out.take();
  }
}

/** A function as the code section has it. */
function bodyOf({ bytes, calls }: FunctionCode, numberOf: (callee: number) => number): Uint8Array {
  const body = new ByteWriter(bytes.length + calls.length + 8);
  let from = 0;
  for (const { at, bytes: written, callee } of calls) {
    body.bytes(bytes.subarray(from, at)).u32(numberOf(callee));
    from = at + written;
  }
  body.bytes(bytes.subarray(from));
  return new ByteWriter(body.length + 5).u32(body.length).bytes(body.take()).take();
}

export * from './assembler.ts';
export { joinBatches } from './batch.ts';
export * from './btf.ts';
export { FUNC_INFO_BYTES, LINE_INFO_BYTES, type ProgramBtf, programBtf } from './btf-program.ts';
export { Btf, type BtfEnumValue, type BtfField, type BtfType, readBtf } from './btf-reader.ts';
export * from './disassembler.ts';
export * from './encoding.ts';
export * from './engine.ts';
export * from './errno.ts';
export * from './errors.ts';
export * from './form.ts';
export * from './helper.ts';
export * from './insn.ts';
export * from './instruction.ts';
export * from './map.ts';
export {
  type ElfObject,
  type ElfOptions,
  type MapDefinition,
  type ObjectMap,
  type ObjectProgram,
  readElf,
} from './object.ts';
export { type MapSource, writeElf } from './object-writer.ts';
export * from './opcode.ts';
export { DEFAULT_PERF_BYTES, PerfCursor, type PerfPlaces, perfRingBytes } from './perf-cursor.ts';
export * from './pins.ts';
export * from './program.ts';
export { type RecordAlarm, type RecordCursor, RecordReader, type RecordReaderParts } from './record-reader.ts';
export * from './ring.ts';
export { RingCursor, type RingPlaces } from './ring-cursor.ts';
export { AssemblyError } from './scanner.ts';

import { describe, expect, it } from 'vitest';
import { BtfBuilder, BtfKind, type BtfTypeId } from './btf.ts';
import type { CoreKind, CoreRelocation } from './btf-ext.ts';
import { type Btf, readBtf } from './btf-reader.ts';
import { CoreRelocator } from './core.ts';
import { ElfError } from './errors.ts';
import { insn } from './insn.ts';
import type { Instruction } from './instruction.ts';
import { POISON_HELPER } from './program.ts';

/** A member by name, type, bits from the start, and for a bit field its bits. */
type Member = readonly [name: string, type: BtfTypeId, bitOffset: number, bits?: number];

function composite(b: BtfBuilder, kind: 'struct' | 'union', name: string, bytes: number, members: readonly Member[]): BtfTypeId {
  const words = members.flatMap(([member, type, offset, bits = 0]) => [b.string(member), type, ((bits << 24) | offset) >>> 0]);
  b.append([Uint32Array.of(b.string(name), ((1 << 31) | (BtfKind[kind] << 24) | members.length) >>> 0, bytes, ...words)]);
  return b.typeCount;
}

interface Blob {
  readonly btf: Btf;
  readonly ids: Readonly<Record<string, BtfTypeId>>;
}

function blob(build: (b: BtfBuilder) => Readonly<Record<string, BtfTypeId>>): Blob {
  const builder = new BtfBuilder();
  const ids = build(builder);
  return { btf: readBtf(builder.toBytes()), ids };
}

/** What a program was compiled with. */
const local = blob((b) => {
  const u32 = b.int('unsigned int', 4);
  const int = b.int('int', 4, 'signed');
  const u64 = b.int('unsigned long long', 8);
  const pair = composite(b, 'struct', 'pair', 8, [
    ['left', u32, 0],
    ['right', u32, 32],
  ]);
  const task = composite(b, 'struct', 'task___mine', 64, [
    ['pid', int, 0],
    ['flags', u32, 32],
    ['pairs', b.array(pair, 4), 64],
    ['small', u32, 320, 3],
    ['count', u32, 352],
    ['next', b.ptr(0), 384],
    ['gone', u64, 448],
  ]);
  return {
    task,
    u32,
    pair,
    state: b.enum('state', { IDLE: 0, BUSY: 1, LOST: 2 }),
    renamed: b.typedef('renamed_t', b.int('unsigned short', 2)),
    nobody: composite(b, 'struct', 'nobody', 4, [['x', u32, 0]]),
  };
});

/** The same on another machine: shuffled, with an anonymous union, other widths and other values. */
const target = blob((b) => {
  const u32 = b.int('unsigned int', 4);
  const int = b.int('int', 4, 'signed');
  const u64 = b.int('unsigned long long', 8);
  const pair = composite(b, 'struct', 'pair', 16, [
    ['padding', u64, 0],
    ['right', u32, 64],
    ['left', u32, 96],
  ]);
  const anonymous = composite(b, 'union', '', 8, [
    ['flags', u32, 0],
    ['all', u64, 0],
  ]);
  const task = composite(b, 'struct', 'task', 128, [
    ['', anonymous, 64],
    ['pid', int, 160],
    ['pairs', b.array(pair, 2), 192],
    ['small', u32, 480, 5],
    ['count', u64, 512],
    ['next', b.ptr(u32), 576],
  ]);
  return { task, pair, state: b.enum('state', { BUSY: 7, IDLE: 9 }), renamed: b.typedef('renamed_t', u64) };
});

function relocate(kind: CoreKind, type: string, access: string, instruction: Instruction, machine = target) {
  const relocation: CoreRelocation = { offset: 8, type: local.ids[type] ?? 0, access, kind };
  return new CoreRelocator(local.btf, machine.btf).relocate(relocation, instruction, 'xdp');
}

/** What an `r1 = value` becomes. */
function answer(kind: CoreKind, type: string, access: string, before: number): number {
  const [instruction] = relocate(kind, type, access, insn.mov(1, before)).instructions;
  return instruction?.imm ?? Number.NaN;
}

describe('CoreRelocator', () => {
  it.each<[CoreKind, string, string, number, number]>([
    ['fieldByteOffset', 'task', '0:0', 0, 20],
    ['fieldByteOffset', 'task', '0:1', 4, 8], // in an anonymous union
    ['fieldByteOffset', 'task', '0:2:1:0', 16, 24 + 16 + 12],
    ['fieldByteOffset', 'task', '2:0', 128, 256 + 20],
    ['fieldByteSize', 'task', '0:4', 4, 8],
    ['fieldByteSize', 'task', '0:2', 32, 32],
    ['fieldExists', 'task', '0:0', 1, 1],
    ['fieldExists', 'task', '0:6', 1, 0],
    ['fieldExists', 'task', '0:2:3', 1, 0], // past the target's array
    ['fieldExists', 'nobody', '0:0', 1, 0],
    ['fieldSigned', 'task', '0:0', 1, 1],
    ['fieldSigned', 'task', '0:4', 0, 0],
    ['fieldByteOffset', 'task', '0:3', 40, 60],
    ['fieldByteSize', 'task', '0:3', 4, 4],
    ['fieldLeftShift', 'task', '0:3', 61, 64 - 5],
    ['fieldRightShift', 'task', '0:3', 61, 59],
    ['typeIdLocal', 'task', '0', 1, local.ids.task ?? 0],
    ['typeIdTarget', 'pair', '0', 1, target.ids.pair ?? 0],
    ['typeIdTarget', 'nobody', '0', 1, 0],
    ['typeExists', 'pair', '0', 1, 1],
    ['typeExists', 'nobody', '0', 1, 0],
    ['typeSize', 'pair', '0', 8, 16],
    ['typeSize', 'renamed', '0', 2, 8],
    ['typeSize', 'nobody', '0', 4, 0],
    ['typeMatches', 'pair', '0', 1, 1],
    ['typeMatches', 'task', '0', 1, 0],
    ['typeMatches', 'renamed', '0', 1, 0],
    ['typeMatches', 'state', '0', 1, 0],
    ['enumValueExists', 'state', '1', 1, 1],
    ['enumValueExists', 'state', '2', 1, 0],
    ['enumValue', 'state', '1', 1, 7],
  ])('%s of %s at %s: %i becomes %i', (kind, type, access, before, after) => {
    expect(answer(kind, type, access, before)).toBe(after);
  });

  it('changes offsets of loads and stores, and their width where no sign is lost', () => {
    expect(relocate('fieldByteOffset', 'task', '0:4', insn.load(4, 2, 1, 44)).instructions).toEqual([insn.load(8, 2, 1, 64)]);
    expect(relocate('fieldByteOffset', 'task', '0:4', insn.store(4, 1, 44, 2)).instructions).toEqual([insn.store(8, 1, 64, 2)]);
    expect(relocate('fieldByteOffset', 'task', '0:5', insn.load(8, 2, 1, 48)).instructions).toEqual([insn.load(8, 2, 1, 72)]);
    expect(relocate('enumValue', 'state', '1', insn.wide(3, 1n)).instructions).toEqual([insn.wide(3, 7n)]);
  });

  it('poisons what the target does not have, slot by slot', () => {
    const poison = insn.call(POISON_HELPER);
    expect(relocate('fieldByteOffset', 'task', '0:6', insn.load(8, 2, 1, 56))).toEqual({
      instructions: [poison],
      poison: 'the target has no field task.gone',
    });
    expect(relocate('fieldByteOffset', 'task', '0:2:3:1', insn.mov(1, 36)).poison).toBe('the target has no field task.pairs[3].right');
    expect(relocate('enumValue', 'state', '2', insn.wide(3, 2n))).toEqual({
      instructions: [poison, poison],
      poison: 'the target has no value LOST of state',
    });
    const signed = blob((b) => ({ task: composite(b, 'struct', 'task', 8, [['count', b.int('long', 8, 'signed'), 0]]) }));
    expect(relocate('fieldByteOffset', 'task', '0:4', insn.load(4, 2, 1, 44), signed).poison).toBe(
      'field task.count has 8 bytes, not 4, and a sign, in the target',
    );
  });

  it('refuses a target that says two things, and takes one that says one thing twice', () => {
    const twice = (second: number) =>
      blob((b) => {
        const u32 = b.int('unsigned int', 4);
        composite(b, 'struct', 'pair', 8, [['left', u32, 32]]);
        return { pair: composite(b, 'struct', 'pair___other', 16, [['left', u32, second]]) };
      });
    expect(relocate('fieldByteOffset', 'pair', '0:0', insn.mov(1, 0), twice(32)).instructions).toEqual([insn.mov(1, 4)]);
    expect(() => relocate('fieldByteOffset', 'pair', '0:0', insn.mov(1, 0), twice(64))).toThrow(
      'object file, xdp at byte 8: the target has several types pair, which disagree about field pair.left',
    );
  });

  it('ends searches in types that lie in each other in circles', () => {
    const members = Array.from({ length: 40 }, (): Member => ['', 1, 0]);
    const circle = blob((b) => ({ pair: composite(b, 'struct', 'pair', 8, members) }));
    expect(() => relocate('fieldByteOffset', 'pair', '0:0', insn.mov(1, 0), circle)).toThrow('types lie more than 32 deep in each other');
  });

  it.each<[string, CoreKind, string, string, Instruction, string]>([
    ['an access in no form', 'fieldExists', 'task', '0:x', insn.mov(1, 1), "access '0:x', expected numbers with colons between them"],
    ['a member that is not there', 'fieldExists', 'task', '0:9', insn.mov(1, 1), "access '0:9': struct task___mine has 7 members"],
    ['an access into a number', 'fieldExists', 'task', '0:0:0', insn.mov(1, 1), "access '0:0:0' goes into a type of kind int"],
    ['a value that no enum has', 'enumValue', 'state', '5', insn.mov(1, 1), "access '5', expected a value of an enum"],
    ['an access of a whole type', 'typeSize', 'pair', '0:1', insn.mov(1, 8), "access '0:1' of a whole type, expected '0'"],
    [
      'an instruction that says something else',
      'fieldByteOffset',
      'task',
      '0:1',
      insn.load(4, 1, 1, 8),
      'the instruction says 8, its own types 4',
    ],
    ['an instruction without a number', 'fieldByteOffset', 'task', '0:1', insn.exit(), 'a relocation of opcode 0x95'],
    ['a wide load of a map', 'fieldByteOffset', 'task', '0:1', insn.wideMap(1), 'a wide load of a map or function'],
    ['a load of another size', 'fieldByteOffset', 'task', '0:4', insn.load(2, 1, 1, 44), "accesses another size than the field's 4 bytes"],
  ])('refuses %s', (_name, kind, type, access, instruction, message) => {
    expect(() => relocate(kind, type, access, instruction)).toThrow(message);
    expect(() => relocate(kind, type, access, instruction)).toThrow(ElfError);
  });
});

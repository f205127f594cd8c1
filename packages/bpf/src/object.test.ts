import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BtfBuilder } from './btf.ts';
import { copyBtf } from './btf-copy.ts';
import { readBtf } from './btf-reader.ts';
import { ElfError, TailraceError } from './errors.ts';
import { insn } from './insn.ts';
import { type Instruction, slotCount } from './instruction.ts';
import { MapFlag, type MapSpec } from './map.ts';
import { type ElfObject, readElf } from './object.ts';
import type { MapDefinition } from './object-map.ts';
import { writeElf } from './object-writer.ts';
import type { LineInfo, MapReference, ProgramSpec } from './program.ts';

const NOTHING = { contents: [], programs: [], maps: [], pinByName: false };

function line(pc: number, number: number): LineInfo {
  return { pc, file: '/stages/edge.ts', text: `  line ${number};`, line: number, column: 3 };
}

function program(name: string, rest: Partial<ProgramSpec> = {}): ProgramSpec {
  const instructions = [insn.mov(0, 2), insn.exit()];
  return {
    name,
    type: 'xdp',
    frags: true,
    license: 'Dual MIT/GPL',
    instructions,
    mapReferences: [],
    functions: [{ pc: 0, name }],
    lines: [line(0, 1), line(1, 2)],
    ...rest,
  };
}

/** BTF as the reader makes it: key and value with what they need. */
function described(build: (builder: BtfBuilder) => readonly [key: number, value: number]): NonNullable<MapSpec['btf']> {
  const builder = new BtfBuilder();
  const [keyTypeId, valueTypeId] = build(builder);
  return { blob: builder.toBytes(), keyTypeId, valueTypeId };
}

const hash: MapSpec = {
  name: 'l4lb/conns',
  type: 'hash',
  keySize: 4,
  valueSize: 8,
  maxEntries: 100,
  flags: MapFlag.noPrealloc,
  btf: described((b) => [b.int('unsigned int', 4), b.int('unsigned long long', 8)]),
};
const inner: MapSpec = { name: 'per vip', type: 'array', keySize: 4, valueSize: 16, maxEntries: 7, flags: 0 };
const rings: MapSpec = { name: 'rings', type: 'arrayOfMaps', keySize: 4, valueSize: 4, maxEntries: 3, flags: 0, inner };
const chain: MapSpec = { name: 'edge.chain', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 5, flags: 0 };
const data: MapSpec = {
  name: '.data',
  type: 'array',
  keySize: 4,
  valueSize: 12,
  maxEntries: 1,
  flags: 0,
  btf: described((b) => {
    // As a copy has them: variables first, then what they refer to, in order.
    const source = new BtfBuilder();
    const first = source.var('first', source.int('unsigned int', 4), 'global');
    const second = source.var('second', source.int('unsigned long long', 8), 'static');
    const [one = 0, two = 0] = copyBtf(b, readBtf(source.toBytes()), [first, second]);
    const variables = [
      { type: one, offset: 0, size: 4 },
      { type: two, offset: 4, size: 8 },
    ];
    return [0, b.datasec('.data', 12, variables)];
  }),
};
const maps: readonly MapDefinition[] = [
  { ...NOTHING, spec: data, contents: [{ key: new Uint8Array(4), value: Uint8Array.from({ length: 12 }, (_, at) => at) }] },
  { ...NOTHING, spec: hash, pinByName: true },
  { ...NOTHING, spec: inner },
  { ...NOTHING, spec: rings, maps: [{ key: Uint8Array.of(1, 0, 0, 0), map: 'per vip' }] },
  { ...NOTHING, spec: chain, programs: [{ slot: 4, program: 'edge.last' }] },
  { ...NOTHING, spec: { name: 'ring', type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: 4096, flags: 0 } },
  { ...NOTHING, spec: { name: 'perf', type: 'perfEventArray', keySize: 4, valueSize: 4, maxEntries: 0, flags: 0 } },
  { ...NOTHING, spec: { name: 'seen', type: 'bloomFilter', keySize: 0, valueSize: 8, maxEntries: 9, flags: 0, extra: 3 } },
];

/** An entry with a callback, and a subprogram that calls another. */
const root = program('edge.root', {
  instructions: [
    insn.wideMap(1), //            0
    insn.wideMapValue(3, 4), //    2
    insn.wideFunction(2, 6), //    4
    insn.callSubprogram(6), //     6
    insn.wideMap(2), //            7
    insn.mov(0, 2), //             9
    insn.exit(), //               10
    insn.mov(0, 0), //            11: edge/callback
    insn.exit(),
    insn.callSubprogram(1), //    13: outer
    insn.exit(),
    insn.mov(0, 1), //            15: innermost
    insn.exit(),
  ],
  mapReferences: [
    { pc: 0, map: 'l4lb/conns' },
    { pc: 2, map: '.data', valueOffset: 4 },
    { pc: 7, map: 'edge.chain' },
  ],
  functions: [
    { pc: 0, name: 'edge.root' },
    { pc: 11, name: 'edge/callback' },
    { pc: 13, name: 'outer' },
    { pc: 15, name: 'innermost' },
  ],
  lines: [0, 2, 6, 11, 13, 15].map((pc) => line(pc, pc + 1)),
});
const programs = [
  root,
  program('edge.last'),
  program('tc one', { type: 'schedCls', frags: false }),
  program('s', { type: 'socketFilter', frags: false, lines: [] }),
];

function contents(object: ElfObject): { readonly programs: readonly ProgramSpec[]; readonly maps: readonly MapDefinition[] } {
  return {
    programs: [...object.programs.values()].map((one) => one.spec()),
    maps: [...object.maps.values()].map((one) => one.definition()),
  };
}

describe('writeElf and readElf', () => {
  const bytes = writeElf(programs, maps);
  const object = readElf(bytes);

  it('give back what was written', () => {
    expect(contents(object)).toEqual({ programs, maps });
    expect(object.license).toBe('Dual MIT/GPL');
    expect([...object.programs.values()].map(({ name, section, hook }) => [name, section, hook])).toEqual([
      ['edge.root', 'xdp.frags', 'xdp'],
      ['edge.last', 'xdp.frags', 'xdp'],
      ['tc one', 'tc', undefined],
      ['s', 'socket', undefined],
    ]);
  });

  it('write the same bytes for the same object', () => {
    const { programs: specs, maps: definitions } = contents(object);
    expect(writeElf(specs, definitions)).toEqual(bytes);
  });

  it('read objects out of buffers that lie anywhere', () => {
    const moved = Buffer.concat([Buffer.from('abc'), bytes]).subarray(3);
    expect(contents(readElf(moved))).toEqual({ programs, maps });
  });

  it('keep the name and type of a map that programs address by value', () => {
    const spec: MapSpec = { name: 'chain/state', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 };
    const user = program('user', {
      instructions: [insn.wideMapValue(1, 3), insn.load(1, 0, 1, 0), insn.exit()],
      mapReferences: [{ pc: 0, map: 'chain/state', valueOffset: 3 }],
      lines: [],
    });
    const again = readElf(writeElf([user], [spec]));
    expect(again.programs.get('user')?.spec()).toEqual(user);
    const map = again.maps.get('chain/state');
    expect(map?.section).toBe('.bss.chain_state');
    expect(map?.definition()).toMatchObject({ spec, contents: [] });
    const constant = readElf(
      writeElf(
        [user],
        [
          {
            ...NOTHING,
            spec: { ...spec, flags: MapFlag.readOnlyProgram },
            contents: [{ key: new Uint8Array(4), value: new Uint8Array(8).fill(5) }],
          },
        ],
      ),
    );
    expect(constant.maps.get('chain/state')?.section).toBe('.rodata.chain_state');
    expect(constant.maps.get('chain/state')?.definition()).toMatchObject({
      spec: { flags: 128 },
      contents: [{ value: new Uint8Array(8).fill(5) }],
    });
  });

  it('give back any programs and maps, whatever they are called', () => {
    const name = fc.string({ minLength: 1, maxLength: 40 }).filter((text) => !text.startsWith('.'));
    const shape = fc.record({
      type: fc.constantFrom('xdp' as const, 'schedCls' as const),
      depth: fc.nat(3),
      uses: fc.array(fc.nat(5), { maxLength: 3 }),
    });
    const map = fc.record({
      entries: fc.integer({ min: 1, max: 0xffff_ffff }),
      key: fc.integer({ min: 1, max: 512 }),
      pinByName: fc.boolean(),
    });
    const names = (minLength: number) => fc.uniqueArray(name, { minLength, maxLength: 6 });
    fc.assert(
      fc.property(
        names(1),
        fc.array(shape, { minLength: 6, maxLength: 6 }),
        names(0),
        fc.array(map, { minLength: 6, maxLength: 6 }),
        (programNames, shapes, mapNames, kinds) => {
          const definitions = mapNames.map((text, index) => {
            const { entries = 1, key = 4, pinByName = false } = kinds[index] ?? {};
            return {
              ...NOTHING,
              spec: { name: text, type: 'hash' as const, keySize: key, valueSize: 8, maxEntries: entries, flags: 0 },
              pinByName,
            };
          });
          const specs = programNames.map((text, index) => chained(text, shapes[index] ?? { type: 'xdp', depth: 0, uses: [] }, mapNames));
          // Sections come in the order of their first programs.
          const first = specs[0]?.type;
          const expected = [...specs.filter(({ type }) => type === first), ...specs.filter(({ type }) => type !== first)];
          expect(contents(readElf(writeElf(specs, definitions)))).toEqual({ programs: expected, maps: definitions });
        },
      ),
      { numRuns: 100 },
    );
  });

  it.each<[string, () => unknown, string]>([
    [
      'several licenses',
      () => writeElf([program('a'), program('b', { license: 'MIT' })]),
      "license: programs of licenses 'Dual MIT/GPL' and 'MIT', expected one",
    ],
    ['two programs of one name', () => writeElf([program('a'), program('a')]), 'xdp.frags: two programs a, expected one'],
    ['two maps of one name', () => writeElf([], [inner, inner]), '.maps: two maps per vip, expected one'],
    [
      'a map that is missing',
      () => writeElf([root], []),
      'xdp.frags: program edge.root names the map l4lb/conns, which is not among the maps',
    ],
    [
      'a program that is missing from a table',
      () => writeElf([], [{ ...NOTHING, spec: chain, programs: [{ slot: 0, program: 'gone' }] }]),
      '.maps: element 0 of map edge.chain is gone, which is not among what is written',
    ],
    [
      'a slot past the end',
      () => writeElf([program('a')], [{ ...NOTHING, spec: chain, programs: [{ slot: 5, program: 'a' }] }]),
      '.maps: element 5 of map edge.chain, which has 5',
    ],
    [
      'contents of a hash',
      () => writeElf([], [{ ...NOTHING, spec: hash, contents: [{ key: new Uint8Array(4), value: new Uint8Array(8) }] }]),
      '.data: map l4lb/conns is addressed by value or has contents, expected an array of one element without other flags',
    ],
    [
      'a map that is addressed by value and by key',
      () =>
        writeElf(
          [
            program('a', {
              instructions: [insn.wideMap(1), insn.wideMapValue(1, 0), insn.exit()],
              mapReferences: [
                { pc: 0, map: 'm' },
                { pc: 2, map: 'm', valueOffset: 0 },
              ],
              lines: [],
            }),
          ],
          [{ ...inner, name: 'm', maxEntries: 1 }],
        ),
      'xdp.frags: program a names the map m by key, which is addressed by value too: an object can say one',
    ],
    [
      'a call to nowhere',
      () => writeElf([program('a', { instructions: [insn.callSubprogram(0), insn.exit()] })]),
      'xdp.frags: program a at pc 0 calls pc 1, where no subprogram starts',
    ],
    [
      'a reference without a load',
      () => writeElf([program('a', { mapReferences: [{ pc: 0, map: 'per vip' }] })], [inner]),
      'xdp.frags: program a has no wide load at pc 0 for map per vip',
    ],
    ['a map that no kernel makes', () => writeElf([], [{ ...inner, keySize: 8 }]), 'map per vip (array): keySize is 8, expected 4'],
    [
      'functions out of order',
      () => writeElf([program('a', { functions: [{ pc: 1, name: 'a' }] })]),
      'function record at pc 1, expected the first at 0',
    ],
  ])('refuse to write %s', (_name, write, message) => {
    expect(write).toThrow(message);
  });

  /** Bytes of a header, by their places. */
  it.each<[string, Readonly<Record<number, number>>, string]>([
    ['other files', { 0: 0 }, 'object file, header: no ELF file'],
    ['objects of 32 bits', { 4: 1 }, 'object file, header at byte 4: an ELF file of 32 bits, expected 64'],
    [
      'big-endian objects',
      { 5: 2 },
      'object file, header at byte 5: a big-endian object, expected a little-endian one (clang -target bpfel)',
    ],
    ['other machines', { 18: 62 }, 'object file, header at byte 18: an object for machine 62, expected 247 (eBPF)'],
    ['programs of an operating system', { 16: 2 }, 'object file, header at byte 16: an ELF file of type 2, expected 1 (relocatable)'],
    ['headers elsewhere', { 42: 0xff }, 'object file, header at byte 40: section headers at'],
    [
      'sections without names',
      { 62: 0xff, 63: 0xff },
      'object file, header at byte 62: names of sections are in section 65535, expected one of',
    ],
  ])('refuse to read %s', (_name, changes, message) => {
    const changed = bytes.slice();
    for (const [at, byte] of Object.entries(changes)) changed[Number(at)] = byte;
    expect(() => readElf(changed)).toThrow(message);
    expect(() => readElf(changed)).toThrow(ElfError);
  });

  it('read, or refuse with a type, whatever they get', () => {
    const small = writeElf([root, program('edge.last')], maps);
    const change = fc.oneof(
      fc.record({ at: fc.nat(small.length - 1), byte: fc.nat(255) }),
      // What decides about everything else: the header, and the headers of sections at the end.
      fc.record({ at: fc.oneof(fc.nat(63), fc.integer({ min: small.length - 1024, max: small.length - 1 })), byte: fc.nat(255) }),
    );
    fc.assert(
      fc.property(fc.array(change, { maxLength: 6 }), fc.nat(small.length), (changes, length) => {
        const damaged = small.slice();
        for (const { at, byte } of changes) damaged[at] = byte;
        for (const candidate of [damaged, damaged.subarray(0, length)]) attempt(candidate);
      }),
      { numRuns: 3_000 },
    );
  });
});

/** A program that uses maps, and whose subprograms call each other in a row. */
function chained(
  name: string,
  { type, depth, uses }: { readonly type: 'xdp' | 'schedCls'; readonly depth: number; readonly uses: readonly number[] },
  maps: readonly string[],
): ProgramSpec {
  const instructions: Instruction[] = [];
  const mapReferences: MapReference[] = [];
  for (const use of uses) {
    const map = maps[use];
    if (map === undefined) continue;
    mapReferences.push({ pc: slotCount(instructions), map });
    instructions.push(insn.wideMap(1));
  }
  const functions = [{ pc: 0, name }];
  for (let level = 0; level < depth; level++) {
    instructions.push(insn.callSubprogram(1), insn.exit());
    functions.push({ pc: slotCount(instructions), name: `${name}/${level}` });
  }
  instructions.push(insn.mov(0, depth), insn.exit());
  const lines = functions.map(({ pc }, index) => line(pc, index + 1));
  return program(name, { type, frags: type === 'xdp', instructions, mapReferences, functions, lines });
}

/** Asks an object for all it has. */
function attempt(bytes: Uint8Array): void {
  const typed = <T>(work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof TailraceError)) throw error;
      return undefined;
    }
  };
  const object = typed(() => readElf(bytes, { targetBtf: 'own' }));
  for (const one of object?.programs.values() ?? []) typed(() => one.spec());
  for (const one of object?.maps.values() ?? []) typed(() => one.definition());
}

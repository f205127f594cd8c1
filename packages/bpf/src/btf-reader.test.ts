import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BtfBuilder, BtfKind } from './btf.ts';
import { copyBtf } from './btf-copy.ts';
import { type Btf, essentialName, readBtf } from './btf-reader.ts';
import { ElfError } from './errors.ts';

/** Every kind once; records that the builder has no method for are written out. */
function sample(): { readonly bytes: Uint8Array; readonly builder: BtfBuilder } {
  const builder = new BtfBuilder();
  const int = builder.int('int', 4, 'signed'); // 1
  const u8 = builder.int('unsigned char', 1); // 2
  const node = builder.forwardStruct('node'); // 3
  const link = builder.ptr(node); // 4
  builder.array(u8, 12); // 5, its index is 6
  builder.struct('pair', 16, [
    { name: 'left', type: int, offset: 0 },
    { name: 'next', type: link, offset: 8 },
  ]); // 7
  builder.enum('answer', { YES: 1, NO: -1 }); // 8
  const proto = builder.funcProto(int, [{ name: 'x', type: u8 }]); // 9
  const func = builder.func('f', proto, 'static'); // 10
  const variable = builder.var('v', int, 'global'); // 11
  builder.datasec('.data', 4, [{ type: variable, offset: 0, size: 4 }]); // 12
  builder.declTag('a note', func); // 13
  const kind = (number: number, parts = 0, flag = 0) => ((flag << 31) | (number << 24) | parts) >>> 0;
  const name = (text: string) => builder.string(text);
  builder.append([
    Uint32Array.of(0, kind(BtfKind.volatile), 1), // 14
    Uint32Array.of(0, kind(BtfKind.const), 14), // 15
    Uint32Array.of(name('number'), kind(BtfKind.typedef), 15), // 16
    Uint32Array.of(name('double'), kind(BtfKind.float), 8), // 17
    Uint32Array.of(name('user'), kind(BtfKind.typeTag), 16), // 18
    Uint32Array.of(name('big'), kind(BtfKind.enum64, 1, 1), 8, name('HUGE'), 5, 0x8000_0000), // 19
    Uint32Array.of(name('bits'), kind(BtfKind.union, 1, 1), 4, name('low'), 1, (3 << 24) | 5), // 20
    Uint32Array.of(0, kind(BtfKind.restrict), 4), // 21
    Uint32Array.of(name('either'), kind(BtfKind.fwd, 0, 1), 0), // 22
  ]);
  return { bytes: builder.toBytes(), builder };
}

describe('readBtf', () => {
  const btf = readBtf(sample().bytes);

  it.each<[number, object]>([
    [0, { kind: 'void', name: '' }],
    [1, { kind: 'int', name: 'int', bytes: 4, signed: true, bitOffset: 0, bits: 32 }],
    [3, { kind: 'fwd', name: 'node', of: 'struct' }],
    [4, { kind: 'ptr', name: '', type: 3 }],
    [6, { kind: 'array', name: '', element: 2, index: 5, length: 12 }],
    [
      7,
      {
        kind: 'struct',
        name: 'pair',
        bytes: 16,
        members: [
          { name: 'left', type: 1, bitOffset: 0, bits: 0 },
          { name: 'next', type: 4, bitOffset: 64, bits: 0 },
        ],
      },
    ],
    [
      8,
      {
        kind: 'enum',
        name: 'answer',
        bytes: 4,
        signed: true,
        values: [
          { name: 'YES', value: 1n },
          { name: 'NO', value: -1n },
        ],
      },
    ],
    [9, { kind: 'funcProto', name: '', returns: 1, parameters: [{ name: 'x', type: 2 }] }],
    [10, { kind: 'func', name: 'f', type: 9, linkage: 0 }],
    [11, { kind: 'var', name: 'v', type: 1, linkage: 1 }],
    [12, { kind: 'datasec', name: '.data', bytes: 4, variables: [{ type: 11, offset: 0, size: 4 }] }],
    [13, { kind: 'declTag', name: 'a note', type: 10, component: -1 }],
    [17, { kind: 'float', name: 'double', bytes: 8 }],
    [18, { kind: 'typeTag', name: 'user', type: 16 }],
    [19, { kind: 'enum64', name: 'big', bytes: 8, signed: true, values: [{ name: 'HUGE', value: -(2n ** 63n) + 5n }] }],
    [20, { kind: 'union', name: 'bits', bytes: 4, members: [{ name: 'low', type: 1, bitOffset: 5, bits: 3 }] }],
    [21, { kind: 'restrict', name: '', type: 4 }],
    [22, { kind: 'fwd', name: 'either', of: 'union' }],
  ])('reads type %i', (id, type) => {
    expect(btf.type(id)).toEqual(type);
  });

  it('follows typedefs and qualifiers, and sizes what they lead to', () => {
    expect(btf.resolve(18)).toBe(1);
    expect([18, 4, 6, 7, 19].map((id) => btf.size(id))).toEqual([4, 8, 12, 16, 8]);
    expect(() => btf.size(10)).toThrow('.BTF types at byte');
    expect(() => btf.type(23)).toThrow('object file, .BTF types: type 23, expected 0 to 22');
  });

  it('finds types by what their names are without a flavour', () => {
    expect(btf.named('pair___old')).toEqual([7]);
    expect(btf.named('nobody')).toEqual([]);
    expect(['a___b', 'a___b___c', '___a', 'a___', 'a____b', '__a'].map(essentialName)).toEqual([
      'a',
      'a___b',
      '___a',
      'a___',
      'a____b',
      '__a',
    ]);
  });

  it('says where circles are', () => {
    const builder = new BtfBuilder();
    const name = builder.string('circle');
    builder.append([Uint32Array.of(name, BtfKind.typedef << 24, 2), Uint32Array.of(0, BtfKind.const << 24, 1)]);
    builder.append([Uint32Array.of(0, BtfKind.array << 24, 0, 3, 3, 2)]);
    const circles = readBtf(builder.toBytes());
    expect(() => circles.resolve(1)).toThrow('type 1 is a circle of typedefs');
    expect(() => circles.size(3)).toThrow('type 3 is a circle of arrays');
  });

  it('reads or refuses whatever it gets', () => {
    const { bytes } = sample();
    const change = fc.record({ at: fc.nat(bytes.length - 1), byte: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 6 }), fc.nat(bytes.length), (changes, length) => {
        const damaged = bytes.slice();
        for (const { at, byte } of changes) damaged[at] = byte;
        for (const candidate of [damaged, damaged.subarray(0, length)]) walk(candidate);
      }),
      { numRuns: 3_000 },
    );
  });
});

describe('copyBtf', () => {
  it('copies what roots refer to, and nothing else, circles too', () => {
    const builder = new BtfBuilder();
    builder.int('unused', 8);
    const struct = (name: string, members: readonly number[]) =>
      Uint32Array.of(builder.string(name), (BtfKind.struct << 24) | 1, 8, ...members);
    builder.append([struct('list<int>', [builder.string('next'), 3, 0]), Uint32Array.of(0, BtfKind.ptr << 24, 2)]);
    const copy = new BtfBuilder();
    copy.int('char', 1, 'char');
    expect(copyBtf(copy, readBtf(builder.toBytes()), [3, 0, 2])).toEqual([2, 0, 3]);
    const read = readBtf(copy.toBytes());
    expect(read.length).toBe(4);
    expect(read.type(2)).toEqual({ kind: 'ptr', name: '', type: 3 });
    expect(read.type(3)).toEqual({
      kind: 'struct',
      name: 'list_int_',
      bytes: 8,
      members: [{ name: 'next', type: 2, bitOffset: 0, bits: 0 }],
    });
  });

  it('copies every kind as it is', () => {
    const { bytes } = sample();
    const source = readBtf(bytes);
    const all = Array.from({ length: source.length }, (_, id) => id).filter((id) => source.type(id).kind !== 'datasec');
    const copy = new BtfBuilder();
    const ids = copyBtf(copy, source, all);
    const read = readBtf(copy.toBytes());
    for (const [index, id] of ids.entries())
      expect(read.type(id)).toMatchObject({ kind: source.type(all[index] ?? 0).kind, name: source.type(all[index] ?? 0).name });
    expect(read.size(ids[all.indexOf(7)] ?? 0)).toBe(16);
    expect(() => copyBtf(copy, source, [12])).toThrow('a type refers to the data section .data');
  });
});

/** Asks for everything. */
function walk(bytes: Uint8Array): void {
  const typed = (work: () => unknown) => {
    try {
      work();
    } catch (error) {
      if (!(error instanceof ElfError)) throw error;
    }
  };
  let btf: Btf | undefined;
  typed(() => {
    btf = readBtf(bytes);
  });
  for (let id = 0; id < (btf?.length ?? 0); id++) {
    typed(() => btf?.type(id));
    typed(() => btf?.size(id));
    typed(() => copyBtf(new BtfBuilder(), btf as Btf, [id]));
  }
}

import { describe, expect, it } from 'vitest';
import { BtfBuilder, btfIdentifier } from './btf.ts';

describe('BtfBuilder', () => {
  it('writes header, types and strings', () => {
    const btf = new BtfBuilder();
    const u32 = btf.int('unsigned int', 4);
    const bool = btf.int('bool', 1, 'bool');
    btf.struct('key', 8, [
      { name: 'addr', type: u32, offset: 0 },
      { name: 'up', type: bool, offset: 4 },
    ]);
    const bytes = btf.toBytes();
    const view = new DataView(bytes.buffer);
    expect([view.getUint16(0, true), view.getUint8(2), view.getUint8(3)]).toEqual([0xeb9f, 1, 0]);
    const header = Array.from({ length: 5 }, (_, index) => view.getUint32(4 + index * 4, true));
    const typeBytes = 16 + 16 + 12 + 2 * 12;
    const strings = '\0unsigned int\0bool\0addr\0up\0key\0';
    expect(header).toEqual([24, 0, typeBytes, typeBytes, strings.length]);
    const words = Array.from({ length: typeBytes / 4 }, (_, index) => view.getUint32(24 + index * 4, true));
    const name = (text: string) => strings.indexOf(`\0${text}\0`) + 1;
    expect(words).toEqual(
      [
        [name('unsigned int'), 1 << 24, 4, 32], // name, kind, bytes, encoding and bits
        [name('bool'), 1 << 24, 1, (4 << 24) | 8],
        [name('key'), (4 << 24) | 2, 8], // name, kind and members, bytes
        [name('addr'), u32, 0],
        [name('up'), bool, 32],
      ].flat(),
    );
    expect(new TextDecoder().decode(bytes.subarray(24 + typeBytes))).toBe(strings);
  });

  it('gives equal types and strings one place', () => {
    const btf = new BtfBuilder();
    const u64 = btf.int('u64', 8);
    const members = [{ name: 'a', type: u64, offset: 0 }];
    expect(btf.int('u64', 8)).toBe(u64);
    expect(btf.struct('pair', 8, members)).toBe(btf.struct('pair', 8, members));
    expect(btf.array(u64, 4)).toBe(btf.array(u64, 4));
    expect(btf.string('pair')).toBe(btf.string('pair'));
    expect(btf.string('')).toBe(0);
    expect(btf.typeCount).toBe(4); // u64, pair, the array and its index type
  });

  it('marks an enum with a negative value as signed', () => {
    const btf = new BtfBuilder();
    btf.enum('verdict', { next: -1, pass: 2 });
    const view = new DataView(btf.toBytes().buffer);
    expect([view.getUint32(28, true), view.getInt32(40, true), view.getInt32(48, true)]).toEqual([0x86000002, -1, 2]);
  });

  it.each([
    [
      'a struct name with a dot',
      (btf: BtfBuilder) => btf.struct('a.b', 0, []),
      "BTF struct name 'a.b', expected a C identifier of at most 127 bytes",
    ],
    ['a type not made yet', (btf: BtfBuilder) => btf.ptr(7), 'BTF ptr refers to type 7, expected 0 to 0'],
    ['a nameless integer', (btf: BtfBuilder) => btf.int('', 4), 'a BTF integer without a name, expected one'],
    ['a zero byte', (btf: BtfBuilder) => btf.string('a\0b'), 'a BTF string with a zero byte, expected none'],
    ['a negative size', (btf: BtfBuilder) => btf.struct('s', -1, []), 'BTF struct size is -1, expected an unsigned 32-bit integer'],
    [
      'a far member',
      (btf: BtfBuilder) => btf.struct('s', 8, [{ name: 'm', type: 0, offset: 2 ** 29 }]),
      'BTF member offset is 4294967296, expected an unsigned 32-bit integer',
    ],
  ])('refuses %s', (_name, make, message) => {
    expect(() => make(new BtfBuilder())).toThrow(expect.objectContaining({ code: 'encoding', message }));
  });
});

describe('btfIdentifier', () => {
  it.each([
    ['l4lb.encap', 'l4lb_encap'],
    ['4lb', '_4lb'],
    ['', '_'],
    ['über', '_ber'],
    ['x'.repeat(200), 'x'.repeat(127)],
  ])('%s becomes %s', (name, identifier) => {
    expect(btfIdentifier(name)).toBe(identifier);
  });
});

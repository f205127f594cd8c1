import { EncodingError, encode, insn } from '@tailrace/bpf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readObject } from './elf.ts';

const code = encode([insn.wideMap(1), insn.mov(0, 2), insn.exit()]);
const good: Layout = { code, relocations: [{ offset: 0, type: 1, symbol: 2 }] };

describe('readObject', () => {
  it('reads a program and names the maps it refers to', () => {
    expect(readObject(object(good))).toEqual([
      {
        section: 'xdp/main',
        name: 'main',
        instructions: [insn.wideMap(1), insn.mov(0, 2), insn.exit()],
        mapReferences: [{ pc: 0, map: 'flows' }],
      },
    ]);
  });

  it('leaves empty sections out', () => {
    expect(readObject(object({ code: new Uint8Array(0), relocations: [] }))).toEqual([]);
  });

  it.each<[string, Layout, string]>([
    [
      'a global variable',
      { code, relocations: [{ offset: 0, type: 1, symbol: 1 }] },
      "names 'main' inside the object, expected an extern map",
    ],
    [
      'a call between sections',
      { code, relocations: [{ offset: 16, type: 10, symbol: 2 }] },
      "relocation of type 10 to 'flows', expected a map's address",
    ],
    [
      'a relocation of something else',
      { code, relocations: [{ offset: 16, type: 1, symbol: 2 }] },
      "is no wide load, expected one for 'flows'",
    ],
    ['a relocation past the end', { code, relocations: [{ offset: 4096, type: 1, symbol: 2 }] }, 'is no wide load'],
    ['an unknown symbol', { code, relocations: [{ offset: 0, type: 1, symbol: 99 }] }, 'names a local place'],
    ['code that is none', { code: new Uint8Array(12), relocations: [] }, 'a program of 12 bytes'],
    ['another machine', { ...good, machine: 62 }, 'an object for machine 62, expected 247'],
    ['a function that starts later', { ...good, functionAt: 8 }, 'section xdp/main holds 1 functions, expected one, at its start'],
  ])('refuses %s', (_name, layout, message) => {
    expect(() => readObject(object(layout))).toThrow(message);
  });

  it('reads or refuses whatever it gets', () => {
    const whole = object(good);
    const change = fc.record({ at: fc.nat(whole.length - 1), byte: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 8 }), fc.nat(whole.length), (changes, length) => {
        const bytes = whole.slice();
        for (const { at, byte } of changes) bytes[at] = byte;
        for (const candidate of [bytes, bytes.subarray(0, length)]) {
          try {
            readObject(candidate);
          } catch (error) {
            expect(error).toBeInstanceOf(EncodingError);
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

interface Layout {
  readonly code: Uint8Array;
  readonly relocations: readonly { readonly offset: number; readonly type: number; readonly symbol: number }[];
  readonly machine?: number;
  readonly functionAt?: number;
}

/** An object with one function `main` in `xdp/main` and one extern symbol, `flows`. */
function object({ code, relocations, machine = 247, functionAt = 0 }: Layout): Uint8Array {
  const names = ['', 'xdp/main', '.relxdp/main', '.symtab', '.strtab', 'main', 'flows'];
  const strings = new TextEncoder().encode(`${names.join('\0')}\0`);
  const name = (text: string) => new TextEncoder().encode(names.slice(0, names.indexOf(text)).join('\0')).length + (text === '' ? 0 : 1);
  const symbols = record(24, 3, (view, at, index) => {
    if (index === 0) return;
    view.setUint32(at, name(index === 1 ? 'main' : 'flows'), true);
    view.setUint8(at + 4, index === 1 ? 0x12 : 0x10);
    view.setUint16(at + 6, index === 1 ? 1 : 0, true);
    view.setBigUint64(at + 8, BigInt(index === 1 ? functionAt : 0), true);
  });
  const relocationBytes = record(16, relocations.length, (view, at, index) => {
    const entry = relocations[index];
    view.setBigUint64(at, BigInt(entry?.offset ?? 0), true);
    view.setUint32(at + 8, entry?.type ?? 0, true);
    view.setUint32(at + 12, entry?.symbol ?? 0, true);
  });
  const sections = [
    { name: '', type: 0, flags: 0, link: 0, info: 0, bytes: new Uint8Array(0) },
    { name: 'xdp/main', type: 1, flags: 6, link: 0, info: 0, bytes: code },
    { name: '.relxdp/main', type: 9, flags: 0, link: 3, info: 1, bytes: relocationBytes },
    { name: '.symtab', type: 2, flags: 0, link: 4, info: 1, bytes: symbols },
    { name: '.strtab', type: 3, flags: 0, link: 0, info: 0, bytes: strings },
  ];
  let offset = 64;
  const headers = record(64, sections.length, (view, at, index) => {
    const section = sections[index];
    if (!section) return;
    view.setUint32(at, name(section.name), true);
    view.setUint32(at + 4, section.type, true);
    view.setBigUint64(at + 8, BigInt(section.flags), true);
    view.setBigUint64(at + 24, BigInt(offset), true);
    view.setBigUint64(at + 32, BigInt(section.bytes.length), true);
    view.setUint32(at + 40, section.link, true);
    view.setUint32(at + 44, section.info, true);
    offset += section.bytes.length;
  });
  const head = record(64, 1, (view) => {
    for (const [at, byte] of [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1].entries()) view.setUint8(at, byte);
    view.setUint16(18, machine, true);
    view.setBigUint64(40, BigInt(offset), true);
    view.setUint16(58, 64, true);
    view.setUint16(60, sections.length, true);
    view.setUint16(62, 4, true);
  });
  return Buffer.concat([head, ...sections.map(({ bytes }) => bytes), headers]);
}

function record(size: number, count: number, fill: (view: DataView, at: number, index: number) => void): Uint8Array {
  const bytes = new Uint8Array(size * count);
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < count; index++) fill(view, index * size, index);
  return bytes;
}

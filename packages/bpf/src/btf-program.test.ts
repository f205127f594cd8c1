import { describe, expect, it } from 'vitest';
import { programBtf } from './btf-program.ts';
import { insn } from './insn.ts';
import type { LineInfo, ProgramSpec } from './program.ts';

describe('programBtf', () => {
  it('describes functions and lines', () => {
    const { funcInfo, lineInfo } = programBtf(program([line(0, 3, 5), line(2, 9, 2000)]));
    expect(words(funcInfo)).toEqual([0, 6, 2, 7]);
    const [file, text] = words(lineInfo).slice(1, 3);
    expect(words(lineInfo)).toEqual([0, file, text, (3 << 10) | 5, 2, file, text, (9 << 10) | 1023]);
  });

  it('names functions by C identifiers, each its own', () => {
    const spec = program([]);
    const functions = ['l4lb.encap', 'l4lb/encap', 'l4lb_encap'].map((name, pc) => ({ pc, name }));
    const { btf } = programBtf({ ...spec, functions });
    expect(Buffer.from(btf).toString('latin1').split('\0')).toEqual(
      expect.arrayContaining(['l4lb_encap', 'l4lb_encap_2', 'l4lb_encap_3', 'xdp_md', 'ctx']),
    );
  });

  it('takes a spec without functions as one function', () => {
    const { funcInfo, lineInfo, btf } = programBtf({ ...program([]), functions: [], lines: [] });
    expect(words(funcInfo)).toHaveLength(2);
    expect(lineInfo).toHaveLength(0);
    expect(Buffer.from(btf).toString('latin1')).toContain('root_program');
  });

  it.each([
    ['lines that start late', [line(1, 1, 1), line(2, 1, 1)], 'line record at pc 1, expected the first at 0'],
    ['lines that repeat a pc', [line(0, 1, 1), line(0, 2, 1)], 'line record at pc 0, expected more than 0'],
    ['a function without a line', [line(0, 1, 1)], 'function side starts at pc 2 without a line record, expected one'],
    ['line 0', [line(0, 0, 1), line(2, 1, 1)], 'pc 0: line is 0, expected 1 to 4194303'],
    ['column 0', [line(0, 1, 0), line(2, 1, 1)], 'pc 0: column is 0, expected 1 or more'],
  ])('refuses %s', (_name, lines, message) => {
    expect(() => programBtf(program(lines))).toThrow(message);
  });
});

function line(pc: number, number: number, column: number): LineInfo {
  return { pc, file: 'stage.ts', text: 'return ctx.next();', line: number, column };
}

function program(lines: readonly LineInfo[]): ProgramSpec {
  return {
    name: 'root.program',
    type: 'xdp',
    frags: true,
    license: 'Dual MIT/GPL',
    instructions: [insn.callSubprogram(1), insn.exit(), insn.mov(0, 2), insn.exit()],
    mapReferences: [],
    functions: [
      { pc: 0, name: 'main' },
      { pc: 2, name: 'side' },
    ],
    lines,
  };
}

function words(bytes: Uint8Array): number[] {
  return [...new Uint32Array(bytes.slice().buffer)];
}

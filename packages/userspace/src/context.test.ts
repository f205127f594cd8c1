import { EncodingError, type ProgramType } from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import { contextAccess, contextFieldAt, contextFieldKind, contextFields, SKB_CONTEXT_BYTES, XDP_CONTEXT_BYTES } from './context.ts';

describe('contextFieldAt', () => {
  test.each<readonly [type: ProgramType, offset: number, bytes: number, isWrite: boolean, name: string | undefined]>([
    ['xdp', 0, 4, false, 'data'],
    ['xdp', 16, 4, false, 'rx_queue_index'],
    ['xdp', 16, 2, false, undefined],
    ['xdp', 16, 4, true, undefined],
    ['xdp', 20, 4, false, undefined],
    ['schedCls', 8, 4, true, 'mark'],
    ['schedCls', 8, 2, true, undefined],
    ['schedCls', 9, 1, false, 'mark'],
    ['schedCls', 10, 2, false, 'mark'],
    ['schedCls', 8, 8, false, undefined],
    ['schedCls', 76, 2, false, undefined],
    ['schedCls', 48, 8, true, 'cb'],
    ['schedCls', 64, 8, true, undefined],
    ['schedCls', 65, 1, true, 'cb'],
    ['schedCls', 152, 8, true, 'tstamp'],
    ['schedCls', 152, 4, false, undefined],
    ['schedCls', 92, 4, false, undefined],
    ['socketFilter', 76, 4, false, undefined],
    ['socketFilter', 52, 4, true, 'cb'],
    ['socketFilter', 8, 4, true, undefined],
    ['socketFilter', 8, 4, false, 'mark'],
    ['xdp', -4, 4, false, undefined],
    ['xdp', 24, 4, false, undefined],
  ])('%s: byte %i, %i bytes, write %s', (type, offset, bytes, isWrite, name) => {
    expect(contextFieldAt(type, offset, bytes, isWrite)?.name).toBe(name);
  });

  test('pointers and numbers', () => {
    expect(['data', 'data_end', 'data_meta'].map((name) => contextFields('schedCls').find((field) => field.name === name)?.kind)).toEqual([
      'data',
      'dataEnd',
      'dataMeta',
    ]);
    expect(contextFieldKind('xdp', 4, 4)).toBe('dataEnd');
    expect(contextFieldKind('schedCls', 8, 1)).toBe('scalar');
    expect(contextFieldKind('schedCls', 80, 1)).toBeUndefined();
  });

  test('fields neither meet nor leave the struct', () => {
    for (const [type, size] of [
      ['xdp', XDP_CONTEXT_BYTES],
      ['schedCls', SKB_CONTEXT_BYTES],
    ] as const) {
      let end = 0;
      for (const field of contextFields(type)) {
        expect(field.offset).toBeGreaterThanOrEqual(end);
        end = field.offset + field.size;
      }
      expect(end).toBeLessThanOrEqual(size);
    }
  });
});

describe('contextAccess', () => {
  const spec = { name: 'l4lb.encap', type: 'schedCls' } as const;

  test('gives the field', () => {
    expect(contextAccess(spec, 12, 4, true, 0)).toMatchObject({ name: 'queue_mapping', holds: 2 });
  });

  test.each([
    [76, 8, false, 'program l4lb.encap, pc 7: reads 8 bytes at byte 76 of the context (data), which programs of type schedCls may not'],
    [96, 4, true, 'program l4lb.encap, pc 7: writes 4 bytes at byte 96 of the context, which programs of type schedCls may not'],
  ])('byte %i, %i bytes, write %s', (offset, bytes, isWrite, message) => {
    const access = (): unknown => contextAccess(spec, offset, bytes, isWrite, 7);
    expect(access).toThrow(EncodingError);
    expect(access).toThrow(expect.objectContaining({ code: 'encoding', field: 'context', pc: 7, message }));
  });
});

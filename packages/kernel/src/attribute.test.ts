import { expect, test } from 'vitest';
import { attributeSize, type commands, encodeAttributes, readAttribute } from './attribute.ts';

/** sizeof the command's part of union bpf_attr up to its last field used here, from offsetof in C. */
const sizes: readonly (readonly [keyof typeof commands, number])[] = [
  ['BPF_MAP_CREATE', 72],
  ['BPF_MAP_LOOKUP_ELEM', 32],
  ['BPF_MAP_GET_NEXT_KEY', 24],
  ['BPF_PROG_LOAD', 112],
  ['BPF_PROG_TEST_RUN', 72],
  ['BPF_OBJ_GET_INFO_BY_FD', 16],
  ['BPF_BTF_LOAD', 32],
  ['BPF_MAP_LOOKUP_BATCH', 48],
  ['BPF_PROG_QUERY', 64],
  ['BPF_LINK_CREATE', 24],
];

test.each(sizes)('%s takes %i bytes', (command, size) => {
  expect(attributeSize(command)).toBe(size);
});

test('fields lie where the kernel reads them', () => {
  const { bytes } = encodeAttributes('BPF_MAP_CREATE', { map_type: 1, key_size: 4, max_entries: 0x10203, map_name: 'ab' });
  expect(Buffer.from(bytes).toString('hex')).toMatchInlineSnapshot(
    `"010000000400000000000000030201000000000000000000000000006162000000000000000000000000000000000000000000000000000000000000000000000000000000000000"`,
  );
});

test('addresses take 8 bytes, and 4-byte fields read back', () => {
  const memory = encodeAttributes('BPF_MAP_LOOKUP_BATCH', { keys: 0x7fff_1234_5678, count: 7 });
  expect(memory.view.getBigUint64(16, true)).toBe(0x7fff_1234_5678n);
  expect(readAttribute('BPF_MAP_LOOKUP_BATCH', memory, 'count')).toBe(7);
});

test('values out of range are refused', () => {
  expect(() => encodeAttributes('BPF_MAP_CREATE', { key_size: -1 })).toThrowErrorMatchingInlineSnapshot(
    `[ArgumentError: BPF_MAP_CREATE key_size must be an unsigned integer of 4 bytes, got -1]`,
  );
  expect(() => encodeAttributes('BPF_MAP_CREATE', { key_size: 2 ** 32 })).toThrow('4 bytes');
  expect(() => encodeAttributes('BPF_MAP_CREATE', { map_name: 'sixteen-letters!' })).toThrowErrorMatchingInlineSnapshot(
    `[ArgumentError: BPF_MAP_CREATE map_name takes at most 15 bytes, got 16]`,
  );
});

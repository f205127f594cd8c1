import { describe, expect, test } from 'vitest';
import { Arp, Ethernet, Icmp, Ipv4, Ipv6, Ports, Tcp, Udp } from './headers.ts';
import { describeLayout, type Layout, sameLayout } from './layout.ts';
import {
  aligned,
  array,
  be16,
  be32,
  be64,
  bits,
  bool,
  flag,
  i32,
  ipv4Prefix,
  ipv6Prefix,
  mac,
  nothing,
  packed,
  ref,
  struct,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';

const places = (layout: Layout): string =>
  layout.kind === 'struct'
    ? Object.entries(layout.fields)
        .map(([name, { offset }]) => `${name}@${offset}`)
        .join(' ')
    : layout.kind;
const shape = ({ layout }: { readonly layout: Layout }): string => `${layout.size}/${layout.align} ${places(layout)}`;

describe('structs lie as C lays them', () => {
  test.each([
    ['padding inside', struct({ a: u8, b: u32 }), '8/4 a@0 b@4'],
    ['padding behind', struct({ a: u64, b: u8 }), '16/8 a@0 b@8'],
    ['nested', struct({ a: u8, in: struct({ b: u8, c: u16 }), d: u8 }), '8/2 a@0 in@2 d@6'],
    ['array', struct({ a: u8, list: array(u16, 3) }), '8/2 a@0 list@2'],
    ['mac', struct({ a: u8, b: mac }), '8/2 a@0 b@2'],
    ['bool', struct({ a: bool, b: i32 }), '8/4 a@0 b@4'],
    ['packed', packed({ a: u8, b: be32, c: be64 }), '13/1 a@0 b@1 c@5'],
    ['aligned', struct({ a: u32, b: aligned(u64, 4) }), '12/4 a@0 b@4'],
    ['IPv4 prefix', ipv4Prefix, '8/4 prefixLen@0 addr@4'],
    ['IPv6 prefix', ipv6Prefix, '20/4 prefixLen@0 addr@4'],
  ])('%s', (_, schema, expected) => expect(shape(schema)).toBe(expected));
});

test('headers have the sizes of their RFCs', () => {
  const sizes = { Ethernet, Ipv4, Ipv6, Tcp, Udp, Icmp, Ports, Arp };
  expect(Object.fromEntries(Object.entries(sizes).map(([name, { layout }]) => [name, layout.size]))).toEqual({
    Ethernet: 14,
    Ipv4: 20,
    Ipv6: 40,
    Tcp: 20,
    Udp: 8,
    Icmp: 8,
    Ports: 4,
    Arp: 28,
  });
  expect(places(Tcp.layout)).toBe('sport@0 dport@2 seq@4 ackSeq@8 dataOffsetByte@12 flags@13 window@14 checksum@16 urgentPointer@18');
  expect(places(Arp.layout)).toBe(
    'hardwareType@0 protocolType@2 hardwareLength@4 protocolLength@5 operation@6 senderMac@8 senderIp@14 targetMac@18 targetIp@24',
  );
});

test('layouts are told apart and described', () => {
  const layout = struct({ a: be16, list: array(mac, 2), up: bool, n: u64 }).layout;
  expect(describeLayout(layout)).toBe('{ a: be16, list: mac[2], up: bool, n: u64 }');
  expect(describeLayout(ref(u32).layout)).toBe('ref u32');
  expect(sameLayout(layout, struct({ a: be16, list: array(mac, 2), up: bool, n: u64 }).layout)).toBe(true);
  expect(sameLayout(struct({ a: u32 }).layout, struct({ b: u32 }).layout)).toBe(false);
  expect(sameLayout(u32.layout, be32.layout)).toBe(false);
  expect(sameLayout(u32.layout, i32.layout)).toBe(false);
  expect(sameLayout(array(u8, 4).layout, array(u16, 2).layout)).toBe(false);
  expect(sameLayout(ref(u8).layout, ref(u16).layout)).toBe(false);
});

test('schemas are frozen', () => {
  expect(() => Object.assign(u32.layout, { size: 8 })).toThrow(TypeError);
  expect(() => Object.assign(Ipv4.layout.kind === 'struct' ? Ipv4.layout.fields : {}, { ttl: u32 })).toThrow(TypeError);
});

describe('what is no schema', () => {
  test.each<[string, () => unknown, string]>([
    ['empty', () => struct({}), 'struct: no fields, expected at least one'],
    ['name', () => struct({ 'a b': u8 }), "struct: field name 'a b', expected a C identifier"],
    ['digits', () => struct({ 0: u8 }), "struct: field name '0', expected a C identifier"],
    ['nothing', () => struct({ a: nothing }), "struct: field 'a' is nothing, expected a schema with bytes"],
    ['ref', () => array(ref(u8), 2), 'array: an item is ref, expected a schema with bytes'],
    ['ref of nothing', () => ref(nothing), 'ref: the value is nothing, expected a schema with bytes'],
    ['length', () => array(u8, 1.5), 'array: length is 1.5, expected a positive integer'],
    ['no length', () => array(u8, 0), 'array: length is 0, expected a positive integer'],
    ['align', () => aligned(u32, 3), 'aligned: align is 3, expected 1, 2, 4 or 8'],
    ['view and field', () => struct({ a: u8 }, { a: flag('a', 0) }), "struct: 'a' is a field and a view, expected different names"],
    [
      'view too wide',
      () => struct({ a: u8 }, { b: bits('a', 4, 5) }),
      "struct: view 'b' is bits 4..8 times 1, expected 1 to 31 bits within the 8 of 'a'",
    ],
    [
      'view of 32 bits',
      () => struct({ a: u32 }, { b: bits('a', 0, 32) }),
      "struct: view 'b' is bits 0..31 times 1, expected 1 to 31 bits within the 32 of 'a'",
    ],
    [
      'view of a u64',
      () => struct({ a: u64 }, { b: flag('a', 0) }),
      "struct: view 'b' looks at 'a', a u64, expected an unsigned integer of at most 4 bytes",
    ],
    ['view of no field', () => struct({ a: u8 }, { b: flag('c', 0) } as never), "struct: view 'b' looks at 'c', which is no field"],
  ])('%s', (_, make, message) => expect(make).toThrow(expect.objectContaining({ code: 'argument', message })));
});

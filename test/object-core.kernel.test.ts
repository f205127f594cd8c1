/** CO-RE: programs compiled with one layout of types run with another one, and on this kernel's. */
import { readFileSync } from 'node:fs';
import { type Btf, readBtf, readElf, TailraceError } from '@tailrace/bpf';
import { formatVerifierError, VerifierError } from '@tailrace/kernel';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compileC, found, frame, loadObject, openEngine, u32 } from './clang-object.ts';

const vmlinux = readBtf(readFileSync('/sys/kernel/btf/vmlinux'));

/** The bytes of an object's .BTF: all that a target is. */
function btfOf(object: Uint8Array): Uint8Array {
  const view = new DataView(object.buffer, object.byteOffset, object.byteLength);
  const headers = Number(view.getBigUint64(40, true));
  const section = (index: number) => {
    const at = headers + index * 64;
    const bytes = object.subarray(
      Number(view.getBigUint64(at + 24, true)),
      Number(view.getBigUint64(at + 24, true) + view.getBigUint64(at + 32, true)),
    );
    return { name: view.getUint32(at, true), bytes };
  };
  const names = Buffer.from(section(view.getUint16(62, true)).bytes);
  for (let index = 1; index < view.getUint16(60, true); index++) {
    const { name, bytes } = section(index);
    if (names.subarray(name, names.indexOf(0, name)).toString() === '.BTF') return bytes;
  }
  return new Uint8Array(0);
}

/** Runs `probe` of a source for a target, over a map `item` that holds these bytes; what it returns. */
async function run(source: string, target: Uint8Array | Btf | 'own', item: Uint8Array = new Uint8Array(64)): Promise<number> {
  const object = readElf(compileC(source), { targetBtf: target });
  await using instance = await openEngine();
  const live = await loadObject(instance, object);
  live.maps.get('item')?.update(u32(0), item);
  return (await found(live.programs, 'probe').testRun({ packet: frame })).returnValue;
}

/** `probe` over `item`, a struct of the layout that the body was compiled with. */
const program = (types: string, body: string) => `
  ${types}
  struct bytes { u8 all[64]; };
  struct { __uint(type, ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct bytes); } item SEC(".maps");
  SEC("xdp") int probe(struct xdp_md *ctx) {
    u32 key = 0;
    struct item___here *it = map_lookup(&item, &key);
    if (!it) return 0;
    ${body}
  }`;

const HERE = `
  struct point { u32 x, y; } CORE;
  enum mode { OFF = 1, ON = 2, GONE = 3 };
  struct item___here { u32 id; u16 small; struct point points[3]; u32 flag : 3, rest : 7; u64 wide; u32 *link; int missing; int level; } CORE;
  struct nowhere { int x; } CORE;`;

/** The target: 64 bytes, shuffled, with other widths, an anonymous union, and fields and values that are gone. */
const target = btfOf(
  compileC(`
    struct point { u64 room; u32 y, x; };
    enum mode { ON = 40, OFF = 50 };
    struct item { u8 lead[3]; u32 : 2, rest : 9, flag : 4; union { u32 id; u64 all; }; struct point points[2]; u32 small; u32 wide; int level; };
    SEC("xdp") int use(struct xdp_md *ctx) { static volatile struct item item; static volatile enum mode mode = ON; return item.id + mode; }`),
);
const layout = readBtf(target);

/** Bytes of a target's item: each field has a value of its own. */
function item(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  const type = layout.type(layout.named('item').find((id) => layout.type(id).kind === 'struct') ?? 0);
  if (type.kind !== 'struct') return bytes;
  const at = (name: string) => {
    const member = type.members.find((candidate) => candidate.name === name);
    return (member?.bitOffset ?? 0) / 8;
  };
  view.setUint32(at(''), 1001, true); // id, in the union
  view.setUint32(at('points') + 16 + 8, 22, true); // points[1].y
  view.setUint32(at('points') + 16 + 12, 33, true); // points[1].x
  view.setUint32(at('small'), 77_777, true);
  view.setUint32(at('wide'), 88, true);
  const bits = Math.floor(at('rest') / 4) * 4;
  const [rest, flag] = [at('rest') * 8 - bits * 8, at('flag') * 8 - bits * 8];
  view.setUint32(bits, ((300 << rest) | (9 << flag)) >>> 0, true);
  return bytes;
}

test.each<[string, string, number]>([
  ['a field in an anonymous union', 'return it->id;', 1001],
  ['an element of an array of structs', 'return it->points[1].x * 100 + it->points[1].y;', 3322],
  ['a field that became wider', 'return it->small;', 77_777],
  ['a field that became narrower', 'return it->wide;', 88],
  ['sizes of fields', 'return __builtin_preserve_field_info(it->points, 1) * 100 + __builtin_preserve_field_info(it->small, 1);', 3204],
  [
    'offsets of fields',
    'return __builtin_preserve_field_info(it->points[1].y, 0) - __builtin_preserve_field_info(it->points[0].y, 0);',
    16,
  ],
  [
    'which fields exist',
    'return __builtin_preserve_field_info(it->wide, 2) * 100 + __builtin_preserve_field_info(it->missing, 2) * 10 + __builtin_preserve_field_info(it->id, 2);',
    101,
  ],
  ['signs of fields', 'return __builtin_preserve_field_info(it->level, 3) * 10 + __builtin_preserve_field_info(it->id, 3);', 10],
  [
    'bit fields',
    `u64 value = 0;
     u32 size = __builtin_preserve_field_info(it->rest, 1), offset = __builtin_preserve_field_info(it->rest, 0);
     void *from = (void *)it + offset;
     if (offset > 48) return 1;
     if (size == 4) value = *(u32 *)from; else if (size == 2) value = *(u16 *)from; else if (size == 8) value = *(u64 *)from; else return 2;
     value <<= __builtin_preserve_field_info(it->rest, 4);
     return value >> __builtin_preserve_field_info(it->rest, 5);`,
    300,
  ],
  [
    'values of enums',
    'return __builtin_preserve_enum_value(*(typeof(enum mode) *)ON, 1) + __builtin_preserve_enum_value(*(typeof(enum mode) *)OFF, 1);',
    90,
  ],
  [
    'which values exist',
    'return __builtin_preserve_enum_value(*(typeof(enum mode) *)ON, 0) * 10 + __builtin_preserve_enum_value(*(typeof(enum mode) *)GONE, 0);',
    10,
  ],
  [
    'which types exist',
    'return __builtin_preserve_type_info(*(struct point *)0, 0) * 10 + __builtin_preserve_type_info(*(struct nowhere *)0, 0);',
    10,
  ],
  [
    'sizes of types',
    'return __builtin_preserve_type_info(*(struct point *)0, 1) * 10 + __builtin_preserve_type_info(*(struct nowhere *)0, 1);',
    160,
  ],
  ['ids of types', 'return __builtin_btf_type_id(*(struct point *)0, 1);', layout.named('point')[0] ?? 0],
  ['a field that is there or not', 'if (__builtin_preserve_field_info(it->missing, 2)) return it->missing; return 6;', 6],
])('another layout: %s', async (_name, body, expected) => {
  expect(await run(program(HERE, body), target, item())).toBe(expected);
});

test('without a target, or with its own types, a program stays as it was compiled', async () => {
  const source = program(HERE, 'return it->points[1].x + __builtin_preserve_type_info(*(struct nowhere *)0, 1);');
  const bytes = new Uint8Array(64);
  new DataView(bytes.buffer).setUint32(16, 500, true);
  expect(await run(source, 'own', bytes)).toBe(504);
  expect(() => readElf(compileC(source)).programs.get('probe')?.spec()).toThrow(
    'an instruction that depends on types of the target (CO-RE), of which no BTF was given',
  );
});

test('what the target lacks is refused where a path reaches it, with its reason and its line', async () => {
  const object = readElf(compileC(program(HERE, 'return it->missing;')), { targetBtf: target });
  const spec = found(object.programs, 'probe').spec();
  expect(spec.poisons).toEqual([{ pc: expect.any(Number), reason: 'the target has no field item.missing' }]);
  await using instance = await openEngine();
  const maps = new Map([['item', instance.createMap(found(object.maps, 'item').definition().spec)]]);
  const error = await instance.loadProgram(spec, maps).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(VerifierError);
  expect(error).toMatchObject({
    reason: 'the target has no field item.missing',
    source: { text: expect.stringContaining('return it->missing;') },
  });
  expect(formatVerifierError(error as VerifierError)).toContain('verifier rejected probe: the target has no field item.missing');
});

test('this kernel: a task by its fields, ids and enums of the kernel', async () => {
  const task = `
    struct task_struct { int tgid; int no_such_field; } CORE;
    enum bpf_map_type { BPF_MAP_TYPE_RINGBUF = 1, BPF_MAP_TYPE_NONE = 2 };`;
  const main = (body: string) => `${task} SEC("xdp") int probe(struct xdp_md *ctx) { ${body} }`;
  const own = main(`
    struct task_struct *task = (void *)get_current_task();
    int tgid = 0;
    if (__builtin_preserve_field_info(task->no_such_field, 2)) return -1;
    probe_read_kernel(&tgid, 4, __builtin_preserve_access_index(&task->tgid));
    return tgid;`);
  expect(await run(own, vmlinux)).toBe(process.pid);
  expect(await run(main('return __builtin_btf_type_id(*(struct task_struct *)0, 1);'), vmlinux)).toBe(vmlinux.named('task_struct')[0]);
  const value = (name: string, kind: number) => `__builtin_preserve_enum_value(*(typeof(enum bpf_map_type) *)${name}, ${kind})`;
  expect(await run(main(`return ${value('BPF_MAP_TYPE_RINGBUF', 1)} * 10 + ${value('BPF_MAP_TYPE_NONE', 0)};`), vmlinux)).toBe(270);
});

test('damaged objects are read, or refused with a type', () => {
  const whole = new Uint8Array(compileC(program(HERE, 'return it->points[1].x + it->rest + it->small;')));
  const change = fc.record({ at: fc.nat(whole.length - 1), byte: fc.nat(255) });
  const typed = (work: () => unknown) => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof TailraceError)) throw error;
      return undefined;
    }
  };
  fc.assert(
    fc.property(fc.array(change, { maxLength: 12 }), fc.nat(whole.length), fc.boolean(), (changes, length, cut) => {
      const damaged = whole.slice(0, cut ? length : whole.length);
      for (const { at, byte } of changes) if (at < damaged.length) damaged[at] = byte;
      typed(() => {
        const { programs, maps } = readElf(damaged, { targetBtf: layout });
        for (const one of programs.values()) typed(() => one.spec());
        for (const one of maps.values()) typed(() => one.definition());
      });
    }),
    { numRuns: 1_000 },
  );
});

/** Objects that `writeElf` makes: libbpf (in bpftool) loads them, with types and source lines, as it does those of clang. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ElfObject, type MapDefinition, readElf, TailraceError, writeElf } from '@tailrace/bpf';
import { compileStage } from '@tailrace/compiler';
import { toMapSpec } from '@tailrace/stage';
import { hash, stage, u32 as u32Schema, u64 } from 'tailrace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compileC, found, frame, loadObject, openEngine, u32 } from './clang-object.ts';

const PINS = `/sys/fs/bpf/tailrace-written-${process.pid}`;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tailrace-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
  rmSync(PINS, { recursive: true, force: true });
});

function bpftool(...words: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync('bpftool', words, { encoding: 'utf8' });
  if (status !== 0) throw new TailraceError('syscall', `bpftool ${words.join(' ')} failed: ${error?.message ?? ''}${stdout}${stderr}`);
  return stdout;
}

/** Loads all programs of an object with libbpf; `look` sees the pins. */
function withLoaded<T>(bytes: Uint8Array, look: (pins: string, file: string) => T): T {
  const file = join(folder, 'object.o');
  writeFileSync(file, bytes);
  bpftool('prog', 'loadall', file, PINS, 'pinmaps', `${PINS}/maps`);
  try {
    return look(PINS, file);
  } finally {
    rmSync(PINS, { recursive: true });
  }
}

function rewritten(object: ElfObject): Uint8Array {
  return writeElf(
    [...object.programs.values()].map((program) => program.spec()),
    [...object.maps.values()].map((map) => map.definition()),
  );
}

/** All that an object can hold, in one. */
const SOURCE = `
struct flow { u32 hits; u32 bytes; struct flow *next; };
struct { __uint(type, HASH); __uint(max_entries, 8); __type(key, u32); __type(value, struct flow); } flows SEC(".maps");
int last(struct xdp_md *ctx);
struct { __uint(type, PROG_ARRAY); __uint(max_entries, 4); __type(key, u32); __array(values, int(void *)); } chain SEC(".maps") =
  { .values = { [2] = (void *)&last } };
struct inner { __uint(type, ARRAY); __uint(max_entries, 2); __type(key, u32); __type(value, u32); } one SEC(".maps");
struct { __uint(type, ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, u32); __array(values, struct inner); } outer SEC(".maps") =
  { .values = { [1] = &one } };
u32 given = 5, many[4] = { 1, 2, 3, 4 };
u64 zeroed[3];
const volatile u32 limit = 9;
static noinline u32 triple(u32 x) { asm volatile("" : "+r"(x)); return x * 3; }
static long add(u32 index, void *sum) { *(u32 *)sum += index; return 0; }
SEC("xdp") int last(struct xdp_md *ctx) { return given + many[2] + zeroed[1]; }
SEC("xdp") int entry(struct xdp_md *ctx) {
  u32 key = 1, sum = 0;
  struct flow *flow = map_lookup(&flows, &key);
  if (flow) flow->hits++;
  void *inner = map_lookup(&outer, &key);
  u32 *value = inner ? map_lookup(inner, &key) : 0;
  if (value) *value = 17;
  loop(5, add, &sum, 0);
  zeroed[1] = triple(sum) + limit;
  tail_call(ctx, &chain, 2);
  return 1;
}
SEC("tc") int other(struct __sk_buff *skb) { return triple(skb->len) & 1; }`;

test('an object of C, read and written, is the same object', async () => {
  const object = readElf(compileC(SOURCE));
  const bytes = rewritten(object);
  const again = readElf(bytes);
  for (const [name, program] of object.programs) expect(again.programs.get(name)?.spec()).toEqual(program.spec());
  for (const [name, map] of object.maps) expect(again.maps.get(name)?.definition()).toEqual(map.definition());
  expect(rewritten(again)).toEqual(bytes);

  for (const one of [object, again]) {
    await using instance = await openEngine();
    const live = await loadObject(instance, one);
    expect((await found(live.programs, 'entry').testRun({ packet: frame })).returnValue).toBe(5 + 3 + 30 + 9);
    expect(found(live.maps, 'one').lookup(u32(1))).toEqual(u32(17));
  }
});

test('libbpf loads it: programs of all sections, subprograms, tables, variables, lines', () => {
  withLoaded(rewritten(readElf(compileC(SOURCE))), (pins, file) => {
    const types = bpftool('btf', 'dump', 'file', file);
    expect(types).toContain("FUNC 'entry' type_id=");
    expect(types).toMatch(/DATASEC '\.maps' size=\d+ vlen=4/);
    expect(types).toMatch(/STRUCT 'flow' size=16 vlen=3/);
    const code = bpftool('prog', 'dump', 'xlated', 'pinned', `${pins}/entry`, 'linum');
    expect(code).toMatch(/zeroed\[1\] = triple\(sum\) \+ limit; \[file:.*source\.c line_num:24 line_col:\d+\]/);
    expect(code).toMatch(/^int triple\(\):$/m);
    const shown = JSON.parse(bpftool('--json', 'prog', 'show', 'pinned', `${pins}/entry`)) as {
      readonly map_ids: readonly number[];
      readonly type: string;
    };
    expect(shown.type).toBe('xdp');
    const maps = shown.map_ids.map((id) => JSON.parse(bpftool('--json', 'map', 'dump', 'id', String(id))) as unknown);
    // Constants go by their names.
    expect(JSON.stringify(maps)).toContain('"limit":9');
    // libbpf has put program and inner map into their places.
    const places = (map: string) =>
      JSON.parse(bpftool('--json', 'map', 'dump', 'pinned', `${pins}/maps/${map}`)) as readonly { readonly key: readonly string[] }[];
    expect(places('chain').map(({ key }) => key[0])).toEqual(['0x02']);
    expect(places('outer').map(({ key }) => key[0])).toEqual(['0x01']);
    expect(bpftool('prog', 'show', 'pinned', `${pins}/other`)).toContain('sched_cls');
  });
});

const limits = hash({ name: 'edge.limits', key: u32Schema, value: u64, maxEntries: 10 });
const limit = stage({
  name: 'limit',
  hook: 'xdp',
  uses: { limits },
  program(ctx, { limits }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.pass();
    const left = limits.lookup(ip.saddr);
    if (!left) return ctx.drop();
    left.value += 1n;
    return ctx.pass();
  },
});

test('a stage of TypeScript, as an object: its lines and its map are there', () => {
  const { program, maps } = compileStage(limit, { name: 'edge.limit' });
  const specs = [...maps].map(([name, map]) => toMapSpec(map, name));
  const bytes = writeElf([program], specs);
  const again = readElf(bytes);
  expect(again.programs.get('edge.limit')?.spec()).toEqual(program);
  expect([...again.maps.values()].map((map) => map.definition().spec.name)).toEqual(specs.map(({ name }) => name));
  withLoaded(bytes, (pins) => {
    const code = bpftool('prog', 'dump', 'xlated', 'pinned', `${pins}/edge_limit`, 'linum');
    expect(code).toMatch(/left\.value \+= 1n; \[file:.*written-object\.kernel\.test\.ts line_num:\d+ line_col:\d+\]/);
  });
});

test('llvm reads it as an object of eBPF', () => {
  const file = join(folder, 'listed.o');
  const definitions: readonly MapDefinition[] = [];
  writeFileSync(file, writeElf([found(readElf(compileC(SOURCE)).programs, 'other').spec()], definitions));
  const { stdout, status } = spawnSync('llvm-objdump', ['-d', '-r', file], { encoding: 'utf8' });
  expect(status).toBe(0);
  expect(stdout).toContain('file format elf64-bpf');
  expect(stdout).toMatch(/<other>:[\s\S]*R_BPF_64_32\s+\.text/);
});

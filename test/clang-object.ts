/** Objects out of C for tests: compiled from text, and loaded into an engine as a user of objects would. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ElfObject, type EngineInstance, type LoadedMap, type LoadedProgram, MapFlag, TailraceError } from '@tailrace/bpf';
import { createNamespace, KernelMap, kernel } from '@tailrace/kernel';

/** What the sources begin with: types, section names, map definitions, helpers, contexts. */
const PRELUDE = `
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#define noinline __attribute__((noinline))
#define CORE __attribute__((preserve_access_index))
#define __uint(name, number) int (*name)[number]
#define __type(name, type) typeof(type) *name
#define __array(name, type) typeof(type) *name[]
enum { HASH = 1, ARRAY = 2, PROG_ARRAY = 3, ARRAY_OF_MAPS = 12 };
enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX };
struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
struct __sk_buff { u32 len, pkt_type, mark; };
static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*get_current_task)(void) = (void *)35;
static long (*tail_call)(void *ctx, void *map, u32 slot) = (void *)12;
static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*loop)(u32 count, void *callback, void *context, u64 flags) = (void *)181;
char terms[] SEC("license") = "Dual MIT/GPL";
`;

/** Compiles C, behind the prelude, with clang. Throws TailraceError with what it has against the source. */
export function compileC(source: string, options: readonly string[] = ['-g']): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'tailrace-'));
  try {
    const file = join(folder, 'source.c');
    const prelude = join(folder, 'prelude.h');
    writeFileSync(prelude, PRELUDE);
    writeFileSync(file, source);
    const { status, stdout, stderr } = spawnSync(
      'clang',
      ['-O2', '-target', 'bpf', ...options, '-include', prelude, '-c', file, '-o', '-'],
      {
        maxBuffer: 1 << 26,
      },
    );
    if (status !== 0) throw new TailraceError('compile', `clang refused a source: ${stderr}`);
    return stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** An object that lives in an engine. */
export interface LiveObject {
  readonly maps: ReadonlyMap<string, LoadedMap>;
  readonly programs: ReadonlyMap<string, LoadedProgram>;
}

/** Makes all maps of an object, fills them, loads its programs, and puts those into tables that are there from the start. */
export async function loadObject(instance: EngineInstance, object: ElfObject): Promise<LiveObject> {
  const definitions = [...object.maps.values()].map((map) => map.definition());
  const maps = new Map(definitions.map(({ spec }) => [spec.name, instance.createMap(spec)]));
  const map = (name: string) => found(maps, name);
  for (const { spec, contents, maps: inner } of definitions) {
    const live = map(spec.name);
    for (const { key, value } of contents) live.update(key, value);
    for (const entry of inner) await live.setMap(entry.key, map(entry.map));
    if ((spec.flags & MapFlag.readOnlyProgram) !== 0 && live instanceof KernelMap) live.freeze();
  }
  const programs = new Map<string, LoadedProgram>();
  for (const [name, program] of object.programs) programs.set(name, await instance.loadProgram(program.spec(), maps));
  for (const { spec, programs: slots } of definitions)
    for (const { slot, program } of slots) await map(spec.name).setProgram(slot, found(programs, program));
  return { maps, programs };
}

/** The entry of that name. Throws TailraceError where there is none. */
export function found<T>(table: ReadonlyMap<string, T>, name: string): T {
  const value = table.get(name);
  if (value === undefined) throw new TailraceError('argument', `no ${name} in ${[...table.keys()].join(', ')}`);
  return value;
}

/** A kernel engine in a namespace of its own. */
export async function openEngine(): Promise<EngineInstance> {
  using namespace = createNamespace();
  return await kernel({ interfaces: ['lo'], netns: namespace }).open();
}

/** A frame of 64 bytes. */
export const frame = Uint8Array.from({ length: 64 }, (_, at) => at);

/** A u32 in host order. */
export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

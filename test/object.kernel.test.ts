/** Objects that clang makes: every part of them runs in the kernel as its author meant it. */
import { type ElfObject, readElf } from '@tailrace/bpf';
import { VerifierError } from '@tailrace/kernel';
import { expect, test } from 'vitest';
import { compileC, found, frame, loadObject, openEngine, u32 } from './clang-object.ts';

/** What a program returns, and the words of entries of maps after it. */
async function run(object: ElfObject, name: string, entries: readonly (readonly [map: string, key: number])[] = []) {
  await using instance = await openEngine();
  const live = await loadObject(instance, object);
  const { returnValue } = await found(live.programs, name).testRun({ packet: frame });
  const words = entries.map(([map, key]) => {
    const value = found(live.maps, map).lookup(u32(key)) ?? new Uint8Array(0);
    return Array.from({ length: value.length >> 2 }, (_, word) => new DataView(value.buffer, value.byteOffset).getUint32(word * 4, true));
  });
  return { returnValue, words };
}

test('maps by BTF: keys, values, flags, and static ones', async () => {
  const object = readElf(
    compileC(`
      struct flow { u32 hits; u32 bytes[3]; struct flow *next; };
      struct { __uint(type, HASH); __uint(max_entries, 8); __uint(map_flags, 1); __type(key, u32); __type(value, struct flow); } flows SEC(".maps");
      static struct { __uint(type, ARRAY); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 8); } counts SEC(".maps");
      SEC("xdp") int count(struct xdp_md *ctx) {
        u32 key = 3;
        struct flow first = { .hits = 1, .bytes = { 5, ctx->data_end - ctx->data } };
        map_update(&flows, &key, &first, 0);
        struct flow *flow = map_lookup(&flows, &key);
        if (!flow) return XDP_ABORTED;
        flow->hits += 41;
        u32 *count = map_lookup(&counts, &key);
        if (count) *count += flow->hits;
        return XDP_TX;
      }`),
  );
  expect(object.maps.get('flows')?.definition().spec).toMatchObject({ type: 'hash', keySize: 4, valueSize: 24, maxEntries: 8, flags: 1 });
  expect(object.maps.get('counts')?.definition().spec.btf).toBeUndefined();
  const after = await run(object, 'count', [
    ['flows', 3],
    ['counts', 3],
  ]);
  expect(after).toEqual({
    returnValue: 3,
    words: [
      [42, 5, 64, 0, 0, 0],
      [42, 0],
    ],
  });
});

test('variables: initial values, zeros, constants, strings, statics of functions', async () => {
  const object = readElf(
    compileC(`
      u32 given = 5, many[4] = { 1, 2, 3, 4 };
      u64 zeroed[3];
      static volatile u32 hidden = 7;
      const volatile u32 limit = 9;
      static const char words[] = "abc";
      u32 apart SEC(".data.apart") = 11;
      static noinline u32 next(void) { static u32 calls = 100; return ++calls; }
      SEC("xdp") int variables(struct xdp_md *ctx) {
        zeroed[1] = given + hidden + limit;
        many[2] = next() + apart;
        hidden += 1;
        return words[(ctx->data_end - ctx->data) & 1] + many[3];
      }`),
  );
  expect([...object.maps.keys()].sort()).toEqual(expect.arrayContaining(['.bss', '.data', '.data.apart', '.rodata']));
  expect(object.maps.get('.rodata')?.definition().spec.flags).toBe(128);
  const after = await run(object, 'variables', [
    ['.bss', 0],
    ['.data', 0],
  ]);
  expect(after.returnValue).toBe(97 + 4);
  expect(after.words[0]).toEqual([0, 0, 21, 0, 0, 0]);
  expect(after.words[1]).toEqual(expect.arrayContaining([5, 112, 101, 8]));
});

test('functions: static, global, with callbacks, each once', async () => {
  const object = readElf(
    compileC(`
      static noinline u32 triple(u32 x) { asm volatile("" : "+r"(x)); return x * 3; }
      noinline u32 plus(u32 x) { asm volatile("" : "+r"(x)); return triple(x) + 1; }
      static long add(u32 index, void *sum) { *(u32 *)sum += index; return 0; }
      static long skip(u32 index, void *sum) { *(u32 *)sum += triple(index); return index == 2; }
      SEC("xdp") int first(struct xdp_md *ctx) {
        u32 sum = 0;
        loop(5, add, &sum, 0);
        loop(9, skip, &sum, 0);
        return plus(sum) + triple(2);
      }
      SEC("xdp") int second(struct xdp_md *ctx) { return triple(ctx->data_end - ctx->data); }`),
  );
  expect(
    object.programs
      .get('first')
      ?.spec()
      .functions.map(({ name }) => name),
  ).toEqual(['first', 'add', 'skip', 'plus', 'triple']);
  expect(
    object.programs
      .get('second')
      ?.spec()
      .functions.map(({ name }) => name),
  ).toEqual(['second', 'triple']);
  expect((await run(object, 'first')).returnValue).toBe((10 + 9) * 3 + 1 + 6);
  expect((await run(object, 'second')).returnValue).toBe(192);
});

test('tables: tail calls and inner maps that are there from the start', async () => {
  const object = readElf(
    compileC(`
      int last(struct xdp_md *ctx);
      struct { __uint(type, PROG_ARRAY); __uint(max_entries, 4); __type(key, u32); __array(values, int(void *)); } chain SEC(".maps") =
        { .values = { [2] = (void *)&last } };
      struct inner { __uint(type, ARRAY); __uint(max_entries, 2); __type(key, u32); __type(value, u32); } one SEC(".maps"), two SEC(".maps");
      struct { __uint(type, ARRAY_OF_MAPS); __uint(max_entries, 4); __type(key, u32); __array(values, struct inner); } outer SEC(".maps") =
        { .values = { &one, [3] = &two } };
      SEC("xdp") int last(struct xdp_md *ctx) { return 33; }
      SEC("xdp") int entry(struct xdp_md *ctx) {
        u32 place = 3, key = 1;
        void *inner = map_lookup(&outer, &place);
        if (!inner) return 0;
        u32 *value = map_lookup(inner, &key);
        if (value) *value = 17;
        tail_call(ctx, &chain, 2);
        return 1;
      }`),
  );
  const after = await run(object, 'entry', [
    ['one', 1],
    ['two', 1],
  ]);
  expect(after).toEqual({ returnValue: 33, words: [[0], [17]] });
});

test('the older maps section, without BTF', async () => {
  const source = `
    struct bpf_map_def { u32 type, key_size, value_size, max_entries, map_flags; };
    struct bpf_map_def SEC("maps") first = { .type = HASH, .key_size = 4, .value_size = 4, .max_entries = 5 };
    struct bpf_map_def SEC("maps") second = { .type = ARRAY, .key_size = 4, .value_size = 16, .max_entries = 3 };
    SEC("classifier") int older(struct __sk_buff *skb) {
      u32 key = 2;
      u32 *value = map_lookup(&second, &key);
      if (value) value[1] = skb->len;
      map_update(&first, &key, &key, 0);
      return 0;
    }`;
  for (const options of [[], ['-g']]) {
    const after = await run(readElf(compileC(source, options)), 'older', [
      ['first', 2],
      ['second', 2],
    ]);
    expect(after).toEqual({ returnValue: 0, words: [[2], [0, 64, 0, 0]] });
  }
});

test('sections say what programs are; what does not run here is listed, and refused by name', () => {
  const object = readElf(
    compileC(`
      #define PROGRAM(section, name) SEC(section) int name(void *ctx) { return 0; }
      PROGRAM("xdp", a) PROGRAM("xdp.frags", b) PROGRAM("tc", c) PROGRAM("classifier/x", d) PROGRAM("tcx/ingress", e)
      PROGRAM("tc/egress", f) PROGRAM("socket", g) PROGRAM("?xdp", h) PROGRAM("xdp/chain", i)
      PROGRAM("kprobe/tcp_connect", j) PROGRAM("xdp/devmap", k) PROGRAM("cgroup/skb", l)
      extern int nothing(void); SEC("xdp") int m(void *ctx) { return nothing(); }
      extern u32 jiffies_of_kernel; SEC("xdp") int n(void *ctx) { return jiffies_of_kernel; }`),
  );
  const kinds = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'].map((name) => {
    const program = found(object.programs, name);
    const { type, frags } = program.spec();
    return `${program.name} ${type}${frags ? ' frags' : ''} ${program.hook ?? '-'}`;
  });
  expect(kinds).toEqual([
    'a xdp xdp',
    'b xdp frags xdp',
    'c schedCls -',
    'd schedCls -',
    'e schedCls tcIngress',
    'f schedCls tcEgress',
    'g socketFilter -',
    'h xdp xdp',
    'i xdp xdp',
  ]);
  const refusal = (name: string) => () => object.programs.get(name)?.spec();
  expect(refusal('j')).toThrow(
    'program j is in section kprobe/tcp_connect, expected xdp, xdp.frags, tc, tcx/ingress, tcx/egress, socket, sk_skb, sk_msg or sockops',
  );
  expect(refusal('k')).toThrow('section xdp/devmap');
  expect(refusal('l')).toThrow('section cgroup/skb');
  expect(refusal('m')).toThrow('calls nothing, which the object does not define');
  expect(refusal('n')).toThrow('program n refers to jiffies_of_kernel, which the object does not define');
});

test('weak names that nothing defines: variables are 0, calls are poisoned', async () => {
  const object = readElf(
    compileC(`
      extern int absent(void) __attribute__((weak));
      SEC("xdp") int careless(void *ctx) { return absent(); }`),
  );
  const careful = 'extern const u32 gone __attribute__((weak)); SEC("xdp") int careful(void *ctx) { return &gone ? 1 : 7; }';
  expect((await run(readElf(compileC(careful)), 'careful')).returnValue).toBe(7);
  const spec = found(object.programs, 'careless').spec();
  expect(spec.poisons).toEqual([{ pc: 0, reason: 'nothing defines the weak function absent' }]);
  await using instance = await openEngine();
  await expect(instance.loadProgram(spec, new Map())).rejects.toThrow('nothing defines the weak function absent');
});

test('maps that cannot be made spoil nothing but themselves', () => {
  const object = readElf(
    compileC(`
      struct { __uint(type, 7); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4); } events SEC(".maps");
      struct { __uint(type, HASH); __uint(max_entries, 4); __type(key, u32); __uint(value, 4); __uint(colour, 4); } odd SEC(".maps");
      char *pointers[2] = { (char *)0, terms };
      SEC("xdp") int fine(void *ctx) { return 2; }`),
  );
  expect(object.programs.get('fine')?.spec().instructions).toHaveLength(2);
  expect(() => object.maps.get('events')?.definition()).toThrow('map events is of kernel type 7, which Tailrace does not make');
  expect(() => object.maps.get('odd')?.definition()).toThrow("map odd has a field 'colour'");
  expect(() => object.maps.get('.data')?.definition()).toThrow('section .data holds a pointer to terms at byte 8');
});

test('the verifier shows the lines of C, in subprograms too', async () => {
  const object = readElf(
    compileC(`
static noinline u32 wild(u32 *x) { asm volatile("" : "+r"(x)); return x[100]; }
SEC("xdp") int bad(struct xdp_md *ctx) {
  u32 here = 1;
  return wild(&here);
}`),
  );
  await using instance = await openEngine();
  const error = await instance.loadProgram(found(object.programs, 'bad').spec(), new Map()).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(VerifierError);
  expect(error).toMatchObject({ source: { line: 2, text: expect.stringContaining('return x[100];') } });
});

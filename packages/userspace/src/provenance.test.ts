/**
 * What the analyser must not believe. Every program here tries to make it believe that an access is inside where it is not:
 * the interpreter, which believes nothing, and WebAssembly, with and without proofs, have to come to the same end.
 */
import { describe, expect, test } from 'vitest';
import { mapSpec, u32 } from './fixture.ts';
import { FRAME_SIZE, MAP_VALUES, TAG_STACK, WORKER_STACK, WORKERS } from './layout.ts';
import type { UserspaceMap } from './map.ts';
import { pointerTo } from './pointer.ts';
import { LoadedSample, runEveryWay, type Sample, WAYS } from './program-fixture.ts';

const big = mapSpec('array', { name: 'big', valueSize: 0x10008, maxEntries: 1 });
const small = mapSpec('array', { name: 'small', valueSize: 16, maxEntries: 2 });
const ring = mapSpec('ringBuffer', { name: 'ring', maxEntries: 4096 });

/** r0 = a pointer to element 0 of a map, or 0. */
const lookup = (map: string): string => `
  *(u32 *)(r10 -4) = 0
  r1 = map[${map}]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem`;
const out = `
  r0 = 0
  exit`;
/** r0 = a value of `big`; programs end where there is none. */
const bigValue = `${lookup('big')}
  if r0 == 0 goto out`;

/** What the message of a trap says, without addresses. */
function ended(sample: Sample): string {
  const { result } = runEveryWay(sample);
  return String(result).replace(/\(pointer 0x[0-9a-f]+\)/, '(pointer)');
}

describe('bounds of numbers', () => {
  /** `text` makes r1, of which a wrong bound would be at most 0xffff: inside of a value of 0x10008 bytes, 8 of them in front. */
  const offsets: readonly (readonly [name: string, text: string])[] = [
    ['a byte swap of 64 bits in the class of 32', 'r1 = 0x0000ffffffffffff ll\n r1 ^= r9\n r1 = be64 r1\n r1 >>= 16'],
    ['ones above 2^49', 'r1 = 0x2000000000000 ll\n r2 = r9\n r2 += -1\n r1 &= r2\n r3 = r9\n r3 &= 1\n r1 |= r3\n r1 >>= 33'],
    ['a rest by 2^53 + 1', 'r1 = 0x20000000000000 ll\n r1 |= r9\n r2 = 0x20000000000001 ll\n r1 %= r2\n r1 >>= 37'],
    ['a difference below 0', 'r1 = r9\n r1 &= 1\n r1 -= 1\n r1 &= 0x1ffff'],
    ['a difference below 0 in 32 bits', 'r1 = r9\n w1 &= 1\n w1 -= 1\n r1 >>= 15'],
    ['a product that wraps in 32 bits', 'r1 = r9\n w1 += 0x10001\n w1 *= 0x10001\n r1 &= 0x3ffff'],
    ['a sign that is extended', 'r1 = r9\n r1 += 0x80\n r1 = (s8)r1\n r1 &= 0x1ffff'],
    ['a negative number', 'r1 = r9\n r1 += 1\n r1 = -r1\n r1 &= 0x1ffff'],
    ['an arithmetic shift', 'r1 = r9\n r1 += 1\n r1 <<= 63\n r1 s>>= 63\n r1 &= 0x1ffff'],
    ['a comparison that holds for low halves', 'r1 = 0x100000001 ll\n r1 += r9\n if w1 > 5 goto out\n r1 >>= 15'],
    ['a signed comparison', 'r1 = r9\n r1 += -1\n if r1 s> 5 goto out\n r1 &= 0x1ffff'],
    ['a signed comparison of low halves', 'r1 = r9\n r1 += -1\n if w1 s> 5 goto out\n r1 &= 0x1ffff'],
    ['an equality of low halves', 'r1 = 0x100000001 ll\n r1 += r9\n if w1 != 1 goto out\n r1 >>= 15'],
    ['a comparison by a negative number', 'r1 = 0x1ffff ll\n r1 += r9\n if r1 > -1 goto out'],
    ['shifts by more than a register has', 'r1 = 0x1ffff ll\n r1 += r9\n r2 = 64\n r2 += r9\n r1 >>= r2'],
    ['signed division', 'r1 = -1\n r1 += r9\n r2 = 2\n r1 s/= -1\n r1 = -r1\n r1 &= 0x1ffff'],
    ['signed rest', 'r1 = -1\n r1 += r9\n r1 s%= 5\n r1 &= 0x1ffff'],
    ['division by zero', 'r1 = 0x1ffff ll\n r1 += r9\n r2 = r9\n r1 %= r2'],
    ['an atomic that gives the old value', '*(u64 *)(r10 -16) = r8\n r1 = 1\n r1 = atomic64_xchg((u64 *)(r10 -16), r1)'],
    ['a narrow load behind a wide store', '*(u64 *)(r10 -16) = r8\n r1 = *(u32 *)(r10 -16)'],
    ['a word of a stack slot that was changed', '*(u64 *)(r10 -16) = 4\n *(u8 *)(r10 -14) = 1\n r1 = *(u64 *)(r10 -16)'],
  ];
  test.each(offsets)('%s', (_name, text) => {
    const program = `
      call bpf_get_smp_processor_id
      r9 = r0
      r8 = 0x1ffff ll
      ${bigValue}
      r6 = r0
      ${text}
      r6 += r1
      r0 = *(u8 *)(r6 +8)
      r0 += 1000
      exit
      out: ${out}`;
    expect(ended({ text: program, maps: { big } })).toMatch(/read of 1 bytes outside a value of a map \(pointer\)$/);
  });

  test('what the last byte of a value is', () => {
    const at = (offset: number): string => `${bigValue}
      r1 = *(u8 *)(r0 +0)
      r1 &= 0xff
      r1 += ${offset}
      r0 += r1
      r0 = *(u8 *)(r0 +0)
      r0 += 1000
      exit
      out: ${out}`;
    expect(runEveryWay({ text: at(0x10007), maps: { big } }).result).toBe(1000n);
    expect(ended({ text: at(0x10008), maps: { big } })).toContain('read of 1 bytes outside');
  });
});

/** No argument of a call may be anything but a number. */
const nothing = 'r1 = 0\n r2 = 0\n r3 = 0\n r4 = 0\n r5 = 0';

/** Programs that get a stack slot changed behind the analyser's back: it holds a pointer to a value, then a number. */
describe('stack slots', () => {
  const spilled = `
    r6 = r1
    ${bigValue}
    *(u64 *)(r10 -8) = r0`;
  const used = `
    r1 = *(u64 *)(r10 -8)
    r0 = *(u8 *)(r1 +0)
    exit
    out: ${out}`;
  const ways: readonly (readonly [name: string, text: string, behind?: string])[] = [
    ['a narrow store into it', '*(u8 *)(r10 -8) = 9\n *(u16 *)(r10 -6) = 9'],
    ['a store across its start', '*(u64 *)(r10 -12) = 7'],
    ['a store across its end', '*(u32 *)(r10 -4) = 7'],
    ['an atomic addition', 'r2 = 0x100000000 ll\n lock *(u64 *)(r10 -8) += r2'],
    ['an exchange', 'r2 = 5\n r2 = atomic64_xchg((u64 *)(r10 -8), r2)'],
    ['a release', 'r2 = 5\n store_release((u64 *)(r10 -8), r2)'],
    ['a pointer with a variable distance', 'r2 = r10\n r3 = *(u32 *)(r6 +12)\n r2 -= r3\n r2 += -7\n *(u64 *)(r2 +0) = 5'],
    ['a pointer that is no frame pointer by its looks', 'r2 = r10\n r2 ^= 0\n *(u64 *)(r2 -8) = 5'],
    [
      'a pointer out of memory',
      '*(u64 *)(r10 -16) = r10\n r2 = *(u32 *)(r10 -16)\n r3 = *(u32 *)(r10 -12)\n r3 <<= 32\n r2 |= r3\n *(u64 *)(r2 -8) = 5',
    ],
    ['a pointer that was made from one to the packet', 'r2 = *(u32 *)(r6 +0)\n r3 = r10\n r3 -= r2\n r2 += r3\n *(u64 *)(r2 -8) = 5'],
    [
      'a helper that gets such a pointer',
      'r3 = *(u32 *)(r6 +0)\n r2 = r10\n r2 -= r3\n r3 += r2\n r3 += -8\n r1 = r6\n r2 = 0\n r4 = 8\n call bpf_xdp_load_bytes',
    ],
    [
      'a helper that gets a pointer that was made from one to the context',
      'r3 = r6\n r2 = r10\n r2 -= r3\n r3 += r2\n r3 += -8\n r1 = r6\n r2 = 0\n r4 = 8\n call bpf_xdp_load_bytes',
    ],
    ['a helper that writes there', 'r1 = r6\n r2 = 0\n r3 = r10\n r3 += -8\n r4 = 8\n call bpf_xdp_load_bytes'],
    ['a helper that writes across it', 'r1 = r6\n r2 = 0\n r3 = r10\n r3 += -16\n r4 = 16\n call bpf_xdp_load_bytes'],
    ['a subprogram that gets its address', 'r1 = r10\n call write', 'write: *(u64 *)(r1 -8) = 5\n r0 = 0\n exit'],
    [
      'a subprogram that gets it through another one',
      'r1 = r10\n r1 += -8\n call between',
      'between: r1 += -8\n call write\n r0 = 0\n exit\n write: *(u64 *)(r1 +8) = 5\n r0 = 0\n exit',
    ],
    [
      'a subprogram that gets it in a map',
      `${lookup('small')}\n if r0 == 0 goto out\n r7 = *(u64 *)(r10 -8)\n r7 >>= 32\n *(u32 *)(r10 -4) = r7\n *(u64 *)(r0 +0) = r10\n ${nothing}\n call write`,
      `write: ${lookup('small')}\n if r0 == 0 goto out\n r1 = *(u64 *)(r0 +0)\n *(u64 *)(r1 -8) = 5\n r0 = 0\n exit`,
    ],
    [
      'a subprogram that gets it in two halves',
      `${lookup('small')}\n if r0 == 0 goto out\n r7 = *(u64 *)(r10 -8)\n r1 = r10\n *(u32 *)(r0 +0) = r1\n r1 >>= 32\n *(u32 *)(r0 +4) = r1\n ${nothing}\n call write`,
      `write: ${lookup('small')}\n if r0 == 0 goto out\n r1 = *(u64 *)(r0 +0)\n *(u64 *)(r1 -8) = 5\n r0 = 0\n exit`,
    ],
    [
      'a subprogram that knows where its caller is',
      `${nothing}\n ${nothing}\n call write`,
      'write: r1 = r10\n r2 = 0x100000200 ll\n r1 -= r2\n *(u64 *)(r1 -8) = 5\n r0 = 0\n exit',
    ],
    [
      'one that goes there in two steps',
      `${nothing}\n ${nothing}\n call write`,
      'write: r1 = r10\n r2 = 0x80000100 ll\n r1 -= r2\n r1 -= r2\n *(u64 *)(r1 -8) = 5\n r0 = 0\n exit',
    ],
    [
      'one that calls another one, which knows',
      `${nothing}\n call between`,
      'between: call write\n r0 = 0\n exit\n write: r1 = r10\n r2 = 0x200000400 ll\n r1 -= r2\n *(u64 *)(r1 -8) = 5\n r0 = 0\n exit',
    ],
    [
      'a subprogram by a helper',
      'r1 = r6\n r2 = 0\n r3 = 0\n r4 = 0\n r5 = 0\n call write',
      'write: r3 = r10\n r2 = 0x100000208 ll\n r3 -= r2\n r2 = 0\n r4 = 8\n call bpf_xdp_load_bytes\n r0 = 0\n exit',
    ],
    [
      'a callback that gets its address',
      'r1 = 1\n r2 = subprog[write]\n r3 = r10\n r4 = 0\n call bpf_loop',
      'write: *(u64 *)(r2 -8) = 5\n r0 = 0\n exit',
    ],
    [
      'a callback that knows where it is',
      'r1 = 1\n r2 = subprog[write]\n r3 = 0\n r4 = 0\n call bpf_loop',
      'write: r1 = r10\n r2 = 0x100000200 ll\n r1 -= r2\n *(u64 *)(r1 -8) = 5\n r0 = 0\n exit',
    ],
    [
      'a callback for each entry',
      'r1 = map[small]\n r2 = subprog[write]\n r3 = r10\n r4 = 0\n call bpf_for_each_map_elem',
      'write: *(u64 *)(r4 -8) = 5\n r0 = 0\n exit',
    ],
    [
      'a callback of a subprogram',
      'r1 = subprog[write]\n r2 = r10\n r3 = 0\n r4 = 0\n r5 = 0\n call between',
      'between: r3 = r2\n r2 = r1\n r1 = 1\n r4 = 0\n call bpf_loop\n r0 = 0\n exit\n write: *(u64 *)(r2 -8) = 5\n r0 = 0\n exit',
    ],
  ];
  test.each(ways)('%s', (_name, text, behind = '') => {
    const { result } = runEveryWay({ text: `${spilled}\n${text}\n${used}\n${behind}`, maps: { big, small } });
    expect(result).toMatch(/^program sample, pc \d+: read of 1 bytes outside/);
  });

  test('a function that gets what another one has changed, and lies before both', () => {
    const text = `call between
      exit
      use: r0 = *(u8 *)(r1 +0)
      exit
      between: ${bigValue}
      *(u64 *)(r10 -8) = r0
      ${nothing}
      call write
      r1 = *(u64 *)(r10 -8)
      call use
      exit
      out: ${out}
      write: r1 = r10
      r2 = 0x100000200 ll
      r1 -= r2
      *(u64 *)(r1 -8) = 5
      r0 = 0
      exit`;
    expect(ended({ text, maps: { big } })).toMatch(/read of 1 bytes outside anything/);
  });

  test('a value that was moved until it was in the stack', () => {
    const loaded = new LoadedSample({ text: out, maps: { big, small } }, 'interpreter');
    const { tag, address } = loaded.maps.get('big') as UserspaceMap;
    const value = pointerTo(tag, loaded.memory.view.getUint32(address + MAP_VALUES, true));
    const slot = pointerTo(TAG_STACK, WORKERS + WORKER_STACK + FRAME_SIZE - 8);
    const steps = Number((value - slot) / 0x3fff_0000n);
    const text = `${spilled}
      ${'r0 += -0x3fff0000\n'.repeat(steps)}
      r0 += -${(value - slot) % 0x3fff_0000n}
      *(u64 *)(r0 +0) = 5
      ${used}`;
    expect(steps).toBeGreaterThan(100);
    expect(ended({ text, maps: { big, small } })).toMatch(/read of 1 bytes outside anything/);
  });

  test('a program that a subprogram goes to', () => {
    const result = runEveryWay({
      text: `${spilled}\n ${nothing}\n r1 = r6\n call go\n ${used}\n go: r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit`,
      maps: { big, programs: mapSpec('programArray') },
      programs: { 0: 'r1 = r10\n r2 = 0x100000200 ll\n r1 -= r2\n *(u64 *)(r1 -8) = 5\n r0 = 0\n exit' },
    });
    expect(result.result).toMatch(/read of 1 bytes outside/);
  });

  test('what stays known is still right', () => {
    const { result } = runEveryWay({
      text: `${spilled}
        *(u64 *)(r10 -16) = 5
        *(u8 *)(r10 -9) = 1
        r1 = 3
        call add
        r2 = *(u64 *)(r10 -8)
        r2 += 0x10000
        r2 = *(u64 *)(r2 +0)
        r0 += r2
        exit
        out: ${out}
        add: *(u64 *)(r10 -8) = 7
        r0 = *(u64 *)(r10 -8)
        r0 += r1
        exit`,
      maps: { big },
    });
    expect(result).toBe(10n);
  });
});

describe('stack slots that nobody else writes', () => {
  const ways: readonly (readonly [name: string, text: string, behind?: string])[] = [
    ['a helper that writes beside them', 'r1 = r6\n r2 = 0\n r3 = r10\n r3 += -16\n r4 = 8\n call bpf_xdp_load_bytes'],
    ['a helper that reads them', 'r1 = r6\n r2 = 0\n r3 = r10\n r3 += -8\n r4 = 8\n call bpf_xdp_store_bytes'],
    ['a callback that writes nowhere', 'r1 = 2\n r2 = subprog[count]\n r3 = 0\n r4 = 0\n call bpf_loop', 'count: r0 = 0\n exit'],
  ];
  const spilled = `r6 = r1\n ${bigValue}\n *(u64 *)(r10 -8) = r0`;
  const used = `r1 = *(u64 *)(r10 -8)\n r0 = *(u8 *)(r1 +0)\n exit\n out: ${out}`;
  const isProved = (text: string): boolean => {
    const sample = { text, maps: { big } };
    runEveryWay(sample);
    const { code, provenance } = new LoadedSample(sample, 'wasm').program;
    const pc = code.findIndex((operation) => operation?.opcode === 0x71 && operation.dst === 0 && operation.src === 1);
    return provenance.accesses.get(pc)?.kind === 'proved';
  };

  test.each(ways)('%s', (_name, text, behind = '') => {
    expect(isProved(`${spilled}\n ${text}\n ${used}\n ${behind}`)).toBe(true);
  });
});

describe('pointers that may be null', () => {
  test.each<readonly [name: string, text: string]>([
    [
      'one that was set to 0 beside a copy',
      'r7 = r0\n r1 = *(u32 *)(r6 +12)\n if r1 == 1 goto zero\n goto join\n zero: r7 = 0\n join: if r0 == 0 goto out\n r1 = r7',
    ],
    [
      'one that was set to 0 in a stack slot',
      '*(u64 *)(r10 -16) = r0\n r1 = *(u32 *)(r6 +12)\n if r1 != 1 goto join\n *(u64 *)(r10 -16) = 0\n join: if r0 == 0 goto out\n r1 = *(u64 *)(r10 -16)',
    ],
    ['a test of the lower half', 'r7 = r0\n r0 >>= 32\n if w0 == 0 goto out\n r0 = r7\n if w0 == 7 goto out\n r1 = 0'],
    [
      'an answer of an earlier turn',
      `r7 = r0\n *(u32 *)(r10 -4) = 9\n r1 = map[small]\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n r1 = r0\n if r7 == 0 goto out`,
    ],
    ['a test with the wrong sign', 'r1 = 0\n if r0 != 0 goto out'],
  ])('%s', (_name, text) => {
    expect(
      ended({ text: `r6 = r1\n ${lookup('small')}\n ${text}\n r0 = *(u8 *)(r1 +0)\n exit\n out: r0 = 77\n exit`, maps: { small } }),
    ).toMatch(/read of 1 bytes outside a null pointer$|^77$/);
  });

  test('the same lookup in a loop: the old answer is not the new one', () => {
    const text = `
      r6 = 0
      r7 = 0
      again: *(u32 *)(r10 -4) = r6
      r1 = map[small]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r6 == 0 goto first
      if r7 == 0 goto out
      r0 = *(u8 *)(r0 +0)
      exit
      first: r7 = r0
      r6 = 9
      goto again
      out: ${out}`;
    expect(ended({ text, maps: { small } })).toMatch(/read of 1 bytes outside a null pointer$/);
  });

  test('two lookups, one test: the pointer that was tested is known', () => {
    const text = `
      r6 = r1
      ${lookup('small')}
      if r0 != 0 goto found
      ${lookup('small')}
      found: if r0 == 0 goto out
      r0 = *(u64 *)(r0 +8)
      r0 += 5
      exit
      out: ${out}`;
    expect(runEveryWay({ text, maps: { small } }).result).toBe(5n);
    const { provenance } = new LoadedSample({ text, maps: { small } }, 'wasm').program;
    expect([...provenance.accesses.values()].map(({ kind }) => kind)).toEqual(['proved', 'proved', 'proved']);
  });
});

describe('values', () => {
  const tables: readonly (readonly [name: string, sample: Sample, end: RegExp])[] = [
    [
      'that programs read only',
      {
        text: `${lookup('table')}\n if r0 == 0 goto out\n r1 = *(u8 *)(r0 +0)\n *(u8 *)(r0 +0) = 1\n out: ${out}`,
        maps: { table: mapSpec('array', { name: 'table', flags: 128 }) },
      },
      /write of 1 bytes outside a value of a map/,
    ],
    [
      'that programs read only, by an atomic',
      {
        text: `${lookup('table')}\n if r0 == 0 goto out\n r1 = 1\n lock *(u64 *)(r0 +0) += r1\n out: ${out}`,
        maps: { table: mapSpec('array', { name: 'table', flags: 128 }) },
      },
      /write of 8 bytes outside a value of a map/,
    ],
    [
      'that programs read only, by a helper',
      {
        text: `r6 = r1\n ${lookup('table')}\n if r0 == 0 goto out\n r1 = r6\n r2 = 0\n r3 = r0\n r4 = 4\n call bpf_xdp_load_bytes\n out: ${out}`,
        maps: { table: mapSpec('array', { name: 'table', flags: 128 }) },
      },
      /write of 4 bytes outside a value of a map/,
    ],
    [
      'of a devmap',
      {
        text: `${lookup('table')}\n if r0 == 0 goto out\n r1 = *(u32 *)(r0 +0)\n *(u32 *)(r0 +0) = 1\n out: ${out}`,
        maps: { table: mapSpec('devmap', { name: 'table' }) },
        entries: { table: [[u32(0), u32(3)]] },
      },
      /write of 4 bytes outside a value of a map/,
    ],
    [
      'of a cpumap, which are no memory',
      {
        text: `${lookup('table')}\n if r0 == 0 goto out\n r0 = *(u32 *)(r0 +0)\n exit\n out: ${out}`,
        maps: { table: mapSpec('cpumap', { name: 'table' }) },
        entries: { table: [[u32(0), u32(3)]] },
      },
      /read of 4 bytes outside a value of a map/,
    ],
  ];
  test.each(tables)('%s', (_name, sample, end) => {
    expect(ended(sample)).toMatch(end);
  });

  test.each<readonly [name: string, type: 'hash' | 'ringBuffer' | 'arrayOfMaps' | 'programArray', message: string]>([
    ['of hashes', 'hash', 'a map of type hash with 64 entries, expected an array of one'],
    ['of rings', 'ringBuffer', 'a map of type ringBuffer with 4096 entries, expected an array of one'],
    ['of maps of maps', 'arrayOfMaps', 'a map of type arrayOfMaps with 64 entries, expected an array of one'],
    ['of program arrays', 'programArray', 'a map of type programArray with 64 entries, expected an array of one'],
  ])('addresses of values %s are refused', (_name, type, message) => {
    const table = mapSpec(type, {
      name: 'table',
      ...(type === 'ringBuffer' ? { maxEntries: 4096 } : {}),
      ...(type === 'arrayOfMaps' ? { inner: mapSpec('array') } : {}),
    });
    const text = `r1 = map[table][0]+0\n *(u32 *)(r1 +0) = 1\n ${out}`;
    for (const way of WAYS)
      expect(() => new LoadedSample({ text, maps: { table } }, way)).toThrow(
        `program sample, pc 0: the address of a value in map table, ${message}`,
      );
  });

  test('addresses behind a value are refused', () => {
    const one = mapSpec('array', { name: 'one', maxEntries: 1 });
    const text = (at: number): string => `r1 = map[one][0]+${at}\n r0 = *(u8 *)(r1 +0)\n exit`;
    expect(() => new LoadedSample({ text: text(16), maps: { one } }, 'wasm')).toThrow(
      'program sample, pc 0: the address of a value in map one at byte 16 of 16',
    );
    expect(runEveryWay({ text: text(15), maps: { one } }).result).toBe(0n);
  });
});

describe('pointers to the context', () => {
  test('a load of four bytes by a pointer that is not known to be one gives a pointer', () => {
    const text = `
      r6 = r1
      ${bigValue}
      r6 ^= 0
      r1 = *(u32 *)(r6 +0)
      r1 >>= 16
      r0 += r1
      r0 = *(u8 *)(r0 +0)
      exit
      out: ${out}`;
    expect(ended({ text, maps: { big } })).toMatch(/read of 1 bytes outside a value of a map/);
  });

  test('a load that extends the sign gives no pointer', () => {
    const text = (pointer: string): string => `${pointer}\n r0 = *(s32 *)(r1 +0)\n exit`;
    for (const way of WAYS)
      expect(() => new LoadedSample({ text: text('r2 = 0') }, way)).toThrow(
        'program sample, pc 1: a load that extends the sign of data of the context',
      );
    expect(ended({ text: text('r1 ^= 0') })).toBe('program sample, pc 1: read of 4 bytes outside the context of 256 bytes (pointer)');
  });

  test('atomics are refused', () => {
    const text = 'r2 = 1\n lock *(u32 *)(r1 +48) += r2\n r0 = 0\n exit';
    for (const way of WAYS)
      expect(() => new LoadedSample({ type: 'schedCls', text }, way)).toThrow(
        'program sample, pc 1: an atomic access to cb of the context',
      );
    const hidden = 'r1 ^= 0\n r2 = 1\n lock *(u32 *)(r1 +48) += r2\n r0 = 0\n exit';
    expect(ended({ type: 'schedCls', text: hidden })).toMatch(/write of 4 bytes outside the context/);
  });

  test('stores by a pointer that is not known meet the same fields', () => {
    const store = (bits: number, offset: number): string =>
      `r6 = r1\n r1 ^= 0\n r2 = 0x12345678 ll\n *(u${bits} *)(r1 +${offset}) = r2\n r0 = *(u${bits} *)(r6 +${offset})\n exit`;
    expect(runEveryWay({ type: 'schedCls', text: store(32, 8) }).result).toBe(0x12345678n);
    expect(runEveryWay({ type: 'schedCls', text: store(32, 12) }).result).toBe(0x5678n);
    expect(runEveryWay({ type: 'schedCls', text: store(16, 50) }).result).toBe(0x5678n);
    expect(runEveryWay({ type: 'schedCls', text: store(64, 152) }).result).toBe(0x12345678n);
    expect(runEveryWay({ type: 'socketFilter', text: store(8, 67) }).result).toBe(0x78n);
    expect(ended({ type: 'schedCls', text: store(16, 8).replace('r0 = *(u16 *)(r6 +8)', 'r0 = 0') })).toMatch(/write of 2 bytes/);
    expect(ended({ type: 'socketFilter', text: store(32, 8) })).toMatch(/write of 4 bytes outside the context/);
    expect(ended({ text: store(32, 12) })).toMatch(/write of 4 bytes outside the context/);
  });
});

/** r6: the context, r7: the packet's start, r8: its end. */
const ends = `
  r6 = r1
  r7 = *(u32 *)(r6 +0)
  r8 = *(u32 *)(r6 +4)`;

describe('packets', () => {
  const beyond: readonly (readonly [name: string, text: string])[] = [
    ['another pointer was compared', 'r1 = r7\n r1 += 70\n r2 = r7\n r2 += 14\n if r2 > r8 goto out\n r1 = r7\n r1 += 63'],
    ['the comparison is the other way round', 'r1 = r7\n r1 += 65\n if r1 < r8 goto out\n r1 = r7\n r1 += 63'],
    ['the end was compared with itself and more', 'r1 = r7\n r1 += 65\n r2 = r8\n r2 += 100\n if r1 > r2 goto out\n r1 = r7\n r1 += 63'],
    ['lower halves were compared', 'r1 = r7\n r1 += 64\n if w1 > w8 goto out\n r1 = r7\n r1 += 63'],
    ['the start moved on', 'r1 = r7\n r1 += 14\n if r1 > r8 goto out\n r1 = r7\n r1 += 63'],
    ['a pointer moved by a variable', 'r1 = r7\n r1 += 60\n if r1 > r8 goto out\n r1 = r7\n r2 = *(u8 *)(r7 +3)\n r1 += r2\n r1 += 60'],
    [
      'a copy was made before a variable move',
      'r9 = r7\n r2 = *(u32 *)(r6 +12)\n r9 += r2\n r1 = r9\n r1 += 60\n if r1 > r8 goto out\n r9 += r2\n r1 = r9\n r1 += 61',
    ],
    [
      'a pointer in a stack slot moved on',
      '*(u64 *)(r10 -8) = r7\n r1 = r7\n r1 += 50\n if r1 > r8 goto out\n r1 = *(u64 *)(r10 -8)\n r1 += 63',
    ],
    ['a pointer went below the start', 'r1 = r7\n r1 += -1\n r2 = r7\n r2 += 14\n if r2 > r8 goto out\n r1 += -1'],
    ['a pointer went round', 'r1 = r7\n r2 = 0x7fffffff00000000 ll\n r1 += r2\n r1 += r2\n r1 += 14\n if r1 > r8 goto out\n r1 += 40'],
    [
      'two ends met',
      'r1 = r7\n r1 += 40\n if r1 > r8 goto out\n r2 = *(u32 *)(r6 +12)\n r9 = r7\n if r2 == 1 goto far\n r9 += 10\n goto join\n far: r9 += 30\n join: r1 = r9\n r1 += 33',
    ],
  ];
  test.each(beyond)('what was checked is not this: %s', (_name, text) => {
    expect(ended({ text: `${ends}\n ${text}\n r0 = *(u16 *)(r1 +0)\n exit\n out: r0 = 77\n exit` })).toMatch(
      /read of 2 bytes outside|^77$/,
    );
  });

  test.each<readonly [name: string, text: string, behind: string]>([
    ['by a helper', 'r1 = r6\n r2 = 40\n call bpf_xdp_adjust_head', ''],
    ['by a subprogram', 'r1 = r6\n call move', 'move: r2 = 40\n call bpf_xdp_adjust_head\n r0 = 0\n exit'],
    [
      'by a subprogram of a subprogram',
      'r1 = r6\n call between',
      'between: call move\n r0 = 0\n exit\n move: r2 = 40\n call bpf_xdp_adjust_head\n r0 = 0\n exit',
    ],
    [
      'by a callback',
      'r1 = 1\n r2 = subprog[move]\n r3 = r6\n r4 = 0\n call bpf_loop',
      'move: r1 = r2\n r2 = 40\n call bpf_xdp_adjust_head\n r0 = 0\n exit',
    ],
    [
      'by a callback that a subprogram was given',
      'r1 = subprog[move]\n r2 = r6\n call between',
      'between: r3 = r2\n r2 = r1\n r1 = 1\n r4 = 0\n call bpf_loop\n r0 = 0\n exit\n move: r1 = r2\n r2 = 40\n call bpf_xdp_adjust_head\n r0 = 0\n exit',
    ],
    [
      'by a callback for each entry',
      'r1 = map[small]\n r2 = subprog[move]\n r3 = r6\n r4 = 0\n call bpf_for_each_map_elem',
      'move: r1 = r4\n r2 = 40\n call bpf_xdp_adjust_head\n r0 = 1\n exit',
    ],
    ['at its end', 'r1 = r6\n r2 = -40\n call bpf_xdp_adjust_tail', ''],
  ])('pointers are stale once it is moved: %s', (_name, text, behind) => {
    const checked = 'r1 = r7\n r1 += 64\n if r1 > r8 goto out\n *(u64 *)(r10 -8) = r7';
    for (const pointer of ['r9 = r7', 'r9 = *(u64 *)(r10 -8)']) {
      const read = `${pointer}\n r0 = *(u16 *)(r9 +0)\n r0 = *(u16 *)(r9 +40)\n exit`;
      expect(ended({ text: `${ends}\n ${checked}\n ${text}\n ${read}\n out: ${out}\n ${behind}`, maps: { small } })).toMatch(
        /read of 2 bytes outside the packet/,
      );
    }
  });

  test('a program that comes back from a tail call may have moved it', () => {
    const text = `${ends}
      r1 = r7
      r1 += 64
      if r1 > r8 goto out
      r1 = r6
      call go
      r0 = *(u16 *)(r7 +0)
      exit
      out: ${out}
      go: r2 = map[programs]
      r3 = 0
      call bpf_tail_call
      r0 = 0
      exit`;
    const sample = {
      text,
      maps: { programs: mapSpec('programArray') },
      programs: { 0: 'r2 = 40\n call bpf_xdp_adjust_head\n r0 = 0\n exit' },
    };
    expect(ended(sample)).toMatch(/read of 2 bytes outside the packet/);
  });

  test('loops: a pointer that moves on is checked each time, and its copies are what they were', () => {
    // r7 walks by what it reads, r9 is where it was, r5 two steps before
    const walk = (last: string): string => `${ends}
      r9 = r7
      r5 = r7
      r4 = 0
      again: r1 = r7
      r1 += 8
      if r1 > r8 goto out
      r2 = *(u64 *)(r7 +0)
      r4 += r2
      ${last}
      r5 = r9
      r9 = r7
      r2 = *(u8 *)(r7 +0)
      r2 &= 7
      r2 += 1
      r7 += r2
      goto again
      out: r0 = r4
      exit`;
    const walked = runEveryWay({ text: walk('r2 = *(u64 *)(r9 +0)\n r4 ^= r2\n r2 = *(u64 *)(r5 +0)\n r4 += r2') }).result;
    expect(typeof walked).toBe('bigint');
    // what r9 points to is 8 bytes and no more behind where it was
    expect(ended({ text: walk('r2 = *(u64 *)(r9 +8)\n r4 += r2') })).toMatch(/read of 8 bytes outside the packet|^\d+$/);
    expect(ended({ text: walk('r2 = *(u64 *)(r7 +8)\n r4 += r2') })).toMatch(/read of 8 bytes outside the packet/);
  });

  test('loops: copies in stack slots, and a jump into the middle', () => {
    const text = (offset: number): string => `${ends}
      *(u64 *)(r10 -8) = r7
      *(u64 *)(r10 -16) = r7
      r3 = *(u32 *)(r6 +12)
      if r3 == 5 goto middle
      again: r1 = r7
      r1 += 10
      if r1 > r8 goto out
      r1 = *(u64 *)(r10 -16)
      r1 = *(u16 *)(r1 +${offset})
      r2 = *(u64 *)(r10 -8)
      *(u64 *)(r10 -16) = r2
      *(u64 *)(r10 -8) = r7
      middle: r7 += r3
      goto again
      out: r0 = 77
      exit`;
    expect(runEveryWay({ text: text(8) }).result).toBe(77n);
    expect(ended({ text: text(12) })).toMatch(/read of 2 bytes outside the packet|^77$/);
  });

  test('inner loops give places back to outer ones', () => {
    const text = `${ends}
      r9 = r7
      r5 = 0
      outer: r4 = 0
      r9 = r7
      inner: r1 = r7
      r1 += 4
      if r1 > r8 goto done
      r2 = *(u32 *)(r7 +0)
      r5 += r2
      r2 = *(u8 *)(r7 +0)
      r2 &= 3
      r2 += 1
      r7 += r2
      r4 += 1
      if r4 < 3 goto inner
      r2 = *(u32 *)(r9 +0)
      r5 ^= r2
      goto outer
      done: r2 = *(u32 *)(r9 +0)
      r0 = r5
      exit`;
    expect(ended({ text })).toMatch(/^\d+$/);
    expect(ended({ text: text.replaceAll('*(u32 *)(r9 +0)', '*(u32 *)(r9 +63)') })).toMatch(/read of 4 bytes outside the packet/);
  });

  test('pointers that left the packet are what the interpreter takes them for', () => {
    const text = `${ends}\n r2 = r10\n r2 -= r7\n r7 += r2\n *(u64 *)(r7 -8) = 5\n r0 = *(u64 *)(r7 -8)\n exit`;
    expect(runEveryWay({ text }).result).toBe(5n);
    const context = `${ends}\n r2 = r6\n r2 -= r7\n r7 += r2\n r1 = *(u32 *)(r7 +4)\n r0 = 9\n if r1 != r8 goto out\n r0 = 1\n out: exit`;
    expect(runEveryWay({ text: context }).result).toBe(1n);
  });
});

describe('records', () => {
  const reserve = 'r1 = map[ring]\n r2 = 16\n r3 = 0\n call bpf_ringbuf_reserve\n if r0 == 0 goto out\n r6 = r0\n *(u64 *)(r6 +8) = 1';
  const submit = 'r1 = r6\n r2 = 0\n call bpf_ringbuf_submit';
  test.each<readonly [name: string, text: string, behind: string]>([
    ['here', submit, ''],
    ['by a copy', `r7 = r6\n r6 = 0\n r1 = r7\n r2 = 0\n call bpf_ringbuf_discard\n r6 = r7`, ''],
    ['by a subprogram', 'r1 = r6\n call send', 'send: r2 = 0\n call bpf_ringbuf_submit\n r0 = 0\n exit'],
    [
      'by a callback',
      'r1 = 1\n r2 = subprog[send]\n r3 = r6\n r4 = 0\n call bpf_loop',
      'send: r1 = r2\n r2 = 0\n call bpf_ringbuf_submit\n r0 = 0\n exit',
    ],
  ])('nobody writes one that was handed over: %s', (_name, text, behind) => {
    expect(ended({ text: `${reserve}\n ${text}\n *(u64 *)(r6 +0) = 1\n out: ${out}\n ${behind}`, maps: { ring } })).toMatch(
      /write of 8 bytes outside a record/,
    );
  });

  test('one is as long as was asked for', () => {
    const write = (text: string): string => ended({ text: `${reserve}\n ${text}\n ${submit}\n out: ${out}`, maps: { ring } });
    expect(write('*(u8 *)(r6 +15) = 1')).toBe('0');
    expect(write('*(u16 *)(r6 +15) = 1')).toMatch(/write of 2 bytes outside a record/);
    expect(write('*(u8 *)(r6 -1) = 1')).toMatch(/write of 1 bytes outside a record/);
  });

  test('two in a row, of which the second is still open', () => {
    const text = `${reserve}\n r7 = r6\n r1 = map[ring]\n r2 = 8\n r3 = 0\n call bpf_ringbuf_reserve\n if r0 == 0 goto out\n r6 = r0
      *(u64 *)(r7 +8) = 2\n ${submit}\n *(u64 *)(r7 +8) = 2\n *(u64 *)(r6 +0) = 2\n out: ${out}`;
    expect(ended({ text, maps: { ring } })).toMatch(/write of 8 bytes outside a record/);
  });
});

describe('maps', () => {
  const inner = mapSpec('array', { name: 'inner', valueSize: 16, maxEntries: 2 });
  const outer = mapSpec('arrayOfMaps', { name: 'outer', inner });

  test('a pointer to a map cannot be made up', () => {
    // a descriptor as the runtime wants it, in the value of a map
    const text = (kind: number): string => `${bigValue}
      r6 = r0
      *(u32 *)(r6 +0) = ${kind}
      *(u32 *)(r6 +4) = 4
      *(u32 *)(r6 +8) = 8
      *(u32 *)(r6 +12) = 1
      *(u32 *)(r6 +20) = 32
      *(u32 *)(r6 +24) = 65536
      *(u32 *)(r6 +36) = 8
      r1 = r6
      w1 = w1
      r2 = 0xb00000000 ll
      r1 |= r2
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      exit
      out: ${out}`;
    for (const kind of [1, 2, 33])
      expect(ended({ text: text(kind), maps: { big } })).toMatch(/a helper takes a map of its kind, got a map \(pointer\)$/);
  });

  test.each<readonly [address: string]>([
    ['0xb00000000'],
    ['0xb00000001'],
    ['0xbffffffff'],
    ['0xb00010000'],
    ['0xb00564000'],
    ['0xbf0000000'],
  ])('nor one to %s', (address) => {
    const text = `r1 = ${address} ll\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n exit`;
    expect(ended({ text })).toMatch(/a helper takes a map of its kind/);
  });

  test('one that lies beside: its own is taken', () => {
    const text = `
      r1 = map[small]
      r1 ^= 0
      *(u32 *)(r10 -4) = 1
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      *(u64 *)(r0 +8) = 5
      r0 = *(u64 *)(r0 +8)
      exit
      out: ${out}`;
    expect(runEveryWay({ text, maps: { small } }).result).toBe(5n);
  });

  test('one that may be null', () => {
    const text = `
      r7 = map[small]
      r1 = *(u32 *)(r1 +12)
      if r1 != 1 goto known
      r7 = 0
      known: *(u32 *)(r10 -4) = 0
      r1 = r7
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      r0 = 9
      exit`;
    expect(ended({ text, maps: { small } })).toBe('program sample, pc 9: a helper takes a map of its kind, got a null pointer');
  });

  test('inner maps, looked up and not', () => {
    const text = (test: string): string => `
      *(u32 *)(r10 -4) = 1
      r1 = map[outer]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      ${test}
      r1 = r0
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      *(u64 *)(r0 +8) = 5
      r0 = *(u64 *)(r0 +8)
      exit
      out: r0 = 77
      exit`;
    const sample = (test: string, at: number): Sample => ({
      text: text(test),
      maps: { outer, inner },
      inner: { outer: [[u32(at), 'inner']] },
    });
    expect(runEveryWay(sample('if r0 == 0 goto out', 1)).result).toBe(5n);
    expect(runEveryWay(sample('if r0 == 0 goto out', 0)).result).toBe(77n);
    expect(runEveryWay(sample('', 1)).result).toBe(5n);
    expect(ended(sample('', 0))).toMatch(/a helper takes a map of its kind, got a null pointer/);
    expect(ended(sample('if r0 == 0 goto out\n r0 = *(u32 *)(r0 +0)', 1))).toMatch(/read of 4 bytes outside a map/);
  });

  test('one of a kind that the helper does not take is refused', () => {
    const text = 'r1 = map[ring]\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n exit';
    for (const way of WAYS)
      expect(() => new LoadedSample({ text, maps: { ring } }, way)).toThrow(
        'program sample, pc 4: bpf_map_lookup_elem is given map ring of type ringBuffer',
      );
    expect(ended({ text: text.replace('r2 = r10', 'r1 ^= 0\n r2 = r10'), maps: { ring } })).toMatch(
      /pc 5: a helper takes a map of its kind, got a map/,
    );
  });
});

test('a program that is given up is checked throughout, and its tail calls are counted', () => {
  // each visit finds one byte less behind the pointer
  const body = Array.from({ length: 300 }, () => 'r4 += 1').join('\n');
  const text = `${ends}
    r1 = r7
    r1 += 1500
    if r1 > r8 goto go
    again: r2 = *(u8 *)(r7 +0)
    ${body}
    r7 += 1
    if r4 < r2 goto again
    go: r1 = r6
    r2 = map[programs]
    r3 = 0
    call bpf_tail_call
    r0 = 5
    exit`;
  const loaded = new LoadedSample({ text, maps: { programs: mapSpec('programArray') } }, 'wasm');
  expect(loaded.program.provenance.isComplete).toBe(false);
  void loaded.maps.get('programs')?.setProgram(0, loaded.program);
  expect(loaded.run().result).toBe(5n);
});

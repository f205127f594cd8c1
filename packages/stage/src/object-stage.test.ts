import { MapFlag, type MapSource, readElf } from '@tailrace/bpf';
import { assembledObject } from '@tailrace/testing';
import { describe, expect, test } from 'vitest';
import { ConflictError } from './binding.ts';
import { arrayMap, hash, programArray } from './map.ts';
import { toMapSpec } from './map-spec.ts';
import { type ObjectHook, objectStage } from './object-stage.ts';
import { queue } from './queue.ts';
import { mapsIn } from './reach.ts';
import { ringBuffer } from './ring-buffer.ts';
import { array, struct, u8, u16, u32, u64 } from './schema.ts';
import { stage } from './stage.ts';

const spec = { name: 'flows', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 16, flags: 0 } as const;
const flows = hash({ name: 'flows', key: u32, value: u64, maxEntries: 16 });
const named = (...maps: readonly string[]) => `${maps.map((map) => `r1 = map[${map}]\n`).join('')}r0 = 2\nexit`;
const objectWith = (maps: readonly MapSource[], names = maps.map((map) => ('spec' in map ? map.spec : map).name)) =>
  assembledObject([{ name: 'main', text: named(...names) }], maps);
const bytes = objectWith([spec]);
const made = (rest: Partial<Parameters<typeof objectStage>[0]> = {}) =>
  objectStage({ name: 'main', hook: 'xdp', object: bytes, ...(rest as object) });

describe('a stage out of an object', () => {
  test('is data, and composes as others do', () => {
    const main = objectStage({ name: 'main', hook: 'xdp', object: bytes, uses: { flows }, exits: { big: [5, -6] }, onMiss: 'drop' });
    expect(main).toMatchObject({
      kind: 'stage',
      name: 'main',
      hook: 'xdp',
      onMiss: 'drop',
      wiring: {},
      reads: {},
      writes: {},
      uses: { flows },
    });
    expect(main.object).toMatchObject({ next: 'pass', spec: { name: 'main' } });
    expect([...(main.object?.ways ?? [])]).toEqual([
      [5, 'exit:big'],
      [0xffff_fffa, 'exit:big'],
    ]);
    const other = hash({ name: 'others', key: u32, value: u64, maxEntries: 16 });
    const bound = main.as('second').on({ big: 'drop' }).with({ flows: other });
    expect(bound).toMatchObject({ name: 'second', wiring: { big: 'drop' }, uses: { flows: other } });
    expect(bound.object).toBe(main.object);
    expect(() => (main.program as () => void)()).toThrow("stage 'main' is program main of an object, which only engines can run");
  });

  test('has the types of its exits and maps', () => {
    const main = objectStage({ name: 'main', hook: 'xdp', object: bytes, uses: { flows }, exits: { big: 5 } });
    const other = hash({ name: 'others', key: u32, value: u32, maxEntries: 16 });
    const atTc = assembledObject([{ name: 'main', type: 'schedCls', text: named() }]);
    // @ts-expect-error: an exit that it does not have
    main.on({ small: 'drop' });
    // @ts-expect-error: a map of other values
    expect(() => main.with({ flows: other })).toThrow(ConflictError);
    // @ts-expect-error: no verdict of the hook
    expect(() => objectStage({ name: 'main', hook: 'tc', object: atTc, next: 'tx' })).toThrow("next is 'tx'");
    // @ts-expect-error: no hook for objects
    expect(() => objectStage({ name: 'main', hook: 'skMsg', object: bytes })).toThrow("hook is 'skMsg', expected xdp, tc");
    const open = objectStage({ name: 'main', hook: 'xdp', object: bytes });
    // @ts-expect-error: it has no exits
    open.on({ big: 'drop' });
  });

  test('says what returns lead on', () => {
    expect(made({ next: 'never' }).object?.next).toBeUndefined();
    expect(made({ next: [7, 8] }).object).toMatchObject({
      next: undefined,
      ways: new Map([
        [7, 'next'],
        [8, 'next'],
      ]),
    });
    expect(made({ next: 'drop' }).object?.next).toBe('drop');
    expect(() => made({ exits: { a: 5, b: [6, 5] } })).toThrow("stage 'main': return value 5 is exit:a and exit:b, expected one of them");
    expect(() => made({ exits: { a: 0xffff_ffff, b: -1 } })).toThrow('return value -1 is exit:a and exit:b');
    expect(() => made({ exits: { a: 5 }, next: 5 })).toThrow('return value 5 is exit:a and next');
    expect(() => made({ exits: { a: [] } })).toThrow('exit:a has no return value, expected at least one');
    expect(() => made({ exits: { a: 2 ** 32 } })).toThrow('exit:a is return value 4294967296, expected an integer of 32 bits');
    expect(() => made({ exits: { a: 1.5 } })).toThrow('exit:a is return value 1.5');
    expect(() => made({ onMiss: 'tx' as 'drop' })).toThrow("onMiss is 'tx', expected 'pass' or 'drop'");
  });
});

describe('the program', () => {
  const object = readElf(
    assembledObject([
      { name: 'one', text: 'r0 = 1\nexit' },
      { name: 'two', text: 'r0 = 2\nexit' },
      { name: 'three', type: 'schedCls', text: 'r0 = 0\nexit' },
    ]),
  );
  const nameOf = (hook: ObjectHook, program?: string) =>
    objectStage({ name: 'it', hook, object, ...(program === undefined ? {} : { program }) }).object?.spec.name;

  test('is found by name, by section, or because there is only one', () => {
    expect(nameOf('xdp', 'two')).toBe('two');
    expect(nameOf('tcEgress', 'tc')).toBe('three');
    expect(nameOf('tc')).toBe('three');
  });

  test('is refused where it is none, one of several, or for another hook', () => {
    expect(() => nameOf('xdp')).toThrow("stage 'it': the object has 2 programs for hook 'xdp', expected one");
    expect(() => nameOf('xdp', 'xdp')).toThrow("the object has 2 programs 'xdp', expected one");
    expect(() => nameOf('xdp', 'four')).toThrow("the object has no programs 'four', expected one");
    expect(() => nameOf('xdp', 'three')).toThrow("stage 'it': program three is of type schedCls, which hook 'xdp' does not run");
    expect(() => objectStage({ name: 'it', hook: 'tc', object }).at('xdp')).toThrow("program three is of type schedCls, which hook 'xdp'");
    expect(objectStage({ name: 'it', hook: 'tc', object }).at('tcEgress').hook).toBe('tcEgress');
    expect(() => objectStage({ name: 'it', hook: 'tc', object: bytes })).toThrow("the object has no programs for hook 'tc'");
    expect(() => objectStage({ name: 'it', hook: 'xdp', object: new Uint8Array(9) })).toThrow('object file');
    expect(() => objectStage({ name: 'it', hook: 'xdp', object: {} as typeof object })).toThrow('object is no ELF object');
    expect(() => made({ name: '1' })).toThrow("stage: name '1'");
  });
});

describe('maps', () => {
  const conflict = (own: MapSource, map: Parameters<typeof mapsIn>[0]['flows'], name = 'flows') => {
    try {
      objectStage({ name: 'main', hook: 'xdp', object: objectWith([own]), uses: { [name]: map as typeof flows } });
    } catch (error) {
      if (error instanceof ConflictError) return error.message;
      throw error;
    }
    return expect.unreachable('no conflict');
  };

  test('that differ are refused, with what differs', () => {
    expect(conflict(spec, hash({ name: 'flows', key: u64, value: u64, maxEntries: 16 }))).toBe(
      "stage 'main': uses.flows and map flows of its object: keySize is 8 and 4",
    );
    expect(conflict(spec, arrayMap({ name: 'flows', value: u32, maxEntries: 7 }))).toBe(
      "stage 'main': uses.flows and map flows of its object: type is array and hash, valueSize is 4 and 8, maxEntries is 7 and 16",
    );
    expect(conflict(spec, hash({ name: 'flows', key: u32, value: u64, maxEntries: 16, noPrealloc: true }))).toContain('flags is 1 and 0');
  });

  test('need agree in bytes only', () => {
    const uses = { flows: hash({ name: 'else', key: array(u8, 4), value: struct({ hits: u32, seen: u16 }), maxEntries: 16 }) };
    expect(objectStage({ name: 'main', hook: 'xdp', object: bytes, uses }).uses).toEqual(uses);
    const ring = { name: 'ring', type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: 4096, flags: 0 } as const;
    const events = ringBuffer({ name: 'events', value: u64, bytes: 4096 });
    expect(objectStage({ name: 'main', hook: 'xdp', object: objectWith([ring]), uses: { ring: events } }).uses).toEqual({ ring: events });
  });

  test('that are not bound are its own, made as the object says', () => {
    const more = [
      { name: 'lpm', type: 'lpmTrie', keySize: 8, valueSize: 4, maxEntries: 5, flags: MapFlag.noPrealloc },
      { name: 'queue', type: 'queue', keySize: 0, valueSize: 24, maxEntries: 5, flags: 0 },
      { name: 'tables', type: 'arrayOfMaps', keySize: 4, valueSize: 4, maxEntries: 5, flags: 0, inner: { ...spec, name: 'inner' } },
      { name: 'counts', type: 'perCpuArray', keySize: 4, valueSize: 12, maxEntries: 5, flags: 0 },
      { name: 'ring', type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: 4096, flags: 0 },
      { name: 'perf', type: 'perfEventArray', keySize: 4, valueSize: 4, maxEntries: 0, flags: 0 },
      { name: 'jumps', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 5, flags: 0 },
    ] as const;
    const object = readElf(objectWith([spec, ...more]));
    const main = objectStage({ name: 'main', hook: 'xdp', object });
    expect(Object.keys(main.uses)).toEqual(['flows', ...more.map(({ name }) => name)]);
    for (const map of mapsIn(main.uses)) {
      const declared = object.maps.get(map.name)?.definition().spec;
      expect(toMapSpec(map, `edge/${map.name}`)).toEqual({ ...declared, name: `edge/${map.name}` });
    }
    // one object's stages share them, and bytes are another object each time
    expect(objectStage({ name: 'other', hook: 'xdp', object }).uses).toEqual(main.uses);
    expect(mapsIn(objectStage({ name: 'other', hook: 'xdp', object }).uses)[0]).toBe(mapsIn(main.uses)[0]);
    expect(mapsIn(made().uses)[0]).not.toBe(mapsIn(made().uses)[0]);
    expect(main.as('second').with({}).uses).toEqual(main.uses);
    const borrowed = { flows: mapsIn(main.uses)[0] as typeof flows };
    expect(mapsIn(objectStage({ name: 'borrows', hook: 'xdp', object: bytes, uses: borrowed }).uses)[0]).toBe(borrowed.flows);
  });

  test('that the object only declares have to be bound', () => {
    const object = { ...readElf(bytes), maps: new Map() };
    expect(() => objectStage({ name: 'main', hook: 'xdp', object })).toThrow(
      "stage 'main': its object only declares map flows, expected a map for it in uses",
    );
    expect(objectStage({ name: 'main', hook: 'xdp', object, uses: { flows } }).uses).toEqual({ flows });
  });

  test('of other names, kinds of use, or with contents are refused', () => {
    const object = objectWith([spec]);
    const other = (uses: object) => () => objectStage({ name: 'main', hook: 'xdp', object, uses: uses as Record<string, number> });
    expect(other({ flws: flows })).toThrow("stage 'main': uses.flws is neither a map nor a constant of its object");
    expect(other({ limit: 3 })).toThrow('uses.limit is neither a map nor a constant of its object');
    expect(other({ flows: 3 })).toThrow('uses.flows is neither a map nor a constant');
    expect(other({ flows: programArray({ name: 'p', maxEntries: 1 }) })).toThrow(ConflictError);
    const nothing = { contents: [], programs: [], maps: [], pinByName: false };
    const jumps = { name: 'jumps', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 5, flags: 0 } as const;
    const withSlots = objectWith([{ ...nothing, spec: jumps, programs: [{ slot: 1, program: 'main' }] }]);
    expect(() => objectStage({ name: 'main', hook: 'xdp', object: withSlots })).toThrow(
      "stage 'main': map jumps of its object holds programs from the start",
    );
    expect(() =>
      objectStage({ name: 'main', hook: 'xdp', object: withSlots, uses: { jumps: programArray({ name: 'jumps', maxEntries: 5 }) } }),
    ).toThrow('map jumps of its object holds something from the start');
    const pinned = objectWith([{ ...nothing, spec, pinByName: true }]);
    expect(() => objectStage({ name: 'main', hook: 'xdp', object: pinned })).toThrow('map flows of its object asks for a pin');
    expect(objectStage({ name: 'main', hook: 'xdp', object: pinned, uses: { flows } }).uses.flows).toBe(flows);
  });
});

test('a stage in TypeScript has no object', () => {
  expect(stage({ name: 'typed', hook: 'xdp', program: (ctx) => ctx.next() })).not.toHaveProperty('object');
  expect(queue({ name: 'q', value: u64, maxEntries: 1 })).not.toHaveProperty('origin');
});

/** Program arrays that change under packets: none is lost, none meets two versions, and none waits for the compiler. */
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { type LoadedMap, type LoadedProgram, TailraceError } from '@tailrace/bpf';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type UserspaceInstance, type UserspaceOptions, userspace } from './engine.ts';
import { mapSpec } from './fixture.ts';
import { countingPacket, specOf } from './program-fixture.ts';
import { WebAssembly } from './webassembly.ts';

const jump = (array: string, slot = 0): string => `r1 = r6\n r2 = map[${array}]\n r3 = ${slot}\n call bpf_tail_call`;
/** Writes a version into a byte of the packet. */
const mark = (at: number, version: number): string => `
  r6 = r1
  r7 = *(u32 *)(r1 +0)
  r2 = *(u32 *)(r1 +4)
  r3 = r7
  r3 += 20
  if r3 > r2 goto out
  *(u8 *)(r7 +${at}) = ${version}`;
const MISSED = 99;
const BATCH = 16;
const packets = Array.from({ length: BATCH }, (_, flow) => ({
  packet: countingPacket().fill(0, 12, 24).fill(8, 12, 13).fill(0x45, 14, 15).fill(flow, 26, 30),
}));

/** A root, an entry, and generations of two programs with an array of their own. */
class Chains {
  readonly instance: UserspaceInstance;
  readonly entry: LoadedMap;
  readonly root: LoadedProgram;

  private constructor(instance: UserspaceInstance, entry: LoadedMap, root: LoadedProgram) {
    this.instance = instance;
    this.entry = entry;
    this.root = root;
  }

  static async open(options: UserspaceOptions = {}): Promise<Chains> {
    const instance = await userspace(options).open();
    const entry = instance.createMap(mapSpec('programArray', { name: 'entry', maxEntries: 4 }));
    const root = await instance.loadProgram(
      specOf(`r6 = r1\n ${jump('entry')}\n r0 = ${MISSED}\n exit`, 'xdp', 'root'),
      new Map([['entry', entry]]),
    );
    return new Chains(instance, entry, root);
  }

  /** A program that answers a number. */
  answer(number: number): Promise<LoadedProgram> {
    return this.instance.loadProgram(specOf(`r0 = ${number}\n exit`, 'xdp', `answer${number}`), new Map());
  }

  /** Two programs that mark a packet with a version, one after the other. */
  async generation(version: number): Promise<{ readonly first: LoadedProgram; readonly array: LoadedMap; close(): void }> {
    const array = this.instance.createMap(mapSpec('programArray', { name: 'array', maxEntries: 4 }));
    const load = (text: string, name: string) => this.instance.loadProgram(specOf(text, 'xdp', name), new Map([['array', array]]));
    const first = await load(`${mark(16, version)}\n ${jump('array')}\n out: r0 = ${MISSED}\n exit`, 'first');
    const second = await load(`${mark(17, version)}\n r0 = 1\n exit\n out: ${jump('array', 1)}\n r0 = ${MISSED}\n exit`, 'second');
    await array.setProgram(0, second);
    return {
      first,
      array,
      close() {
        for (const closed of [first, second, array]) closed.close();
      },
    };
  }

  run(): readonly number[] {
    return (this.root.runBatch?.(packets) ?? []).map(({ returnValue }) => returnValue);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.instance.close();
  }
}

afterEach(() => {
  vi.restoreAllMocks();
});

const ways: readonly (readonly [string, UserspaceOptions])[] = [
  ['wasm', {}],
  ['interpreter', { mode: 'interpreter' }],
  ['three workers', { workers: 3 }],
];

describe.each(ways)('%s', (name, options) => {
  test('generations flip under packets', async () => {
    const swaps = name === 'wasm' ? 200 : 20;
    await using chains = await Chains.open(options);
    let before = await chains.generation(0);
    await chains.entry.setProgram(0, before.first);
    const left: (readonly [version: number, other: number, answer: number])[] = [];
    const meet = (): void => {
      for (const { returnValue, packet } of chains.root.runBatch?.(packets) ?? [])
        left.push([packet[16] ?? 0, packet[17] ?? 0, returnValue]);
    };
    for (let version = 1; version <= swaps; version++) {
      meet();
      const generation = await chains.generation(version);
      left.length = 0;
      let isIn = false;
      const swapped = chains.entry.setProgram(0, generation.first).then(() => {
        isIn = true;
      });
      let batches = 0;
      for (; !isIn; batches++) {
        meet();
        await setImmediate();
      }
      await swapped;
      expect(left.every(([one, other, answer]) => answer === 1 && one === other && (one === version || one === version - 1))).toBe(true);
      expect([batches > 0, left[0]]).toEqual([true, [version - 1, version - 1, 1]]);
      left.length = 0;
      before.close();
      meet();
      expect(left).toEqual(packets.map(() => [version, version, 1]));
      before = generation;
    }
  }, 60_000);

  test('a chain that is only test-run', async () => {
    await using chains = await Chains.open(options);
    const answers = async (): Promise<number> => (await chains.root.testRun({ packet: countingPacket() })).returnValue;
    expect(await answers()).toBe(MISSED);
    for (const number of [1, 2]) {
      const before = await answers();
      const swapped = chains.entry.setProgram(0, await chains.answer(number));
      expect(await answers()).toBe(before);
      await swapped;
      expect(await answers()).toBe(number);
    }
    await chains.entry.clearProgram(0);
    expect(await answers()).toBe(MISSED);
  });

  test('who does not wait goes on with what is there', async () => {
    await using chains = await Chains.open(options);
    const [one, two] = [await chains.answer(1), await chains.answer(2)];
    await chains.entry.setProgram(0, one);
    expect(chains.run()).toEqual(packets.map(() => 1));
    const swapped = chains.entry.setProgram(0, two);
    expect(chains.run()).toEqual(packets.map(() => 1));
    expect(new DataView(chains.entry.lookup(new Uint8Array(4))?.buffer as ArrayBuffer).getUint32(0, true)).toBe(one.id);
    await swapped;
    expect(chains.run()).toEqual(packets.map(() => 2));
    expect(new DataView(chains.entry.lookup(new Uint8Array(4))?.buffer as ArrayBuffer).getUint32(0, true)).toBe(two.id);
  });

  test('slots that are emptied at once', async () => {
    await using chains = await Chains.open(options);
    await chains.entry.setProgram(0, await chains.answer(1));
    expect(chains.run()).toEqual(packets.map(() => 1));
    expect(chains.entry.delete(new Uint8Array(4))).toBe(true);
    expect(chains.run()).toEqual(packets.map(() => MISSED));
    await chains.entry.setProgram(0, await chains.answer(2));
    expect(chains.run()).toEqual(packets.map(() => 2));
    chains.entry.close();
    expect(chains.run()).toEqual(packets.map(() => MISSED));
  });
});

describe('what is compiled', () => {
  test('changes that come together are one, in their order', async () => {
    await using chains = await Chains.open();
    const answers = await Promise.all([1, 2, 3, 4, 5].map((number) => chains.answer(number)));
    chains.run();
    const compile = vi.spyOn(WebAssembly, 'compile');
    const order: number[] = [];
    await Promise.all(
      answers.map(async (answer, index) => {
        await chains.entry.setProgram(0, answer);
        order.push(index);
        expect(chains.run()).toEqual(packets.map(() => 5));
      }),
    );
    expect(order).toEqual([0, 1, 2, 3, 4]);
    expect(compile).toHaveBeenCalledTimes(1);
  });

  test('changes that come meanwhile are one more', async () => {
    await using chains = await Chains.open();
    const answers = await Promise.all([1, 2, 3, 4].map((number) => chains.answer(number)));
    chains.run();
    const compile = vi.spyOn(WebAssembly, 'compile');
    const [one, ...others] = answers.map((answer, index) => async () => {
      await chains.entry.setProgram(0, answer);
      return [index, chains.run()[0]];
    });
    const first = one?.();
    while (compile.mock.calls.length === 0) await setImmediate();
    expect(await Promise.all([first, ...others.map((change) => change())])).toEqual([
      [0, 1],
      [1, 4],
      [2, 4],
      [3, 4],
    ]);
    expect(compile).toHaveBeenCalledTimes(2);
  });

  test('arrays that change together flip together', async () => {
    await using chains = await Chains.open();
    const old = await chains.generation(1);
    await chains.entry.setProgram(0, old.first);
    chains.run();
    const compile = vi.spyOn(WebAssembly, 'compile');
    const next = await chains.generation(2);
    // no packet comes there
    expect(compile).toHaveBeenCalledTimes(0);
    const answer = await chains.answer(7);
    await Promise.all([chains.entry.setProgram(0, next.first), next.array.setProgram(0, answer)]);
    expect([chains.run()[0], compile.mock.calls.length]).toEqual([7, 1]);
    // nor here, any more
    await old.array.setProgram(0, await chains.answer(8));
    expect(compile).toHaveBeenCalledTimes(1);
  });

  test('a chain that is linked while another one changes has the change too', async () => {
    await using chains = await Chains.open();
    const { instance, entry } = chains;
    const late = await instance.loadProgram(
      specOf(`r6 = r1\n ${jump('entry')}\n r0 = 50\n exit`, 'xdp', 'late'),
      new Map([['entry', entry]]),
    );
    await entry.setProgram(0, await chains.answer(1));
    chains.run();
    const swapped = entry.setProgram(0, await chains.answer(2));
    await setImmediate();
    expect(late.runBatch?.(packets)[0]?.returnValue).toBe(1);
    await swapped;
    expect([late.runBatch?.(packets)[0]?.returnValue, chains.run()[0]]).toEqual([2, 2]);
  });

  test('it is good code, whatever else is compiled meanwhile', async () => {
    setFlagsFromString('--allow-natives-syntax');
    const isOptimized = new Function('f', 'return %IsTurboFanFunction(f)') as (f: unknown) => boolean;
    await using chains = await Chains.open();
    await using others = await Chains.open();
    const { Instance } = WebAssembly;
    const instances: Readonly<Record<string, unknown>>[] = [];
    vi.spyOn(WebAssembly, 'Instance').mockImplementation(
      class extends Instance {
        constructor(...args: ConstructorParameters<typeof Instance>) {
          super(...args);
          instances.push(this.exports);
        }
      },
    );
    chains.run();
    const swapped = chains.entry.setProgram(0, await chains.answer(31));
    await setImmediate();
    others.run();
    const swappedToo = others.entry.setProgram(0, await others.answer(32));
    await Promise.all([swapped, swappedToo]);
    expect(instances.map(({ batch, repeat }) => [isOptimized(batch), isOptimized(repeat)])).toEqual(
      Array.from({ length: 4 }, () => [true, true]),
    );
  });
});

describe('what goes wrong', () => {
  const refusal = new Error('no');

  test('a module that is refused changes nothing', async () => {
    await using chains = await Chains.open();
    const [one, two] = [await chains.answer(1), await chains.answer(2)];
    await chains.entry.setProgram(0, one);
    chains.run();
    vi.spyOn(WebAssembly, 'compile').mockRejectedValueOnce(refusal);
    await expect(chains.entry.setProgram(0, two)).rejects.toMatchObject({ code: 'compile', cause: refusal });
    expect(chains.run()).toEqual(packets.map(() => 1));
    expect(chains.entry.readAll()).toMatchObject({ count: 1, values: Uint8Array.from([one.id, 0, 0, 0]) });
    await chains.entry.setProgram(0, two);
    expect(chains.run()).toEqual(packets.map(() => 2));
  });

  test('of several changes, only the one at fault is refused', async () => {
    await using chains = await Chains.open();
    const answers = await Promise.all([1, 2, 3].map((number) => chains.answer(number)));
    chains.run();
    // all together, then the first, the second, the third
    const { compile } = WebAssembly;
    let calls = 0;
    vi.spyOn(WebAssembly, 'compile').mockImplementation((bytes) => {
      calls += 1;
      return calls === 1 || calls === 3 ? Promise.reject(refusal) : compile(bytes);
    });
    const ends = await Promise.allSettled(answers.map((answer, slot) => chains.entry.setProgram(slot, answer)));
    expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect([...chains.entry.readAll().keys.filter((_, at) => at % 4 === 0)]).toEqual([0, 2]);
    expect(chains.run()).toEqual(packets.map(() => 1));
  });

  test.each([1, 2])('what is closed meanwhile, %i workers', async (workers) => {
    await using chains = await Chains.open({ workers });
    const [one, two] = [await chains.answer(1), await chains.answer(2)];
    await chains.entry.setProgram(0, one);
    chains.run();
    // the program that comes: held until it is in, and as long as it is
    const swapped = chains.entry.setProgram(0, two);
    two.close();
    await swapped;
    expect(chains.run()).toEqual(packets.map(() => 2));
    // the array
    const refused = chains.entry.setProgram(0, one);
    chains.entry.close();
    await expect(refused).rejects.toThrow('map entry is closed');
    expect(chains.run()).toEqual(packets.map(() => MISSED));
  });

  test.each([1, 2])('the root, then the engine, %i workers', async (workers) => {
    const chains = await Chains.open({ workers });
    const [one, two] = [await chains.answer(1), await chains.answer(2)];
    chains.run();
    const swapped = chains.entry.setProgram(0, one);
    chains.root.close();
    await swapped;
    expect(() => chains.run()).toThrow('program root is closed');
    const late = await chains.instance.loadProgram(
      specOf(`r6 = r1\n ${jump('entry')}\n exit`, 'xdp', 'late'),
      new Map([['entry', chains.entry]]),
    );
    const attaching = chains.instance.attach(late, 'xdp');
    const end = expect(attaching).rejects.toThrow('the userspace engine is closed');
    late.runBatch?.(packets);
    const refused = expect(chains.entry.setProgram(0, two)).rejects.toThrow('map entry is closed');
    await chains.instance.close();
    await Promise.all([refused, end]);
  });

  test('a chain that cannot be compiled is not attached', async () => {
    await using chains = await Chains.open();
    vi.spyOn(WebAssembly, 'compile').mockRejectedValueOnce(refusal);
    await expect(chains.instance.attach(chains.root, 'xdp')).rejects.toBeInstanceOf(TailraceError);
    const attachment = await chains.instance.attach(chains.root, 'xdp');
    await attachment.detach();
  });
});

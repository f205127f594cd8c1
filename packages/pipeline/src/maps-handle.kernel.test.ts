/** What inner maps hold open in the kernel, and maps of sockets through their handles. */
import { readdirSync, readlinkSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { type KernelInstance, kernel } from '@tailrace/kernel';
import { type AnyMap, type HandleOf, hash, hashOfMaps, type SocketHandle, sockhash, sockmap, u32, u64 } from '@tailrace/stage';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { errnoOf } from './keyed-model.ts';
import { mapsHandleSuite } from './maps-handle.suite.ts';
import { EngineMapRegistry } from './registry.ts';

let engine: KernelInstance;
beforeAll(async () => {
  engine = await kernel({ interfaces: [] }).open();
});
afterAll(() => engine.close());

async function withMap<M extends AnyMap>(map: M, body: (handle: HandleOf<M>) => Promise<void>): Promise<void> {
  const registry = new EngineMapRegistry(engine);
  using _hold = registry.hold([{ map, scope: 'maps', user: 'maps' }]);
  await body(registry.handle(map) as HandleOf<M>);
}

/** Open files of this process that are maps. */
function openMaps(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('bpf-map');
    } catch {
      return false;
    }
  }).length;
}

const flows = hash({ name: 'flows', key: u32, value: u64, maxEntries: 4 });

mapsHandleSuite(kernel({ interfaces: [] }));

describe('maps of maps', () => {
  test('inner maps close by hand, with the outer map, and after errors', async () => {
    const before = openMaps();
    await withMap(hashOfMaps({ name: 'o', key: u32, maxEntries: 1, inner: flows }), async (handle) => {
      expect(openMaps()).toBe(before + 1);
      const [one, two] = [handle.create(), handle.create()];
      expect(openMaps()).toBe(before + 3);
      one.close();
      one.close();
      expect(openMaps()).toBe(before + 2);
      expect(() => one.get(1)).toThrow('is closed');
      await handle.set(1, two);
      // No room for another key: the fresh map goes.
      await expect(handle.set(2)).rejects.toMatchObject({ errnoName: 'E2BIG' });
      expect(openMaps()).toBe(before + 2);
      // Another's handle is none of ours, whatever it can do.
      await withMap(hashOfMaps({ name: 'other', key: u32, maxEntries: 1, inner: flows }), async (other) => {
        await expect(handle.set(1, other.create())).rejects.toThrow("the inner map is closed or another's");
      });
      {
        using third = handle.create();
        third.set(1, 1n);
      }
      expect(openMaps()).toBe(before + 2);
    });
    expect(openMaps()).toBe(before);
  });

  test('the main thread goes on while a map is put in', async () => {
    await withMap(hashOfMaps({ name: 'o', key: u32, maxEntries: 4, inner: flows }), async (handle) => {
      const started = performance.now();
      const setting = handle.set(1);
      expect(performance.now() - started).toBeLessThan(5);
      await setting;
    });
  });
});

describe('maps of sockets', () => {
  let sockets: { readonly pair: readonly Socket[]; close(): void };
  beforeAll(async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
    const client = connect((server.address() as { readonly port: number }).port, '127.0.0.1');
    const pair = [client, await accepted];
    sockets = {
      pair,
      close() {
        for (const socket of pair) socket.destroy();
        server.close();
      },
    };
  });
  afterAll(() => sockets.close());

  const fdOf = (which: number): number => (sockets.pair[which] as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
  const step = fc.oneof(
    fc.record({ key: fc.nat(3), which: fc.nat(1), flag: fc.constantFrom('any', 'noexist', 'exist') }),
    fc.record({ key: fc.nat(3), gone: fc.constant(true) }),
  );

  test.each([
    ['by index', sockmap({ name: 's', maxEntries: 4 })],
    ['under keys', sockhash({ name: 's', key: u32, maxEntries: 4 })],
  ] as const)('%s', async (_name, map) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), (steps) =>
        withMap(map as AnyMap, async (opened) => {
          const handle = opened as SocketHandle<number>;
          const model = new Map<number, number>();
          const cookies = new Map<number, bigint>();
          for (const step of steps) {
            if ('gone' in step) expect(handle.delete(step.key)).toBe(model.delete(step.key));
            else {
              const refusal = model.has(step.key) ? step.flag === 'noexist' && 'EEXIST' : step.flag === 'exist' && 'ENOENT';
              expect(errnoOf(() => handle.set(step.key, fdOf(step.which), step.flag as 'any'))).toBe(refusal || undefined);
              if (!refusal) model.set(step.key, step.which);
            }
            expect(handle.keys().sort()).toEqual([...model.keys()].sort());
            expect(handle.size).toBe(model.size);
            for (let key = 0; key < 4; key++) {
              const [which, cookie] = [model.get(key), handle.cookie(key)];
              if (which === undefined || cookie === undefined) expect([which, cookie]).toEqual([undefined, undefined]);
              else {
                expect(cookie).toBe(cookies.get(which) ?? cookie);
                cookies.set(which, cookie);
              }
            }
          }
          expect(new Set(cookies.values()).size).toBe(cookies.size);
        }),
      ),
      { numRuns: 30 },
    );
  });
});

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ByteWindow } from './byte-window.ts';

it('shows every byte once, in order, and never changes what it has shown', () => {
  const steps = fc.array(fc.record({ come: fc.oneof(fc.nat(40), fc.nat(70_000)), go: fc.double({ min: 0, max: 1, noNaN: true }) }), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(steps, (all) => {
      const window = new ByteWindow();
      const shown: { from: number; bytes: Uint8Array }[] = [];
      let came = 0;
      let gone = 0;
      for (const { come, go } of all) {
        window.append(Uint8Array.from({ length: come }, (_, i) => (came + i) % 251));
        came += come;
        expect([window.length, window.offset]).toEqual([came - gone, gone]);
        const taken = Math.trunc(window.length * go);
        shown.push({ from: gone, bytes: window.bytes.subarray(window.start, window.start + taken) });
        if (taken > 0) expect(window.view.getUint8(window.start + taken - 1)).toBe((gone + taken - 1) % 251);
        window.start += taken;
        gone += taken;
      }
      for (const { from, bytes } of shown) expect(bytes.every((byte, i) => byte === (from + i) % 251)).toBe(true);
    }),
    { numRuns: 40 },
  );
});

it('copies a long stretch that comes in short chunks a few times, not once for each', () => {
  const window = new ByteWindow();
  const buffers = new Set<ArrayBufferLike>();
  for (let i = 0; i < 4096; i++) {
    window.append(new Uint8Array(1024));
    buffers.add(window.bytes.buffer);
  }
  expect(window.length).toBe(4 << 20);
  expect(buffers.size).toBeLessThan(10);
});

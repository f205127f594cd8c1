import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CaptureClock } from './capture-clock.ts';

it('counts any unit from any moment, cutting off what is finer than a nanosecond', () => {
  const times = fc.array(fc.tuple(fc.oneof(fc.nat(3), fc.nat(0xffff_ffff)), fc.nat(0xffff_ffff)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.nat(255), fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), times, (resolution, offset, words) => {
      const clock = new CaptureClock(resolution, offset);
      const unitsPerSecond = (resolution & 0x80 ? 2n : 10n) ** BigInt(resolution & 0x7f);
      for (const [high, low] of words) {
        const units = BigInt(high) * 2n ** 32n + BigInt(low);
        expect(clock.nanoseconds(high, low)).toBe((units * 1_000_000_000n) / unitsPerSecond + offset * 1_000_000_000n);
      }
    }),
    { numRuns: 1000 },
  );
});

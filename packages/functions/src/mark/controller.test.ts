import { SimulatedMaps, simulatedHandle } from '@tailrace/testing';
import { expect, it } from 'vitest';
import { MarkController, markMaps } from './index.ts';

it('becomes what it is told over what another process left; told nothing it goes on', () => {
  const [maps, declared] = [new SimulatedMaps(), markMaps(8)];
  const needs = { marks4: simulatedHandle(maps, declared.marks4), marks6: simulatedHandle(maps, declared.marks6) };
  new MarkController(needs, { '203.0.113.0/24': 5, '2001:db8::/32': 6, '10.0.0.0/8': 7 });
  const left = new MarkController(needs);
  expect(left.marks).toEqual(
    new Map([
      ['203.0.113.0/24', 5],
      ['10.0.0.0/8', 7],
      ['2001:db8::/32', 6],
    ]),
  );
  expect(new MarkController(needs, { '203.0.113.0/24': 9, '192.0.2.1': 1 }).marks).toEqual(
    new Map([
      ['203.0.113.0/24', 9],
      ['192.0.2.1/32', 1],
    ]),
  );
  expect(() => left.replace({ '10.0.0.0/8': 1, '10.0.0.0/9': 0 })).toThrow("mark of '10.0.0.0/9' is 0");
  expect(left.marks.size).toBe(3);
});

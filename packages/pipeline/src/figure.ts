/** Numbers as pictures show them. */
import type { StageStats } from './stats.ts';

/** With commas between thousands. */
export const number = (value: bigint): string => value.toLocaleString('en-US');

/** `blocked 3`: the reasons of drops and aborts that packets met. */
export function reasonsMet({ drops }: Pick<StageStats, 'drops'>): readonly string[] {
  return Object.entries(drops).flatMap(([reason, packets]) => (packets > 0n ? [`${reason} ${number(packets)}`] : []));
}

/** Bytes with a unit of a thousand. */
export function bytes(value: bigint): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let amount = Number(value);
  let unit = 0;
  while (amount >= 1000 && unit < units.length - 1) {
    amount /= 1000;
    unit++;
  }
  return `${unit === 0 ? amount : amount.toFixed(1)} ${units[unit]}`;
}

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

/** A part of a whole: `12.5%`; `0.0%` and `100.0%` are exact, what only comes close is `<0.1%` and `>99.9%`. */
export function percent(part: bigint, whole: bigint): string {
  if (part === 0n || part === whole) return part === 0n ? '0.0%' : '100.0%';
  const tenths = Math.round((Number(part) / Number(whole)) * 1000);
  if (tenths === 0) return '<0.1%';
  return tenths === 1000 ? '>99.9%' : `${(tenths / 10).toFixed(1)}%`;
}

/** Order statistics of samples: what the bench says about a measurement, since means follow the outliers. */
import { ArgumentError } from '@tailrace/bpf';

/** Samples in short; all in the samples' own unit. */
export interface Summary {
  readonly median: number;
  /** Half the distance between the quartiles: half of all samples lie about this far from the median. */
  readonly spread: number;
}

/** Summarises at least one sample. Throws ArgumentError for none. */
export function summarise(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((left, right) => left - right);
  return {
    median: quantile(sorted, 0.5),
    spread: (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2,
  };
}

/** The geometric mean of positive numbers. Throws ArgumentError for none. */
export function geometricMean(values: readonly number[]): number {
  if (values.length === 0) throw new ArgumentError('a geometric mean of no values');
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** The slope of the least-squares line through points `[x, y]`. Throws ArgumentError for fewer than two x. */
export function slope(points: readonly (readonly [number, number])[]): number {
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / points.length;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / points.length;
  const variance = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  if (!(variance > 0)) throw new ArgumentError('a slope takes at least two different x');
  return points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / variance;
}

/** Linear interpolation between the two nearest of sorted samples. */
function quantile(sorted: readonly number[], fraction: number): number {
  const place = (sorted.length - 1) * fraction;
  const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  if (low === undefined || high === undefined) throw new ArgumentError('a quantile of no samples');
  return low + (high - low) * (place - Math.floor(place));
}

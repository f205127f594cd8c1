/** Bounds for counts of independent trials, so wide that a test which holds to them never fails by chance. */

/**
 * The narrowest `low..high` such that a binomial count of `trials` trials of chance `p`, 0 < p < 1, falls below it, or
 * above it, with a probability of less than `tail` each.
 */
export function binomialBounds(trials: number, p: number, tail = 1e-9): { readonly low: number; readonly high: number } {
  const chances = new Float64Array(trials + 1);
  let logChance = trials * Math.log1p(-p);
  for (let count = 0; count <= trials; count++) {
    chances[count] = Math.exp(logChance);
    logChance += Math.log((trials - count) / (count + 1)) + Math.log(p / (1 - p));
  }
  let low = 0;
  for (let below = chances[0] ?? 0; below < tail && low < trials; below += chances[low] ?? 0) low++;
  let high = trials;
  for (let above = chances[trials] ?? 0; above < tail && high > 0; above += chances[high] ?? 0) high--;
  return { low, high };
}

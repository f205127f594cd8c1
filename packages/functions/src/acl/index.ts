/** A filter by source address: `acl({ blocked: ['203.0.113.0/24'] })`. */
import { Clock } from '@tailrace/pipeline';
import { ArgumentError, defineFunction } from '@tailrace/stage';
import { AclController } from './controller.ts';
import { parsePrefix } from './prefix.ts';
import { aclMaps, aclStage } from './stage.ts';

export { AclController, type AclHits, type AclNeeds } from './controller.ts';
export { formatPrefix, type Prefix, parsePrefix } from './prefix.ts';
export { aclMaps, aclStage, Hits } from './stage.ts';

/** How to make a filter. */
export interface AclOptions {
  /**
   * Prefixes that are blocked from the start, e.g. `203.0.113.0/24`, `2001:db8::/32`. Over a restart of a persistent pipeline these
   * and no others; left out, those that were blocked stay so.
   */
  readonly blocked?: readonly string[];
  /** Prefixes that can be blocked, both families together; default 10,000. */
  readonly maxEntries?: number;
}

/**
 * Declares a filter with maps of its own: one stage, `acl`, and an AclController. Throws ArgumentError for prefixes that
 * are none and a size that no map can have.
 */
export function acl(options: AclOptions = {}) {
  const { blocked, maxEntries = 10_000 } = options;
  if (!Number.isSafeInteger(maxEntries) || maxEntries < 1 || maxEntries > 2 ** 24)
    throw new ArgumentError(`acl: maxEntries is ${maxEntries}, expected 1..16777216`);
  for (const prefix of blocked ?? []) parsePrefix(prefix);
  const { blocked4, blocked6, hits, count } = aclMaps(maxEntries);
  return defineFunction({
    name: 'acl',
    stages: { xdp: [aclStage.with({ blocked4, blocked6, count })] },
    controller: { needs: { blocked4, blocked6, hits, clock: Clock }, create: (needs) => new AclController(needs, blocked) },
  });
}

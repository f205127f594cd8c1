/** Firewall marks by source prefix: `mark({ marks: { '203.0.113.0/24': 7 } })`. For routing rules, queues and other programs. */
import { ArgumentError, defineFunction } from '@tailrace/stage';
import { parsePrefix } from '../acl/prefix.ts';
import { checkMark, MarkController } from './controller.ts';
import { findStage, markMaps, putStage } from './stage.ts';

export { MarkController, type MarkNeeds } from './controller.ts';
export { findStage, markMaps, putStage } from './stage.ts';

/** How to make a marker. */
export interface MarkOptions {
  /**
   * Marks from the start, by prefix of either family; 1..4294967295. Over a restart of a persistent pipeline these and no others;
   * left out, those that there were stay.
   */
  readonly marks?: Readonly<Record<string, number>>;
  /** Prefixes of each family; default 10,000. */
  readonly maxEntries?: number;
}

/**
 * Declares a marker with maps of its own, for XDP and TC ingress. Every packet that XDP passes takes its mark along as
 * metadata (8 bytes in front of the packet: a tag and the mark), so chains behind it must pass packets only once
 * `find` has seen them. Throws ArgumentError for prefixes and marks that are none and a size that no map can have.
 */
export function mark(options: MarkOptions = {}) {
  const { marks, maxEntries = 10_000 } = options;
  if (!Number.isSafeInteger(maxEntries) || maxEntries < 1 || maxEntries > 2 ** 24)
    throw new ArgumentError(`mark: maxEntries is ${maxEntries}, expected 1..16777216`);
  for (const [prefix, value] of Object.entries(marks ?? {})) {
    parsePrefix(prefix);
    checkMark(prefix, value);
  }
  const maps = markMaps(maxEntries);
  return defineFunction({
    name: 'mark',
    stages: { xdp: [findStage.with(maps)], tcIngress: [putStage] },
    controller: { needs: maps, create: (needs) => new MarkController(needs, marks) },
  });
}

/** Fills the marker's maps. */
import { ArgumentError, type HandleOf } from '@tailrace/stage';
import { formatPrefix, type Prefix, parsePrefix } from '../acl/prefix.ts';
import type { markMaps } from './stage.ts';

type Maps = ReturnType<typeof markMaps>;

/** What the controller works on. */
export interface MarkNeeds {
  readonly marks4: HandleOf<Maps['marks4']>;
  readonly marks6: HandleOf<Maps['marks6']>;
}

/** Gives marks to source prefixes while packets flow. */
export class MarkController {
  readonly #needs: MarkNeeds;

  /** Goes on from what the maps hold: with `marks` as `replace` does, without as it was left. */
  constructor(needs: MarkNeeds, marks?: Readonly<Record<string, number>>) {
    this.#needs = needs;
    if (marks) this.replace(marks);
  }

  /** Prefixes with their marks, in canonical form. */
  get marks(): ReadonlyMap<string, number> {
    const { marks4, marks6 } = this.#needs;
    return new Map([
      ...marks4.getAll().map(([key, mark]) => [formatPrefix({ family: 4, key }), mark] as const),
      ...marks6.getAll().map(([key, mark]) => [formatPrefix({ family: 6, key }), mark] as const),
    ]);
  }

  /**
   * Marks what comes from a prefix of either family; where prefixes overlap the longest counts. Throws ArgumentError for
   * text that is no prefix and a mark that is none, SyscallError E2BIG where there is no room.
   */
  set(prefix: string, mark: number): void {
    checkMark(prefix, mark);
    const parsed = parsePrefix(prefix);
    if (parsed.family === 4) this.#needs.marks4.set(parsed.key, mark);
    else this.#needs.marks6.set(parsed.key, mark);
  }

  /**
   * These marks and no others: sets all, and then deletes what is not among them, so that there must be room for both. Throws as `set`
   * does, for the first that cannot be; those before it are set.
   */
  replace(marks: Readonly<Record<string, number>>): void {
    const wanted = new Set(Object.keys(marks).map((prefix) => formatPrefix(parsePrefix(prefix))));
    for (const [prefix, mark] of Object.entries(marks)) this.set(prefix, mark);
    for (const prefix of this.marks.keys()) if (!wanted.has(prefix)) this.delete(prefix);
  }

  /** False where the prefix had no mark. Throws ArgumentError for text that is no prefix. */
  delete(prefix: string): boolean {
    const parsed: Prefix = parsePrefix(prefix);
    return parsed.family === 4 ? this.#needs.marks4.delete(parsed.key) : this.#needs.marks6.delete(parsed.key);
  }
}

/** 0 means none. Throws ArgumentError. */
export function checkMark(prefix: string, mark: number): void {
  if (!Number.isInteger(mark) || mark < 1 || mark > 0xffff_ffff)
    throw new ArgumentError(`mark of '${prefix}' is ${mark}, expected 1..${0xffff_ffff}`);
}

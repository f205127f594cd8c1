/** Fills the filter's maps: which prefixes are blocked, and how often each was hit. */
import { ArgumentError, type HandleOf } from '@tailrace/stage';
import { map, type Observable, type SchedulerLike, shareReplay, timer } from 'rxjs';
import { formatPrefix, type Prefix, parsePrefix } from './prefix.ts';
import type { aclMaps } from './stage.ts';

type Maps = ReturnType<typeof aclMaps>;

/** What the controller works on. */
export interface AclNeeds {
  readonly blocked4: HandleOf<Maps['blocked4']>;
  readonly blocked6: HandleOf<Maps['blocked6']>;
  readonly hits: HandleOf<Maps['hits']>;
  readonly clock: SchedulerLike;
}

/** One blocked prefix and what it has stopped since it was blocked. */
export interface AclHits {
  /** Canonical, e.g. `203.0.113.0/24`. */
  readonly prefix: string;
  readonly packets: bigint;
  /** Bytes of those packets with all headers. */
  readonly bytes: bigint;
}

/** Blocks and unblocks source prefixes while the filter runs. */
export class AclController {
  readonly #needs: AclNeeds;
  /** The place of each blocked prefix in `hits`, by canonical text. */
  readonly #places = new Map<string, { readonly prefix: Prefix; readonly index: number }>();
  readonly #free: number[] = [];
  /** Hits of every blocked prefix, at once and then every second, shared. */
  readonly hits$: Observable<readonly AclHits[]>;

  /** Goes on from what the maps hold: with `blocked` as `replace` does, without as it was left. */
  constructor(needs: AclNeeds, blocked?: Iterable<string>) {
    this.#needs = needs;
    const taken = this.#readPlaces();
    for (let index = needs.hits.size - 1; index >= 0; index--) if (!taken.has(index)) this.#free.push(index);
    if (blocked) this.replace(blocked);
    this.hits$ = timer(0, 1000, needs.clock).pipe(
      map(() => this.hits()),
      shareReplay({ bufferSize: 1, refCount: true }),
    );
  }

  /** Blocked prefixes in canonical form. */
  get blocked(): readonly string[] {
    return [...this.#places.keys()];
  }

  /**
   * Blocks a prefix of either family, e.g. `203.0.113.0/24`; an address alone is blocked alone. Where prefixes overlap the
   * longest counts. False where it was blocked already; its counters go on. Throws ArgumentError for text that is no
   * prefix and where the filter is full.
   */
  block(text: string): boolean {
    const prefix = parsePrefix(text);
    const name = formatPrefix(prefix);
    if (this.#places.has(name)) return false;
    const index = this.#free.pop();
    if (index === undefined) throw new ArgumentError(`acl: ${this.#needs.hits.size} prefixes are blocked, no room for '${name}'`);
    const zero = { packets: 0n, bytes: 0n };
    this.#needs.hits.set(
      index,
      (this.#needs.hits.get(index) ?? []).map(() => zero),
    );
    if (prefix.family === 4) this.#needs.blocked4.set(prefix.key, index);
    else this.#needs.blocked6.set(prefix.key, index);
    this.#places.set(name, { prefix, index });
    return true;
  }

  /** Lets a prefix through again, unless a shorter one holds it. False where it was not blocked. Throws ArgumentError for text that is no prefix. */
  unblock(text: string): boolean {
    const name = formatPrefix(parsePrefix(text));
    const place = this.#places.get(name);
    if (place === undefined) return false;
    const { prefix, index } = place;
    if (prefix.family === 4) this.#needs.blocked4.delete(prefix.key);
    else this.#needs.blocked6.delete(prefix.key);
    this.#places.delete(name);
    // the place that was free longest is taken first: packets in flight may still count on this one
    this.#free.unshift(index);
    return true;
  }

  /**
   * Blocks these prefixes and unblocks all others; what is blocked before and after stays so, with its counters. Others make room
   * where the filter is full, and go last otherwise. Throws as `block` does, and then nothing has changed.
   */
  replace(prefixes: Iterable<string>): void {
    const wanted = new Set([...prefixes].map((text) => formatPrefix(parsePrefix(text))));
    const { size } = this.#needs.hits;
    if (wanted.size > size) throw new ArgumentError(`acl: ${wanted.size} prefixes to block, expected at most ${size}`);
    const gone = this.blocked.filter((name) => !wanted.has(name));
    for (const name of wanted) {
      const [last] = this.#free.length === 0 && !this.#places.has(name) ? gone.splice(-1) : [];
      if (last !== undefined) this.unblock(last);
      this.block(name);
    }
    for (const name of gone) this.unblock(name);
  }

  /** Packets and bytes stopped, for each blocked prefix. */
  hits(): AclHits[] {
    return [...this.#places].map(([prefix, { index }]) => {
      const { packets = 0n, bytes = 0n } = this.#needs.hits.sum(index) ?? {};
      return { prefix, packets, bytes };
    });
  }

  /** Takes over what the maps hold already. */
  #readPlaces(): Set<number> {
    const { blocked4, blocked6 } = this.#needs;
    for (const [key, index] of blocked4.entries()) this.#takeOver({ family: 4, key }, index);
    for (const [key, index] of blocked6.entries()) this.#takeOver({ family: 6, key }, index);
    return new Set([...this.#places.values()].map(({ index }) => index));
  }

  #takeOver(prefix: Prefix, index: number): void {
    this.#places.set(formatPrefix(prefix), { prefix, index });
  }
}

/**
 * What is known of a frame's tiles at one place of a function. A tile is 8 bytes of the frame, counted from its first; a local of
 * 64 bits has a copy of some of its bytes. Every store goes to the frame too, so a copy only saves a load.
 */
import type { FrameRange } from './frame-access.ts';
import { FRAME_SIZE } from './layout.ts';

const TILE_SIZE = 8;
const TILES = FRAME_SIZE / TILE_SIZE;

/** The part of an access that lies in one tile. */
export interface Piece {
  readonly tile: number;
  /** Its bytes, a bit each. */
  readonly mask: number;
  /** Its first byte in the tile, and in what is accessed. */
  readonly first: number;
  readonly from: number;
}

/** The pieces of an access inside of the frame, of at most 8 bytes: one, or two where it crosses into the next tile. */
export function piecesOf(at: number, bytes: number): readonly Piece[] {
  const start = at + FRAME_SIZE;
  const [tile, first] = [Math.floor(start / TILE_SIZE), start % TILE_SIZE];
  const all = ((1 << bytes) - 1) << first;
  const low = { tile, mask: all & 0xff, first, from: 0 };
  return all > 0xff ? [low, { tile: tile + 1, mask: all >> TILE_SIZE, first: 0, from: TILE_SIZE - first }] : [low];
}

/** Of each tile, a bit a byte. */
export class TileState {
  /** Bytes that the copy has, whichever way was taken. */
  readonly #held = new Uint8Array(TILES);
  /** Bytes of the copy that may be other than 0; of no meaning where nothing is held. */
  readonly #filled = new Uint8Array(TILES);
  /** Bytes that may have come by a store of less than a whole tile: a load that takes in more than that store has to wait for it. */
  readonly #narrow = new Uint8Array(TILES);

  copy(): TileState {
    const copy = new TileState();
    copy.#held.set(this.#held);
    copy.#filled.set(this.#filled);
    copy.#narrow.set(this.#narrow);
    return copy;
  }

  /** Keeps what holds of both; true where that is less than before. */
  merge(other: TileState): boolean {
    let changed = false;
    const keep = (bytes: Uint8Array, tile: number, value: number): void => {
      changed ||= bytes[tile] !== value;
      bytes[tile] = value;
    };
    for (let tile = 0; tile < TILES; tile++) {
      keep(this.#held, tile, at(this.#held, tile) & at(other.#held, tile));
      keep(this.#filled, tile, at(this.#filled, tile) | at(other.#filled, tile));
      keep(this.#narrow, tile, at(this.#narrow, tile) | at(other.#narrow, tile));
    }
    return changed;
  }

  /** A store inside of the frame, also into the copies. */
  store(place: number, bytes: number, isZero: boolean): void {
    for (const { tile, mask } of piecesOf(place, bytes)) {
      const filled = this.isFresh(tile) ? 0 : at(this.#filled, tile) & ~mask;
      this.#filled[tile] = isZero ? filled : filled | mask;
      this.#held[tile] = at(this.#held, tile) | mask;
      this.#narrow[tile] = mask === 0xff ? 0 : at(this.#narrow, tile) | mask;
    }
  }

  /** Somebody else may have written there. */
  forget({ from, to }: FrameRange): void {
    const end = Math.min(to, 0);
    for (let place = Math.max(from, -FRAME_SIZE); place < end; place++) {
      const tile = (place + FRAME_SIZE) >> 3;
      this.#held[tile] = at(this.#held, tile) & ~(1 << (place & 7));
    }
  }

  /** Whether the copies have all bytes of an access inside of the frame. */
  holds(place: number, bytes: number): boolean {
    return piecesOf(place, bytes).every(({ tile, mask }) => (at(this.#held, tile) & mask) === mask);
  }

  /** Whether such a load may have to wait for stores of fewer bytes. */
  isNarrow(place: number, bytes: number): boolean {
    return piecesOf(place, bytes).some(({ tile, mask }) => (at(this.#narrow, tile) & mask) !== 0);
  }

  /** Whether a tile's copy has nothing that is worth keeping. */
  isFresh(tile: number): boolean {
    return at(this.#held, tile) === 0;
  }

  /** Whether those bytes of a tile's copy may be other than 0. */
  isFilled(tile: number, mask: number): boolean {
    return (at(this.#filled, tile) & mask) !== 0;
  }
}

function at(bytes: Uint8Array, tile: number): number {
  return bytes[tile] ?? 0;
}

/** The copies of a frame's tiles in WebAssembly: one local of 64 bits for each tile that is of use. See tiles.ts. */
import type { Block } from './control-flow.ts';
import { type Piece, piecesOf, TileState } from './tile-state.ts';
import type { FrameTiles, FrameWord } from './tiles.ts';
import { type FunctionWriter, MemoryOp, Op, Type } from './wasm-writer.ts';

const STORES = { 1: MemoryOp.i64Store8, 2: MemoryOp.i64Store16, 4: MemoryOp.i64Store32, 8: MemoryOp.i64Store } as const;
const SIGN_EXTENDS: Readonly<Record<number, number>> = { 1: Op.i64Extend8S, 2: Op.i64Extend16S, 4: Op.i64Extend32S };

/** Writes accesses to the tiles of one function; block by block, every instruction in its turn. */
export class TileWriter {
  readonly #writer: FunctionWriter;
  readonly #tiles: FrameTiles;
  /** Local i64: the frame's end. */
  readonly #frame: number;
  readonly #locals: ReadonlyMap<number, number>;
  #state = new TileState();

  constructor(writer: FunctionWriter, tiles: FrameTiles, frame: number) {
    this.#writer = writer;
    this.#tiles = tiles;
    this.#frame = frame;
    this.#locals = new Map([...tiles.used].map((tile) => [tile, writer.local(Type.i64)]));
  }

  /** The next instruction is the first one of a block. */
  enter(block: Block): void {
    this.#state = this.#tiles.before(block);
  }

  /** What the instruction at `pc` did to the frame holds from here on. */
  leave(pc: number): void {
    this.#tiles.step(this.#state, pc);
  }

  /** Leaves what the load at `pc` gives, as 64 bits; false, and nothing, where it is to be loaded from memory. */
  load(pc: number, isSigned: boolean): boolean {
    const word = this.#tiles.wordAt(pc);
    if (word === undefined || !this.#state.holds(word.at, word.bytes)) return false;
    this.#read(word);
    const extend = isSigned ? SIGN_EXTENDS[word.bytes] : undefined;
    if (extend !== undefined) this.#writer.op(extend);
    return true;
  }

  /** Does what the store at `pc` does to the copies; `value` leaves the 64 bits that it stores from. */
  store(pc: number, value: () => void): void {
    const word = this.#tiles.wordAt(pc);
    if (word === undefined) return;
    for (const piece of piecesOf(word.at, word.bytes)) this.#replace(piece, word.bytes, value);
  }

  /** Writes to memory what the helper called at `pc` reads there and what came by and by, so that its loads need not wait. */
  gather(pc: number): void {
    for (const word of this.#tiles.gathered(this.#state, pc)) {
      this.#writer.get(this.#frame).op(Op.wrap).i32(word.at).op(Op.i32Add);
      this.#read(word);
      this.#writer.memory(STORES[word.bytes]);
    }
  }

  /** Leaves bytes that the copies have, as 64 bits. */
  #read({ at, bytes }: FrameWord): void {
    const [low, high] = piecesOf(at, bytes);
    const writer = this.#writer;
    const { tile, first } = low as Piece;
    writer.get(this.#locals.get(tile) as number);
    if (first > 0) writer.i64(BigInt(8 * first)).op(Op.i64ShrU);
    if (high) {
      writer
        .get(this.#locals.get(high.tile) as number)
        .i64(BigInt(8 * high.from))
        .op(Op.i64Shl, Op.i64Or);
    }
    const isCut = high ? bytes < 8 : this.#state.isFilled(tile, 0xff & ~((1 << (first + bytes)) - 1));
    if (isCut) writer.i64(bitsOf((1 << bytes) - 1)).op(Op.i64And);
  }

  /** Gives a tile its part of what is stored. */
  #replace({ tile, mask, first, from }: Piece, bytes: number, value: () => void): void {
    const local = this.#locals.get(tile);
    if (local === undefined) return;
    const writer = this.#writer;
    const isFresh = this.#state.isFresh(tile);
    if (!isFresh && mask !== 0xff) {
      writer.get(local);
      if (this.#state.isFilled(tile, mask)) writer.i64(bitsOf(0xff & ~mask)).op(Op.i64And);
    }
    value();
    if (from > 0) writer.i64(BigInt(8 * from)).op(Op.i64ShrU);
    if (first + bytes - from < 8) writer.i64(bitsOf((1 << (bytes - from)) - 1)).op(Op.i64And);
    if (first > 0) writer.i64(BigInt(8 * first)).op(Op.i64Shl);
    if (!isFresh && mask !== 0xff) writer.op(Op.i64Or);
    writer.set(local);
  }
}

/** All bits of the bytes in a mask. */
function bitsOf(mask: number): bigint {
  let bits = 0n;
  for (let byte = 7n; byte >= 0n; byte--) bits = (bits << 8n) | ((mask >> Number(byte)) & 1 ? 0xffn : 0n);
  return bits;
}

/**
 * Which bytes of a function's stack frame are in locals, at each place of it: what was stored there by an access that is surely
 * in the frame, as long as nobody else may have written it. See tile-state.ts.
 */
import { InstructionClass, OpcodeMask } from '@tailrace/bpf';
import { argumentBytes } from './argument-bytes.ts';
import { bytesOf, type Code, isHelperCall, type Operation, operationAt, storesTo } from './code.ts';
import type { Block, FunctionGraph } from './control-flow.ts';
import { type FrameAccesses, isInFrame } from './frame-access.ts';
import { HELPERS } from './helper.ts';
import type { Provenance } from './provenance.ts';
import { piecesOf, TileState } from './tile-state.ts';

/** Instructions that are looked at, each as often as less is known in front of it; in a function that takes more, nothing is kept from block to block. */
const STEP_LIMIT = 400_000;

/** Bytes of the frame, at most 8, from `at` on: a distance from its end. */
export interface FrameWord {
  readonly at: number;
  readonly bytes: 1 | 2 | 4 | 8;
}

/** The tiles of one function. */
export class FrameTiles {
  readonly #code: Code;
  readonly #frame: FrameAccesses;
  readonly #calls: Provenance['calls'];
  readonly #start: number;
  readonly #states: ReadonlyMap<number, TileState>;
  /** Tiles whose copies are of use to somebody. */
  readonly used: ReadonlySet<number>;

  private constructor(code: Code, graph: FunctionGraph, frame: FrameAccesses, calls: Provenance['calls'], stepLimit: number) {
    this.#code = code;
    this.#frame = frame;
    this.#calls = calls;
    this.#start = graph.start;
    this.#states = this.#solve(graph, stepLimit);
    this.used = this.#uses(graph);
  }

  /** The tiles of a function; undefined where it has none that are of use. */
  static of(code: Code, graph: FunctionGraph, { frames, calls }: Provenance, stepLimit = STEP_LIMIT): FrameTiles | undefined {
    const frame = frames.get(graph.start);
    if (frame === undefined) return undefined;
    const tiles = new FrameTiles(code, graph, frame, calls, stepLimit);
    return tiles.used.size > 0 ? tiles : undefined;
  }

  /** What is known at the start of a block; the caller's to change. */
  before(block: Block): TileState {
    return this.#states.get(block.id)?.copy() ?? new TileState();
  }

  /** Takes a state from in front of an instruction to behind it. */
  step(state: TileState, pc: number): void {
    const word = this.wordAt(pc);
    const written = this.#frame.writes.get(pc);
    if (word && storesTo(operationAt(this.#code, pc))) state.store(word.at, word.bytes, isZero(operationAt(this.#code, pc)));
    else if (written) state.forget(written);
  }

  /** Where a load or store touches the frame, where it surely does. */
  wordAt(pc: number): FrameWord | undefined {
    const at = this.#frame.places.get(pc);
    return at === undefined ? undefined : { at, bytes: bytesOf(operationAt(this.#code, pc)) };
  }

  /** The memory of this frame that an argument (from 0) of the helper called at `pc` points to, as the words that are read of it. */
  #argument(pc: number, place: number): readonly FrameWord[] {
    const given = this.#calls.get(pc) ?? [];
    const kind = HELPERS.get(operationAt(this.#code, pc).imm)?.args[place];
    const pointer = given[place];
    if (kind === undefined || pointer?.kind !== 'frame' || pointer.owner !== this.#start || pointer.offset === undefined) return [];
    const bytes = argumentBytes(kind, given);
    return bytes !== undefined && isInFrame(pointer, 0, bytes) ? wordsOf(pointer.offset, bytes) : [];
  }

  /** The words that the helper called at `pc` reads and that should be written at once before: they came by and by. */
  gathered(state: TileState, pc: number): readonly FrameWord[] {
    const args = HELPERS.get(operationAt(this.#code, pc).imm)?.args ?? [];
    return args
      .flatMap((kind, place) => {
        const isRead = kind === 'key' || kind === 'value' || (typeof kind === 'object' && kind.memory === 'read');
        return isRead ? this.#argument(pc, place) : [];
      })
      .filter(({ at, bytes }) => state.holds(at, bytes) && state.isNarrow(at, bytes));
  }

  /** The states at the starts of blocks; none where the step limit is reached. */
  #solve(graph: FunctionGraph, stepLimit: number): ReadonlyMap<number, TileState> {
    const states = new Map([[graph.entry, new TileState()]]);
    const dirty = new Set([graph.entry]);
    let steps = 0;
    while (dirty.size > 0)
      for (const id of graph.order) {
        if (!dirty.delete(id)) continue;
        const block = graph.blocks[id] as Block;
        const state = (states.get(id) as TileState).copy();
        steps += block.end - block.start;
        if (steps > stepLimit) return new Map();
        for (let pc = block.start; pc < block.end; pc += operationAt(this.#code, pc).slots) this.step(state, pc);
        for (const to of block.successors) {
          const known = states.get(to);
          if (known === undefined) states.set(to, state.copy());
          else if (!known.merge(state)) continue;
          dirty.add(to);
        }
      }
    return states;
  }

  #uses({ blocks }: FunctionGraph): ReadonlySet<number> {
    const used = new Set<number>();
    for (const block of blocks) {
      const state = this.before(block);
      for (let pc = block.start; pc < block.end; pc += operationAt(this.#code, pc).slots) {
        for (const { at, bytes } of this.#read(state, pc)) for (const { tile } of piecesOf(at, bytes)) used.add(tile);
        this.step(state, pc);
      }
    }
    return used;
  }

  /** What an instruction reads of the copies. */
  #read(state: TileState, pc: number): readonly FrameWord[] {
    const operation = operationAt(this.#code, pc);
    if (isHelperCall(operation)) return this.gathered(state, pc);
    const word = this.wordAt(pc);
    return word && !storesTo(operation) && state.holds(word.at, word.bytes) ? [word] : [];
  }
}

/** What a helper reads at a time of so many bytes: 8, then 4, then one after the other. See runtime/bytes.ts. */
function wordsOf(from: number, bytes: number): readonly FrameWord[] {
  const words: FrameWord[] = [];
  for (let at = from; at < from + bytes; at += words.at(-1)?.bytes ?? 1) {
    const left = from + bytes - at;
    words.push({ at, bytes: left >= 8 ? 8 : left >= 4 ? 4 : 1 });
  }
  return words;
}

function isZero({ opcode, imm }: Operation): boolean {
  return (opcode & OpcodeMask.class) === InstructionClass.st && imm === 0;
}

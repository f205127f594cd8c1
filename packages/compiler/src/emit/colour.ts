/**
 * Register assignment by iterated register coalescing (George and Appel, "Iterated Register Coalescing", TOPLAS 1996):
 * simplify, coalesce conservatively, freeze, pick spill candidates optimistically, then colour.
 */
import type { Interference } from './interference.ts';
import { FIRST_VIRTUAL, type Move, type Register } from './machine.ts';

/** The registers to hand out, in order of preference: those that calls clobber come first. */
export const ASSIGNABLE: readonly Register[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

export interface Colouring {
  /** The machine register of each virtual one; complete where `spilled` is empty. */
  readonly colours: ReadonlyMap<Register, Register>;
  /** Registers that found no place. */
  readonly spilled: readonly Register[];
  /** Registers that were coalesced into a spilled one. */
  readonly merged: ReadonlyMap<Register, Register>;
}

/** Colours a graph, which is used up, with `registers`, best first. `unspillable` registers are the loads and stores of earlier spills. */
export function colour(graph: Interference, unspillable: ReadonlySet<Register>, registers: readonly Register[] = ASSIGNABLE): Colouring {
  return new Colourer(graph, unspillable, registers).run();
}

class Colourer {
  private readonly graph: Interference;
  private readonly unspillable: ReadonlySet<Register>;
  private readonly registers: readonly Register[];
  private readonly colours: number;
  /** These are by register. */
  private readonly neighbours: readonly (Set<Register> | undefined)[];
  private readonly degree: number[] = [];
  private readonly movesOf: Set<Move>[] = [];
  private readonly alias: (Register | undefined)[] = [];
  /** Simplified or coalesced: no longer in the graph. */
  private readonly gone: boolean[] = [];
  private readonly coalesced: Register[] = [];
  private readonly stack: Register[] = [];
  private readonly pendingMoves = new Worklist<Move>();
  private readonly waitingMoves = new Set<Move>();
  private readonly simplifiable = new Worklist<Register>();
  private readonly freezable = new Worklist<Register>();
  private readonly crowded = new Set<Register>();

  constructor(graph: Interference, unspillable: ReadonlySet<Register>, registers: readonly Register[]) {
    this.graph = graph;
    this.neighbours = graph.neighbours;
    this.registers = registers;
    this.colours = registers.length;
    this.unspillable = unspillable;
  }

  run(): Colouring {
    const { registers } = this.graph;
    for (const register of registers) {
      this.degree[register] = isMachine(register) ? Number.POSITIVE_INFINITY : (this.neighbours[register]?.size ?? 0);
      this.movesOf[register] = new Set();
    }
    for (const move of this.graph.moves) {
      if (move.dst === move.src) continue;
      this.pendingMoves.add(move);
      this.movesOf[move.dst]?.add(move);
      this.movesOf[move.src]?.add(move);
    }
    for (const register of registers) {
      if (isMachine(register)) continue;
      if (this.degreeOf(register) >= this.colours) this.crowded.add(register);
      else if (this.isMoveRelated(register)) this.freezable.add(register);
      else this.simplifiable.add(register);
    }
    while (this.simplify() || this.coalesce() || this.freeze() || this.selectSpill());
    return this.assign();
  }

  private simplify(): boolean {
    const register = this.simplifiable.take();
    if (register === undefined) return false;
    this.stack.push(register);
    this.gone[register] = true;
    for (const other of this.adjacent(register)) this.decrementDegree(other);
    return true;
  }

  private coalesce(): boolean {
    const move = this.pendingMoves.take();
    if (!move) return false;
    const a = this.resolve(move.dst);
    const b = this.resolve(move.src);
    const [into, from] = isMachine(b) ? [b, a] : [a, b];
    if (into === from) this.enableSimplify(into);
    else if (isMachine(from) || this.interferes(into, from)) {
      this.enableSimplify(into);
      this.enableSimplify(from);
    } else if (isMachine(into) ? this.fitsMachine(into, from) : this.fitsVirtual(into, from)) {
      this.combine(into, from);
      this.enableSimplify(into);
    } else this.waitingMoves.add(move);
    return true;
  }

  private freeze(): boolean {
    const register = this.freezable.take();
    if (register === undefined) return false;
    this.simplifiable.add(register);
    this.freezeMoves(register);
    return true;
  }

  private selectSpill(): boolean {
    let best: Register | undefined;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const register of this.crowded) {
      const cost = this.unspillable.has(register) ? Number.MAX_VALUE : (this.graph.spillCost[register] ?? 0) / this.degreeOf(register);
      if (best === undefined || cost < bestCost) {
        best = register;
        bestCost = cost;
      }
    }
    if (best === undefined) return false;
    this.crowded.delete(best);
    this.simplifiable.add(best);
    this.freezeMoves(best);
    return true;
  }

  private assign(): Colouring {
    const colours = new Map<Register, Register>();
    const spilled = new Set<Register>();
    const placeOf = (register: Register): Register | undefined => {
      const resolved = this.resolve(register);
      return isMachine(resolved) ? resolved : colours.get(resolved);
    };
    for (let register = this.stack.pop(); register !== undefined; register = this.stack.pop()) {
      let taken = 0;
      for (const other of this.neighbours[register] ?? []) {
        const place = placeOf(other);
        if (place !== undefined) taken |= 1 << place;
      }
      const isFree = (place: Register): boolean => (taken & (1 << place)) === 0;
      const chosen = this.wished(register, placeOf, isFree) ?? this.registers.find(isFree);
      if (chosen === undefined) spilled.add(register);
      else colours.set(register, chosen);
    }
    const merged = new Map<Register, Register>();
    for (const register of this.coalesced) {
      const place = placeOf(register);
      if (place !== undefined) colours.set(register, place);
      const into = this.resolve(register);
      if (spilled.has(into)) merged.set(register, into);
    }
    return { colours, spilled: [...spilled], merged };
  }

  /** A place that makes a copy needless. */
  private wished(
    register: Register,
    placeOf: (other: Register) => Register | undefined,
    isFree: (place: Register) => boolean,
  ): Register | undefined {
    for (const move of this.movesOf[register] ?? []) {
      const place = placeOf(this.resolve(move.dst) === register ? move.src : move.dst);
      if (place !== undefined && isFree(place)) return place;
    }
    return undefined;
  }

  private combine(into: Register, from: Register): void {
    this.freezable.delete(from);
    this.crowded.delete(from);
    this.alias[from] = into;
    this.gone[from] = true;
    this.coalesced.push(from);
    for (const move of this.movesOf[from] ?? []) {
      this.movesOf[into]?.add(move);
      this.wake(move);
    }
    for (const other of this.adjacent(from)) {
      this.connect(other, into);
      this.decrementDegree(other);
    }
    if (this.degreeOf(into) >= this.colours && this.freezable.delete(into)) this.crowded.add(into);
  }

  /** George's test: whatever `from` touches already touches the machine register, or is no obstacle. */
  private fitsMachine(into: Register, from: Register): boolean {
    for (const other of this.adjacent(from))
      if (this.degreeOf(other) >= this.colours && !isMachine(other) && !this.interferes(other, into)) return false;
    return true;
  }

  /** Briggs's test: the union has fewer crowded neighbours than there are colours. */
  private fitsVirtual(a: Register, b: Register): boolean {
    let crowded = 0;
    const isCrowding = (other: Register, degree: number): boolean =>
      !this.gone[other] && degree >= this.colours && ++crowded === this.colours;
    for (const other of this.neighbours[a] ?? [])
      if (isCrowding(other, this.degreeOf(other) - (this.interferes(other, b) ? 1 : 0))) return false;
    for (const other of this.neighbours[b] ?? []) if (!this.interferes(other, a) && isCrowding(other, this.degreeOf(other))) return false;
    return true;
  }

  private freezeMoves(register: Register): void {
    for (const move of [...(this.movesOf[register] ?? [])].filter((each) => this.isLive(each))) {
      this.pendingMoves.delete(move);
      this.waitingMoves.delete(move);
      const a = this.resolve(move.dst);
      const other = a === this.resolve(register) ? this.resolve(move.src) : a;
      if (!this.isMoveRelated(other) && this.degreeOf(other) < this.colours && this.freezable.delete(other)) this.simplifiable.add(other);
    }
  }

  private decrementDegree(register: Register): void {
    if (isMachine(register)) return;
    const degree = this.degreeOf(register);
    this.degree[register] = degree - 1;
    if (degree !== this.colours) return;
    if (this.waitingMoves.size > 0)
      for (const near of [register, ...this.adjacent(register)]) for (const move of this.movesOf[near] ?? []) this.wake(move);
    if (!this.crowded.delete(register)) return;
    if (this.isMoveRelated(register)) this.freezable.add(register);
    else this.simplifiable.add(register);
  }

  private wake(move: Move): void {
    if (this.waitingMoves.delete(move)) this.pendingMoves.add(move);
  }

  private enableSimplify(register: Register): void {
    if (isMachine(register) || this.isMoveRelated(register) || this.degreeOf(register) >= this.colours) return;
    if (this.freezable.delete(register)) this.simplifiable.add(register);
  }

  private connect(a: Register, b: Register): void {
    if (a === b || this.interferes(a, b)) return;
    this.neighbours[a]?.add(b);
    this.neighbours[b]?.add(a);
    this.degree[a] = this.degreeOf(a) + 1;
    this.degree[b] = this.degreeOf(b) + 1;
  }

  private interferes(a: Register, b: Register): boolean {
    if (isMachine(a) && isMachine(b)) return a !== b;
    return this.neighbours[a]?.has(b) ?? false;
  }

  private adjacent(register: Register): Register[] {
    const out: Register[] = [];
    for (const other of this.neighbours[register] ?? []) if (!this.gone[other]) out.push(other);
    return out;
  }

  private isLive(move: Move): boolean {
    return this.pendingMoves.has(move) || this.waitingMoves.has(move);
  }

  private isMoveRelated(register: Register): boolean {
    for (const move of this.movesOf[register] ?? []) if (this.isLive(move)) return true;
    return false;
  }

  private degreeOf(register: Register): number {
    return this.degree[register] ?? 0;
  }

  private resolve(register: Register): Register {
    let resolved = register;
    for (let next = this.alias[resolved]; next !== undefined; next = this.alias[resolved]) resolved = next;
    return resolved;
  }
}

function isMachine(register: Register): boolean {
  return register < FIRST_VIRTUAL;
}

/** A set whose first element is taken again and again. A new iterator would look at the places of all that went before, one by one. */
class Worklist<T> {
  private readonly items = new Set<T>();
  private rest = this.items.values();

  add(item: T): void {
    this.items.add(item);
  }

  has(item: T): boolean {
    return this.items.has(item);
  }

  delete(item: T): boolean {
    return this.items.delete(item);
  }

  /** Removes the element that was added first; undefined where there is none. */
  take(): T | undefined {
    if (this.items.size === 0) return undefined;
    let next = this.rest.next();
    if (next.done) {
      this.rest = this.items.values();
      next = this.rest.next();
    }
    if (!next.done) this.items.delete(next.value);
    return next.value;
  }
}

/** How packets are led from what a chain runs to what it is to run: one slot, or a flip of the root's; and back. */
import type { LoadedMap, LoadedProgram } from '@tailrace/bpf';
import type { ChainChange } from './change.ts';
import { Front } from './front.ts';
import { type CompiledChain, Generation, type Workshop } from './generation.ts';

/** How packets are led from the old to the new. */
export interface Way {
  commit(): Promise<void>;
  arrive(): Promise<void>;
  revert(): Promise<void>;
  /** Takes the new for the present; returns the old, to be closed. */
  finish(): Disposable;
  abandon(): void;
}

/** Where packets are now. */
export interface WayFrom {
  readonly workshop: Workshop;
  /** The array whose one slot the root jumps through. */
  readonly entry: LoadedMap;
  readonly generation: Generation;
}

const nothing = async (): Promise<void> => undefined;

/** Packets go on as they do. */
export const stay: Way = {
  commit: nothing,
  arrive: nothing,
  revert: nothing,
  finish: () => ({ [Symbol.dispose]: () => undefined }),
  abandon: () => undefined,
};

/** Points one slot at a new program; `edge` is undefined for the one in front of the first place. */
export async function slotWay(from: WayFrom, place: string, edge: number | undefined, next: CompiledChain): Promise<Way> {
  const { workshop, entry, generation } = from;
  const [old, program] = [generation.program(place), await generation.loadOne(workshop, next, place)];
  const slot = edge ?? generation.firstSlot;
  const lead = (to: LoadedProgram) => (slot === undefined ? entry.setProgram(0, to) : generation.array.setProgram(slot, to));
  return {
    ...stay,
    commit: () => lead(program),
    revert: () => lead(old),
    finish() {
      generation.exchange(place, program);
      return { [Symbol.dispose]: () => old.close() };
    },
    abandon: () => program.close(),
  };
}

/** Builds a generation that the entry's slot will lead to, past a front while packets of both are under way. `settle` takes it. */
export async function flipWay(
  { workshop, entry, generation: old }: WayFrom,
  next: CompiledChain,
  front: ChainChange['front'],
  settle: (generation: Generation) => void,
): Promise<Way> {
  using made = new DisposableStack();
  const generation = made.use(await Generation.load(workshop, next));
  const between = made.use(new DisposableStack());
  const gate = front && between.use(await Front.load(workshop, front, old, generation));
  const lead = (to: LoadedProgram) => entry.setProgram(0, to);
  const loaded = made.move();
  return {
    commit: () => lead(gate?.program ?? generation.head),
    arrive: () => lead(generation.head),
    revert: () => lead(old.head),
    finish: () => {
      settle(generation);
      between.use(old);
      return between;
    },
    abandon: () => loaded.dispose(),
  };
}

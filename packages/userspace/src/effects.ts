/** What a call of a function may do besides giving an answer, by its code and that of all functions that it reaches. */
import { Helper } from '@tailrace/bpf';
import { type Code, isHelperCall, isRegisterCall, operationAt } from './code.ts';
import { type FunctionGraph, namingsOf } from './control-flow.ts';

/** What calls do. Functions are named by the slots where they start. */
export interface Effects {
  /** Functions that may move the packet, so that pointers into it are stale. */
  readonly moves: ReadonlySet<number>;
  /** Functions that may hand over records, which are nobody's then. */
  readonly closes: ReadonlySet<number>;
  /** Functions that may write anywhere, since they run what is not known: tail calls. */
  readonly leaves: ReadonlySet<number>;
  /** The functions that each function reaches, itself among them. */
  readonly reach: ReadonlyMap<number, ReadonlySet<number>>;
  /** Functions whose address is taken. */
  readonly callbacks: ReadonlySet<number>;
}

/** True for helpers that call functions of the program. */
export function callsBack(helper: number): boolean {
  return helper === Helper.loop || helper === Helper.for_each_map_elem;
}

/** Finds what calls do. `movesPacket`: whether a helper does. */
export function effectsOf(code: Code, graphs: readonly FunctionGraph[], movesPacket: (helper: number) => boolean): Effects {
  const callbacks = new Set(
    graphs.flatMap((graph) => namingsOf(code, graph).flatMap(({ pc, to }) => (operationAt(code, pc).callback === undefined ? [] : [to]))),
  );
  const own = new Map(graphs.map((graph) => [graph.start, ownEffects(code, graph, movesPacket)]));
  const named = new Map(
    graphs.map((graph) => {
      const called = namingsOf(code, graph).map(({ to }) => to);
      // whichever function is called back: its address may have come as an argument
      return [graph.start, own.get(graph.start)?.callsBack ? [...called, ...callbacks] : called];
    }),
  );
  const reach = new Map(graphs.map(({ start }) => [start, reachOf(start, named)]));
  const starts = (has: (effects: OwnEffects) => boolean): ReadonlySet<number> =>
    new Set(
      graphs.flatMap(({ start }) => ([...(reach.get(start) ?? [])].some((reached) => has(own.get(reached) as OwnEffects)) ? [start] : [])),
    );
  return {
    moves: starts(({ moves, leaves }) => moves || leaves),
    closes: starts(({ closes, leaves }) => closes || leaves),
    leaves: starts(({ leaves }) => leaves),
    reach,
    callbacks,
  };
}

interface OwnEffects {
  moves: boolean;
  closes: boolean;
  leaves: boolean;
  callsBack: boolean;
}

function ownEffects(code: Code, { blocks }: FunctionGraph, movesPacket: (helper: number) => boolean): OwnEffects {
  const effects = { moves: false, closes: false, leaves: false, callsBack: false };
  for (const { start, end } of blocks)
    for (let pc = start; pc < end; pc += operationAt(code, pc).slots) {
      const operation = operationAt(code, pc);
      effects.leaves ||= isRegisterCall(operation);
      if (!isHelperCall(operation)) continue;
      const helper = operation.imm;
      effects.moves ||= movesPacket(helper);
      effects.closes ||= helper === Helper.ringbuf_submit || helper === Helper.ringbuf_discard;
      effects.leaves ||= helper === Helper.tail_call;
      effects.callsBack ||= callsBack(helper);
    }
  return effects;
}

function reachOf(start: number, named: ReadonlyMap<number, readonly number[]>): ReadonlySet<number> {
  const reached = new Set([start]);
  for (const from of reached) for (const to of named.get(from) ?? []) reached.add(to);
  return reached;
}

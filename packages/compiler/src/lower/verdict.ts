/** Ways out of a program: the hook's verdicts, `next()` and exits, each counted, each edge a tail call or a constant. */
import { ArgumentError, Helper } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import type { Value } from '../ir.ts';
import { counterNames, type Edge } from '../placement.ts';
import { UINT32 } from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { fact } from './fact.ts';
import type { Lowering } from './lowering.ts';
import { isRedirectKind } from './map-kind.ts';
import { describe, type Operand, type VerdictOperand } from './operand.ts';
import type { Join } from './path.ts';
import type { Program } from './program.ts';
import { exact } from './scalar.ts';
import { count, packetLength } from './state.ts';

export const VERDICTS: ReadonlySet<string> = new Set(['next', 'exit', 'pass', 'drop', 'tx', 'abort', 'redirect']);

/** `ctx.drop()` and its like: the verdict takes effect where it is returned. */
export function verdictOf(program: Program, node: SyntaxNode, name: string, args: readonly Operand[]): VerdictOperand {
  const { lowering } = program;
  if (name === 'next') return { kind: 'verdict', outcome: { next: true } };
  if (name === 'exit') {
    const [label] = args;
    if (label?.kind !== 'string') return lowering.fail(node, 'type', 'a label must be a literal', "write ctx.exit('name')");
    return { kind: 'verdict', outcome: { exit: label.value } };
  }
  if (name === 'redirect') return { kind: 'verdict', outcome: { dynamic: redirect(lowering, node, args) } };
  return { kind: 'verdict', outcome: { verdict: name } };
}

function redirect(lowering: Lowering, node: SyntaxNode, args: readonly Operand[]) {
  const [target, key] = args;
  if (target?.kind === 'map') {
    if (!isRedirectKind(target.map.type))
      lowering.fail(node, 'type', `map '${target.map.name}' is of type ${target.map.type}, expected devmap, devmapHash, cpumap or xskmap`);
    const index = numberArgument(lowering, argumentNode(node, 1), key, UINT32);
    return lowering.call(Helper.redirect_map, [lowering.mapHandle(target.reference), exact(lowering, index), lowering.constant(0)]);
  }
  return lowering.call(Helper.redirect, [
    exact(lowering, numberArgument(lowering, argumentNode(node, 0), target, UINT32)),
    lowering.constant(0),
  ]);
}

/** A verdict as the kernel knows it. */
function verdictNumber(lowering: Lowering, verdict: string): Value {
  const number = lowering.hook.verdicts[verdict];
  if (number === undefined) throw new ArgumentError(`an edge leads to '${verdict}', which is no verdict of ${lowering.hook.kind}`);
  return lowering.constant(number);
}

/** All paths that leave in one way meet before they are counted: the code of a way out stands once. */
export class Exits {
  readonly #program: Program;
  readonly #names: readonly string[];
  readonly #joins = new Map<string, { join: Join; outcome: VerdictOperand['outcome'] }>();

  constructor(program: Program) {
    this.#program = program;
    this.#names = counterNames(program.lowering.hook.kind, Object.keys(program.placement?.exits ?? {}));
  }

  /** Labels that some path left through. */
  get labels(): readonly string[] {
    return [...this.#joins.values()].flatMap(({ outcome }) => ('exit' in outcome ? [outcome.exit] : []));
  }

  /** Ends the current path with a verdict. */
  leave(node: SyntaxNode, operand: Operand): void {
    const { lowering } = this.#program;
    if (operand.kind === 'conflict') lowering.fail(node, 'verdict', operand.message, operand.hint);
    if (operand.kind !== 'verdict') {
      return lowering.fail(
        node,
        'verdict',
        operand.kind === 'undefined' ? 'a path ends without a verdict' : `${describe(operand)} is returned, expected a verdict`,
        'return ctx.next(), ctx.drop(), …',
      );
    }
    const { outcome } = operand;
    if ('dynamic' in outcome) return this.#leaveDynamic(outcome.dynamic);
    const name = 'next' in outcome ? 'next' : 'exit' in outcome ? `exit:${outcome.exit}` : outcome.verdict;
    let entry = this.#joins.get(name);
    if (!entry) {
      entry = { join: lowering.newJoin(), outcome };
      this.#joins.set(name, entry);
    }
    lowering.jump(entry.join);
  }

  /** Emits the ways out that were taken. */
  finish(): void {
    const { lowering } = this.#program;
    for (const [name, { join, outcome }] of this.#joins) {
      lowering.place = join.incoming[0]?.from.nodes.at(-1)?.place ?? lowering.place;
      lowering.enter(join);
      this.#count(name);
      if ('verdict' in outcome) lowering.return(verdictNumber(lowering, outcome.verdict));
      else if ('next' in outcome) this.#follow(this.#program.placement?.next ?? { verdict: 'pass' });
      else if ('exit' in outcome) this.#follow(this.#program.placement?.exits[outcome.exit] ?? { verdict: 'pass' });
    }
  }

  #count(name: string): void {
    const { lowering, placement } = this.#program;
    if (placement?.state?.counters === undefined) return;
    count(this.#program, this.#names, 'bytes', exact(lowering, packetLength(this.#program)));
    count(this.#program, this.#names, name, lowering.constant(1));
  }

  #leaveDynamic(value: Value): void {
    const { lowering, placement } = this.#program;
    if (placement?.state?.counters === undefined) return lowering.return(value);
    lowering.branch(
      'eq',
      value,
      verdictNumber(lowering, 'redirect'),
      () => {
        this.#count('redirect');
        lowering.return(value);
      },
      () => {
        this.#count(lowering.hook.refusedRedirect);
        lowering.return(value);
      },
      'then',
    );
  }

  /** Along an edge: a verdict is a constant, a slot a tail call that comes back only where the slot is empty. */
  #follow(edge: Edge): void {
    const { lowering, placement, stage } = this.#program;
    if ('verdict' in edge) return lowering.return(verdictNumber(lowering, edge.verdict));
    if (placement) {
      lowering.call(Helper.tail_call, [lowering.graph.context, lowering.mapHandle(placement.array), lowering.constant(edge.slot)]);
      // look the state up again: keeping its address across the jump would cost every packet
      lowering.environment.values.delete(fact('state'));
      if (placement.state?.counters !== undefined) count(this.#program, this.#names, 'misses', lowering.constant(1));
    }
    lowering.return(verdictNumber(lowering, stage.onMiss));
  }
}

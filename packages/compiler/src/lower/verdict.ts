/** Ways out of a program: the hook's verdicts, `next()` and exits, each counted, each edge a tail call or a constant. */
import { ArgumentError, Helper } from '@tailrace/bpf';
import type { Node as SyntaxNode } from 'acorn';
import type { Place, Value } from '../ir.ts';
import { counterNames, type Edge } from '../placement.ts';
import { UINT32 } from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { AT_DATA, AT_FRAMES, AT_TC, AT_XDP, type Member, type Members } from './context-member.ts';
import type { Ends } from './ends.ts';
import { fact } from './fact.ts';
import type { Lowering } from './lowering.ts';
import { isRedirectKind } from './map-kind.ts';
import { tellDrop, tellTrace } from './observe.ts';
import { describe, type Operand, type VerdictOperand } from './operand.ts';
import { tellSum } from './packet-sum.ts';
import type { Join } from './path.ts';
import type { Program } from './program.ts';
import { exact } from './scalar.ts';
import { BPF_F_INGRESS, toSocket } from './socket-member.ts';
import { count, metadataOffset, packetLength, segments } from './state.ts';

const plain = (outcome: VerdictOperand['outcome']): Member => ({ call: () => ({ kind: 'verdict', outcome }) });

/** A verdict that may say why. */
const reasoned = (verdict: 'abort' | 'drop'): Member => ({
  call({ lowering }, node, [reason]) {
    if (reason === undefined || reason.kind === 'undefined') return { kind: 'verdict', outcome: { verdict } };
    if (reason.kind !== 'string' || reason.value === '')
      return lowering.fail(node, 'type', 'a reason must be a literal', `write ctx.${verdict}('reason')`);
    return { kind: 'verdict', outcome: { verdict, reason: reason.value } };
  },
});

/** `ctx.drop()` and its like: a verdict takes effect where it is returned, a redirect where it is called. */
export const VERDICTS: Members = {
  next: plain({ next: true }),
  exit: {
    call: ({ lowering }, node, [label]) =>
      label?.kind === 'string'
        ? { kind: 'verdict', outcome: { exit: label.value } }
        : lowering.fail(node, 'type', 'a label must be a literal', "write ctx.exit('name')"),
  },
  pass: plain({ verdict: 'pass' }),
  drop: { ...reasoned('drop'), hooks: [...AT_FRAMES, ...AT_DATA] },
  tx: { ...plain({ verdict: 'tx' }), hooks: AT_XDP, hint: 'use ctx.redirect(ctx.ifindex)' },
  abort: { ...reasoned('abort'), hooks: AT_XDP, hint: 'use ctx.drop()' },
  redirect: {
    hooks: [...AT_FRAMES, ...AT_DATA],
    call: ({ lowering }, node, args) => (lowering.hook.socket ? dataTo(lowering, node, args, 0) : dynamic(redirect(lowering, node, args))),
  },
  redirectIngress: {
    hooks: [...AT_TC, ...AT_DATA],
    call: ({ lowering }, node, args) =>
      lowering.hook.socket
        ? dataTo(lowering, node, args, BPF_F_INGRESS)
        : // the flag means the same to bpf_redirect: in, as if the packet had come in there
          dynamic(toInterface(lowering, node, args, Helper.redirect, [BPF_F_INGRESS])),
  },
  redirectNeigh: {
    hooks: AT_TC,
    hint: 'ask for it at tcEgress, or write the addresses and use ctx.redirect(ifindex)',
    // no parameters: the kernel looks the next hop up
    call: ({ lowering }, node, args) => dynamic(toInterface(lowering, node, args, Helper.redirect_neigh, [0, 0, 0])),
  },
  redirectPeer: {
    hooks: ['tcIngress'],
    hint: 'the kernel takes it at tcIngress alone',
    call: ({ lowering }, node, args) => dynamic(toInterface(lowering, node, args, Helper.redirect_peer, [0])),
  },
};

const dynamic = (value: Value): VerdictOperand => ({ kind: 'verdict', outcome: { dynamic: value } });

/** Data to another socket; where there is none under the key they are dropped, or pass where the third argument says so. */
function dataTo(lowering: Lowering, node: SyntaxNode, args: readonly Operand[], flags: number): VerdictOperand {
  const [, , otherwise] = args;
  const passes = otherwise?.kind === 'string' && otherwise.value === 'pass';
  if (otherwise !== undefined && otherwise.kind !== 'undefined' && !passes && !(otherwise.kind === 'string' && otherwise.value === 'drop'))
    lowering.fail(argumentNode(node, 2), 'type', "what becomes of data without a socket must be 'drop' or 'pass'");
  const value = toSocket(lowering, node, args, flags);
  return { kind: 'verdict', outcome: { dynamic: value, ...(passes ? { refused: 'pass' as const } : {}) } };
}

function redirect(lowering: Lowering, node: SyntaxNode, args: readonly Operand[]): Value {
  const [target, key] = args;
  if (target?.kind !== 'map') return toInterface(lowering, node, args, Helper.redirect, [0]);
  if (lowering.hook.kind !== 'xdp')
    lowering.fail(argumentNode(node, 0), 'type', 'a devmap leads packets of XDP alone', 'pass the index of the interface');
  if (!isRedirectKind(target.map.type))
    lowering.fail(node, 'type', `map '${target.map.name}' is of type ${target.map.type}, expected devmap, devmapHash, cpumap or xskmap`);
  const index = numberArgument(lowering, argumentNode(node, 1), key, UINT32);
  return lowering.call(Helper.redirect_map, [lowering.mapHandle(target.reference), exact(lowering, index), lowering.constant(0)]);
}

function toInterface(lowering: Lowering, node: SyntaxNode, [ifindex]: readonly Operand[], helper: number, rest: readonly number[]): Value {
  const index = exact(lowering, numberArgument(lowering, argumentNode(node, 0), ifindex, UINT32));
  return lowering.call(helper, [index, ...rest.map((value) => lowering.constant(value))]);
}

/** A verdict as the kernel knows it. */
function verdictNumber(lowering: Lowering, verdict: string): Value {
  return lowering.constant(verdictOf(lowering, verdict));
}

function verdictOf({ hook }: Lowering, verdict: string): number {
  const number = hook.verdicts[verdict];
  if (number === undefined) throw new ArgumentError(`an edge leads to '${verdict}', which is no verdict of ${hook.kind}`);
  return number;
}

/** All paths that leave in one way meet before they are counted: the code of a way out stands once. */
export class Exits {
  readonly #program: Program;
  readonly #names: readonly string[];
  readonly #joins = new Map<string, { join: Join; outcome: VerdictOperand['outcome']; place: Place | undefined }>();
  readonly #reasons = new Set<string>();
  /** Metadata fields that all paths to an outcome have written. */
  readonly #writes = new Map<string, ReadonlySet<string>>();
  readonly #ends: Ends;

  constructor(program: Program, ends: Ends) {
    this.#program = program;
    this.#ends = ends;
    const { exits = {}, reasons } = program.placement ?? {};
    this.#names = counterNames(program.lowering.hook.kind, Object.keys(exits), reasons);
  }

  /** Labels that some path left through. */
  get labels(): readonly string[] {
    return [...this.#joins.values()].flatMap(({ outcome }) => ('exit' in outcome ? [outcome.exit] : []));
  }

  /** The reasons that some path gives, as `drop:` or `abort:` with the reason. */
  get reasons(): ReadonlySet<string> {
    return this.#reasons;
  }

  /** The ways out that some path takes, by the names of their counters but for reasons, and the metadata fields that all of them have written. */
  get writes(): ReadonlyMap<string, ReadonlySet<string>> {
    return this.#writes;
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
    this.#note(nameOf(outcome));
    const name = this.#counterOf(outcome);
    if ('dynamic' in outcome) return this.#leaveDynamic(outcome.dynamic, outcome.refused);
    let entry = this.#joins.get(name);
    if (!entry) {
      entry = { join: lowering.newJoin(), outcome, place: lowering.source.place(node) };
      this.#joins.set(name, entry);
    }
    lowering.jump(entry.join);
  }

  /** Emits the ways out that were taken, but for what they share with those of other parts. */
  finish(): void {
    const { lowering } = this.#program;
    for (const [name, { join, outcome, place }] of this.#joins) {
      lowering.place = place;
      lowering.enter(join);
      const edge = this.#edgeOf(outcome);
      // the card's sum goes on with the path
      if (!edge || !('part' in edge)) tellSum(lowering);
      this.#count(name);
      if ('verdict' in outcome) this.#end(name, outcome.verdict);
      else if (edge) this.#follow(name, edge);
    }
  }

  #edgeOf(outcome: VerdictOperand['outcome']): Edge | undefined {
    const { placement } = this.#program;
    if ('next' in outcome) return placement?.next ?? { verdict: 'pass' };
    return 'exit' in outcome ? (placement?.exits[outcome.exit] ?? { verdict: 'pass' }) : undefined;
  }

  /** Keeps of an outcome's fields those that this path has written too. */
  #note(name: string): void {
    const { lowering, stage, placement } = this.#program;
    const known = this.#writes.get(name);
    const fields = known ?? Object.keys(stage.writes);
    const written = [...fields].filter((field) => {
      const place = placement?.metadata?.[field];
      return (
        place !== undefined && lowering.written.isWhole(lowering.environment, metadataOffset(lowering.hook, place.offset), place.layout)
      );
    });
    this.#writes.set(name, new Set(written));
  }

  /** A reason has a counter of its own where packets are counted or told of; elsewhere it makes no difference. */
  #counterOf(outcome: VerdictOperand['outcome']): string {
    const name = nameOf(outcome);
    if (!('verdict' in outcome) || outcome.reason === undefined) return name;
    const reasoned = `${name}:${outcome.reason}`;
    this.#reasons.add(reasoned);
    const { placement } = this.#program;
    if (placement?.state?.counters === undefined && placement?.observe === undefined) return name;
    if (!this.#names.includes(reasoned))
      throw new ArgumentError(`the placement of '${this.#program.stage.name}' has no reason '${reasoned}'`);
    return reasoned;
  }

  #count(name: string): void {
    const { lowering, placement } = this.#program;
    if (placement?.state?.counters === undefined) return;
    if (lowering.hook.bytes) count(this.#program, this.#names, 'bytes', exact(lowering, packetLength(this.#program)));
    count(this.#program, this.#names, name, lowering.hook.kind === 'tc' ? exact(lowering, segments(this.#program)) : lowering.constant(1));
  }

  #leaveDynamic(value: Value, refused: 'pass' | undefined): void {
    const { lowering, placement } = this.#program;
    tellSum(lowering);
    const isWatched = placement?.state?.counters !== undefined || placement?.observe !== undefined;
    if (!isWatched && refused === undefined) return lowering.return(value);
    const leaveAs = (verdict: string, returned: () => Value) => (): void => {
      this.#count(verdict);
      this.#tell(verdict, verdict);
      lowering.return(returned());
    };
    const otherwise = refused
      ? leaveAs(refused, () => verdictNumber(lowering, refused))
      : leaveAs(lowering.hook.refusedRedirect, () => value);
    lowering.branch(
      'eq',
      value,
      verdictNumber(lowering, 'redirect'),
      leaveAs('redirect', () => value),
      otherwise,
      'then',
    );
  }

  /** Tells of a packet that leaves by an outcome: with a verdict, or to another stage. */
  #tell(name: string, verdict?: string): void {
    const { lowering, placement } = this.#program;
    const observe = placement?.observe;
    if (!observe) return;
    const number = verdict === undefined ? undefined : verdictOf(lowering, verdict);
    const way = { outcome: this.#names.indexOf(name), verdict: number };
    tellTrace(this.#program, observe, way);
    if (verdict === 'drop' || verdict === 'abort') tellDrop(this.#program, observe, way);
  }

  #end(name: string, verdict: string, way: 'pass' | 'miss' = 'pass'): void {
    const { lowering, placement } = this.#program;
    this.#tell(name, verdict);
    if (verdict !== 'pass' || !placement?.crossing) return lowering.return(verdictNumber(lowering, verdict));
    this.#ends.cross(this.#program, way);
  }

  /**
   * Along an edge: a verdict is a constant, another part of the program a jump, a slot a tail call that comes back only where
   * the slot is empty.
   */
  #follow(name: string, edge: Edge): void {
    const { lowering, placement, stage } = this.#program;
    if ('verdict' in edge) return this.#end(name, edge.verdict);
    this.#tell(name);
    if ('part' in edge) return this.#ends.lead(lowering, edge.part);
    if (placement) {
      const call = lowering.call(Helper.tail_call, [
        lowering.graph.context,
        lowering.mapHandle(placement.array),
        lowering.constant(edge.slot),
      ]);
      if (edge.carries) lowering.handed.set(call, edge.carries);
      // look the state up again: keeping its address across the jump would cost every packet
      lowering.environment.values.delete(fact('state'));
      if (placement.state?.counters !== undefined) count(this.#program, this.#names, 'misses', lowering.constant(1));
    }
    this.#end('misses', stage.onMiss, 'miss');
  }
}

/** An outcome by the name of its counter, without a reason; a redirect by the one that counts where it works. */
function nameOf(outcome: VerdictOperand['outcome']): string {
  if ('dynamic' in outcome) return 'redirect';
  return 'next' in outcome ? 'next' : 'exit' in outcome ? `exit:${outcome.exit}` : outcome.verdict;
}

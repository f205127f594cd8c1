/** The members of `ctx`: properties, and methods other than verdicts and headers. */
import { Helper } from '@tailrace/bpf';
import { describeLayout } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import * as R from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { checksum, checksumReplace } from './checksum.ts';
import { forgetPacket } from './fact.ts';
import { at, HEADER_NAMES, type HeaderName, header } from './header.ts';
import type { Lowering } from './lowering.ts';
import { present } from './memory.ts';
import { describe, type NumberOperand, type Operand, type RefOperand } from './operand.ts';
import type { Program } from './program.ts';
import { exact } from './scalar.ts';
import { lengthened, packetLength } from './state.ts';
import { VERDICTS, verdictOf } from './verdict.ts';

/** Offsets into struct xdp_md (include/uapi/linux/bpf.h). */
const PROPERTIES: Readonly<Record<string, number>> = { ingressIfindex: 12, rxQueue: 16 };
const METHODS = ['at', 'offsetOf', 'adjustHead', 'adjustTail', 'now', 'nowCoarse', 'random', 'cpu', 'checksum', 'checksumReplace'] as const;
type Method = (typeof METHODS)[number];

/** `ctx.name`. */
export function contextMember(program: Program, node: SyntaxNode, name: string): Operand {
  const { lowering } = program;
  if (name === 'length') return packetLength(program);
  if (name === 'meta') return { kind: 'meta' };
  const offset = Object.hasOwn(PROPERTIES, name) ? PROPERTIES[name] : undefined;
  if (offset !== undefined) return { kind: 'number', range: R.UINT32, exact: lowering.load(4, 'context', lowering.graph.context, offset) };
  if (HEADER_NAMES.has(name) || VERDICTS.has(name) || METHODS.includes(name as Method))
    return { kind: 'method', of: { kind: 'context' }, name };
  return lowering.fail(
    node,
    'name',
    `ctx has no member '${name}'`,
    nearest(name, ['length', 'meta', ...Object.keys(PROPERTIES), ...HEADER_NAMES, ...VERDICTS, ...METHODS]),
  );
}

/** `ctx.name(…)`. */
export function contextCall(program: Program, node: SyntaxNode, name: string, args: readonly Operand[]): Operand {
  const { lowering } = program;
  if (HEADER_NAMES.has(name)) return header(lowering, name as HeaderName);
  if (VERDICTS.has(name)) return verdictOf(program, node, name, args);
  switch (name as Method) {
    case 'at': {
      const [schema, offset] = args;
      if (schema?.kind !== 'schema')
        return lowering.fail(node, 'type', 'ctx.at takes a schema first', 'declare it with struct({ … }) and pass it through uses');
      if (schema.layout.kind === 'int' || schema.layout.kind === 'bool') {
        const type = describeLayout(schema.layout);
        return lowering.fail(node, 'type', `ctx.at takes a struct or an array, got ${type}`, `write struct({ value: ${type} })`);
      }
      return at(lowering, argumentNode(node, 1), schema.layout, offset ?? { kind: 'undefined' });
    }
    case 'offsetOf':
      return (
        packetRef(lowering, argumentNode(node, 0), args[0]).position ??
        lowering.fail(node, 'type', 'only headers have an offset in the packet')
      );
    case 'adjustHead':
      return adjust(program, node, Helper.xdp_adjust_head, name, args);
    case 'adjustTail':
      return adjust(program, node, Helper.xdp_adjust_tail, name, args);
    case 'now':
      return { kind: 'bigint', range: R.range(0n, R.INT64.hi), value: lowering.call(Helper.ktime_get_ns, []) };
    case 'nowCoarse':
      return { kind: 'bigint', range: R.range(0n, R.INT64.hi), value: lowering.call(Helper.ktime_get_coarse_ns, []) };
    case 'random':
      return { kind: 'number', range: R.UINT32, exact: lowering.unary('zext32', lowering.call(Helper.get_prandom_u32, [])) };
    case 'cpu':
      return { kind: 'number', range: R.range(0n, 8191n), exact: lowering.call(Helper.get_smp_processor_id, [], { pure: true }) };
    case 'checksum':
      return checksum(lowering, argumentNode(node, 1), packetRef(lowering, argumentNode(node, 0), args[0]), args[1]);
    case 'checksumReplace': {
      const [check, from, to] = [R.UINT16, R.UINT32, R.UINT32].map((range, i) =>
        numberArgument(lowering, argumentNode(node, i), args[i], range),
      ) as [NumberOperand, NumberOperand, NumberOperand];
      return checksumReplace(lowering, check, from, to);
    }
  }
}

function packetRef(lowering: Lowering, node: SyntaxNode, operand: Operand | undefined): RefOperand {
  if (operand?.kind !== 'ref' || operand.space !== 'packet')
    return lowering.fail(node, 'type', `${operand ? describe(operand) : 'nothing'} where a header is expected`);
  return present(lowering, node, operand);
}

/** Moves an end of the packet: every reference into it is stale, whether the call works or not. */
function adjust(program: Program, node: SyntaxNode, helper: number, name: string, args: readonly Operand[]): Operand {
  const { lowering } = program;
  const delta = numberArgument(lowering, argumentNode(node, 0), args[0], R.INT32);
  const by = exact(lowering, delta);
  // a head that moves forward makes the packet shorter
  const longerBy = helper === Helper.xdp_adjust_head ? lowering.unary('neg', by) : by;
  const result = lowering.call(helper, [lowering.graph.context, by], { movesPacket: true });
  lowering.environment.epoch = { call: `ctx.${name}()` };
  forgetPacket(lowering);
  const done = lowering.newJoin();
  lowering.branch(
    'eq',
    result,
    lowering.constant(0),
    () => {
      lengthened(program, longerBy);
      lowering.jump(done, { kind: 'boolean', value: lowering.constant(1) });
    },
    () => lowering.jump(done, { kind: 'boolean', value: lowering.constant(0) }),
    'then',
  );
  return lowering.enter(done) ?? { kind: 'undefined' };
}

/** A hint for a misspelt name: the closest of those there are, or all of them. */
export function nearest(name: string, names: readonly string[]): string {
  const [best] = names.map((n) => ({ n, distance: distance(name.toLowerCase(), n.toLowerCase()) })).sort((a, b) => a.distance - b.distance);
  return best && best.distance <= 2 ? `did you mean '${best.n}'?` : `there are: ${names.join(', ')}`;
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, x] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, y] of [...b].entries())
      next.push(Math.min((row[j] ?? 0) + (x === y ? 0 : 1), (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    row = next;
  }
  return row.at(-1) ?? 0;
}

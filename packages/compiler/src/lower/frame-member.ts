/** Members of `ctx` that look into the frame: headers, places, checksums. */
import { describeLayout } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import * as R from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { checksum, checksumReplace } from './checksum.ts';
import { AT_DATA, AT_FRAMES, type Members } from './context-member.ts';
import { at, HEADER_NAMES, type HeaderName, header } from './header.ts';
import type { Lowering } from './lowering.ts';
import { present } from './memory.ts';
import { describe, type NumberOperand, type Operand, type RefOperand } from './operand.ts';

const HEADERS: Members = Object.fromEntries(
  [...HEADER_NAMES].map((name) => [name, { call: ({ lowering }) => header(lowering, name as HeaderName) }]),
) satisfies Members;

export const FRAME_MEMBERS: Members = {
  ...HEADERS,
  at: { hooks: [...AT_FRAMES, ...AT_DATA], call: ({ lowering }, node, args) => place(lowering, node, args) },
  offsetOf: {
    call: ({ lowering }, node, args) =>
      packetRef(lowering, argumentNode(node, 0), args[0]).position ??
      lowering.fail(node, 'type', 'only headers have an offset in the packet'),
  },
  checksum: {
    call: ({ lowering }, node, args) =>
      checksum(lowering, argumentNode(node, 1), packetRef(lowering, argumentNode(node, 0), args[0]), args[1]),
  },
  checksumReplace: {
    call: ({ lowering }, node, args) => {
      const [check, from, to] = [R.UINT16, R.UINT32, R.UINT32].map((range, i) =>
        numberArgument(lowering, argumentNode(node, i), args[i], range),
      ) as [NumberOperand, NumberOperand, NumberOperand];
      return checksumReplace(lowering, check, from, to);
    },
  },
};

/** `ctx.at(schema, offset)`. */
function place(lowering: Lowering, node: SyntaxNode, [schema, offset]: readonly Operand[]): Operand {
  if (schema?.kind !== 'schema')
    return lowering.fail(node, 'type', 'ctx.at takes a schema first', 'declare it with struct({ … }) and pass it through uses');
  if (schema.layout.kind === 'int' || schema.layout.kind === 'bool') {
    const type = describeLayout(schema.layout);
    return lowering.fail(node, 'type', `ctx.at takes a struct or an array, got ${type}`, `write struct({ value: ${type} })`);
  }
  return at(lowering, argumentNode(node, 1), schema.layout, offset ?? { kind: 'undefined' });
}

function packetRef(lowering: Lowering, node: SyntaxNode, operand: Operand | undefined): RefOperand {
  if (operand?.kind !== 'ref' || operand.space !== 'packet')
    return lowering.fail(node, 'type', `${operand ? describe(operand) : 'nothing'} where a header is expected`);
  return present(lowering, node, operand);
}

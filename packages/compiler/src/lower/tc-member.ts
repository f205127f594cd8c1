/** Members of `ctx` that TC alone has: what the kernel knows of a packet beside its bytes. */
import { Helper } from '@tailrace/bpf';
import { TunnelKey, u32 } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import { SK_BUFF } from '../hook-model.ts';
import type { Value } from '../ir.ts';
import * as R from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { AT_TC, type Member, type Members } from './context-member.ts';
import type { Lowering } from './lowering.ts';
import { readPlace } from './memory.ts';
import { type Operand, type RefOperand, UNDEFINED } from './operand.ts';
import { tellSum } from './packet-sum.ts';
import type { Program } from './program.ts';
import { keepingReferences } from './reference.ts';
import { exact } from './scalar.ts';
import { contextWord, segments } from './state.ts';
import { onStack, stackRef } from './store.ts';
import { succeeded } from './success.ts';

/** Of bpf_skb_get_tunnel_key and its like. */
const BPF_F_TUNINFO_IPV6 = 1;
/** The kernel leaves the queue as it is where one writes more (NO_QUEUE_MAPPING, include/linux/skbuff.h). */
const QUEUES = R.range(0n, 0xfffen);

export const TC_MEMBERS: Members = {
  segments: { hooks: AT_TC, hint: 'at XDP no packet has been put together yet', get: segments },
  mark: writable(SK_BUFF.mark, 'tell later stages by ctx.meta'),
  priority: writable(SK_BUFF.priority),
  queue: {
    ...writable(SK_BUFF.queueMapping, 'ctx.rxQueue is the queue that the packet came in on'),
    get: ({ lowering }) => ({
      kind: 'number',
      range: R.UINT16,
      exact: lowering.load(4, 'skb', lowering.graph.context, SK_BUFF.queueMapping),
    }),
    assignable: QUEUES,
  },
  hash: {
    hooks: AT_TC,
    get: ({ lowering }) => ({
      kind: 'number',
      range: R.UINT32,
      exact: lowering.unary('zext32', lowering.call(Helper.get_hash_recalc, [lowering.graph.context], { pure: true })),
    }),
  },
  ifindex: { hooks: AT_TC, hint: 'use ctx.ingressIfindex', get: ({ lowering }) => contextWord(lowering, SK_BUFF.ifindex) },
  clone: {
    hooks: AT_TC,
    call: (program, node, args) => {
      const { lowering } = program;
      const ifindex = numberArgument(lowering, argumentNode(node, 0), args[0], R.UINT32);
      const operands = [lowering.graph.context, exact(lowering, ifindex), lowering.constant(0)];
      tellSum(lowering);
      const cloned = keepingReferences(lowering, () => lowering.call(Helper.clone_redirect, operands, { movesPacket: true }));
      return succeeded(lowering, cloned);
    },
  },
  tunnelKey: { hooks: AT_TC, call: tunnelKey },
  setTunnelKey: { hooks: AT_TC, call: setTunnelKey },
};

/** A word of __sk_buff that programs may write. */
function writable(offset: number, hint?: string): Member {
  const place = ({ lowering }: Program): RefOperand => ({
    kind: 'ref',
    layout: u32.layout,
    base: lowering.graph.context,
    offset,
    space: 'skb',
    shared: false,
    nullable: false,
  });
  return { hooks: AT_TC, ...(hint ? { hint } : {}), get: (program) => readPlace(program.lowering, place(program)), place };
}

/** Copies the metadata to the stack; the kernel's struct bpf_tunnel_key is laid out as TunnelKey. */
function tunnelKey({ lowering }: Program, node: SyntaxNode, [family]: readonly Operand[]): Operand {
  const { layout } = TunnelKey;
  const slot = lowering.slot(layout.size);
  const key = lowering.stackAddress(slot);
  const flags = familyFlags(lowering, argumentNode(node, 0), family);
  const result = lowering.call(Helper.skb_get_tunnel_key, [lowering.graph.context, key, lowering.constant(layout.size), flags], {
    writesStack: [slot],
  });
  const done = lowering.newJoin();
  lowering.branch(
    'eq',
    result,
    lowering.constant(0),
    () => lowering.jump(done, stackRef(layout, key)),
    () => lowering.jump(done, UNDEFINED),
  );
  return lowering.enter(done) ?? UNDEFINED;
}

function setTunnelKey({ lowering }: Program, node: SyntaxNode, [key, family]: readonly Operand[]): Operand {
  if (!key) return lowering.fail(node, 'type', 'setTunnelKey() needs a key', 'declare it with TunnelKey: { id, remote, … }');
  const { layout } = TunnelKey;
  const flags = familyFlags(lowering, argumentNode(node, 1), family);
  const { address, slot } = onStack(lowering, argumentNode(node, 0), layout, key);
  const args = [lowering.graph.context, address, lowering.constant(layout.size), flags];
  return succeeded(lowering, lowering.call(Helper.skb_set_tunnel_key, args, { readsStack: [slot] }));
}

function familyFlags(lowering: Lowering, node: SyntaxNode, family: Operand | undefined): Value {
  if (family === undefined || family.kind === 'undefined') return lowering.constant(0);
  if (family.kind !== 'string' || (family.value !== 'ipv4' && family.value !== 'ipv6'))
    return lowering.fail(node, 'type', "the family must be 'ipv4' or 'ipv6'");
  return lowering.constant(family.value === 'ipv6' ? BPF_F_TUNINFO_IPV6 : 0);
}

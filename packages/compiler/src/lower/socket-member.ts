/** What programs of sockets are told: the ends of the connection, events, and where data can be sent on. */
import { Helper } from '@tailrace/bpf';
import { be32, type Hook } from '@tailrace/stage';
import type { Node as SyntaxNode } from 'acorn';
import { SK_BUFF, SOCK_OPS, type SocketPlaces } from '../hook-model.ts';
import type { Value } from '../ir.ts';
import * as R from '../range.ts';
import { argumentNode, numberArgument } from './argument.ts';
import { AT_SOCKETS, type Member, type Members } from './context-member.ts';
import type { Lowering } from './lowering.ts';
import { readPlace } from './memory.ts';
import type { MapOperand, Operand } from './operand.ts';
import { exact } from './scalar.ts';
import { contextWord } from './state.ts';
import { onStack } from './store.ts';
import { succeeded } from './success.ts';

const AT_EVENTS: readonly Hook[] = ['sockOps'];
/** Of bpf_sk_redirect_map and its like: to what the socket's owner reads, not to its peer. */
export const BPF_F_INGRESS = 1;
/** enum of struct bpf_sock_ops' `op`: BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB. */
const ESTABLISHED = { active: 4, passive: 5 } as const;

export const SOCKET_MEMBERS: Members = {
  family: word('family'),
  remoteAddr: address4('remoteIp4'),
  localAddr: address4('localIp4'),
  remoteAddr6: address6('remoteIp6'),
  localAddr6: address6('localIp6'),
  remotePort: {
    hooks: AT_SOCKETS,
    // big-endian, in the word's first half for all of these hooks
    get: ({ lowering }) => {
      const swapped = lowering.unary('swap32', exact(lowering, contextWord(lowering, places(lowering).remotePort)));
      return { kind: 'number', range: R.UINT16, exact: lowering.binary('and', swapped, lowering.constant(0xffff)) };
    },
  },
  localPort: {
    hooks: AT_SOCKETS,
    get: ({ lowering }) => ({ ...contextWord(lowering, places(lowering).localPort), range: R.UINT16 }),
  },
  // TCP keeps its numbers where programs of packets have `cb`: tcp_skb_cb (include/net/tcp.h) begins with `seq`
  sequence: { hooks: ['skSkb'], get: ({ lowering }) => contextWord(lowering, SK_BUFF.cb) },
  op: { hooks: AT_EVENTS, get: ({ lowering }) => contextWord(lowering, SOCK_OPS.op) },
  activeEstablished: isEvent(ESTABLISHED.active),
  passiveEstablished: isEvent(ESTABLISHED.passive),
  netnsCookie: {
    hooks: ['skMsg', 'sockOps'],
    get: ({ lowering }) => ({
      kind: 'bigint',
      range: R.UINT64,
      value: lowering.call(Helper.get_netns_cookie, [lowering.graph.context]),
    }),
  },
  applyBytes: bytes(Helper.msg_apply_bytes),
  corkBytes: bytes(Helper.msg_cork_bytes),
};

/** `ctx.redirect(map, key)` of data: out of another socket, or in at it. */
export function toSocket(lowering: Lowering, node: SyntaxNode, [target, key]: readonly Operand[], flags: number): Value {
  if (target?.kind !== 'map' || (target.map.type !== 'sockmap' && target.map.type !== 'sockhash'))
    return lowering.fail(
      argumentNode(node, 0),
      'type',
      'data go to a socket of a sockmap or a sockhash',
      'write ctx.redirect(sockets, key)',
    );
  if (!key) return lowering.fail(node, 'type', 'redirect() needs a key');
  const [context, map] = [lowering.graph.context, target.handle ?? lowering.mapHandle(target.reference)];
  const isMessage = lowering.hook.kind === 'skMsg';
  if (target.map.type === 'sockmap') {
    const index = exact(lowering, numberArgument(lowering, argumentNode(node, 1), key, R.UINT32));
    return lowering.call(isMessage ? Helper.msg_redirect_map : Helper.sk_redirect_map, [context, map, index, lowering.constant(flags)]);
  }
  const bytesOfKey = onStack(lowering, argumentNode(node, 1), (target.map.key ?? target.map.value).layout, key);
  return lowering.call(
    isMessage ? Helper.msg_redirect_hash : Helper.sk_redirect_hash,
    [context, map, bytesOfKey.address, lowering.constant(flags)],
    { readsStack: [bytesOfKey.slot] },
  );
}

/** `sockets.add(key)`: puts the socket of an event into a map. */
export function addSocket(lowering: Lowering, node: SyntaxNode, { map, handle, reference }: MapOperand, key: Operand | undefined): Operand {
  if (lowering.hook.kind !== 'sockOps')
    return lowering.fail(node, 'name', `'${map.name}' takes sockets on their events: add(key) is there at sockOps`, 'use the handle');
  if (!key) return lowering.fail(node, 'type', 'add() needs a key');
  const bytesOfKey = onStack(lowering, argumentNode(node, 0), (map.key ?? map.value).layout, key);
  const helper = map.type === 'sockhash' ? Helper.sock_hash_update : Helper.sock_map_update;
  const args = [lowering.graph.context, handle ?? lowering.mapHandle(reference), bytesOfKey.address, lowering.constant(0)];
  return succeeded(lowering, lowering.call(helper, args, { readsStack: [bytesOfKey.slot] }));
}

function places({ hook }: Lowering): SocketPlaces {
  // members of sockets are asked for at their hooks only
  return hook.socket as SocketPlaces;
}

function word(name: keyof SocketPlaces): Member {
  return { hooks: AT_SOCKETS, get: ({ lowering }) => contextWord(lowering, places(lowering)[name]) };
}

function address4(name: keyof SocketPlaces): Member {
  return { hooks: AT_SOCKETS, get: ({ lowering }) => addressWord(lowering, places(lowering)[name]) };
}

function addressWord(lowering: Lowering, offset: number): Operand {
  const { context } = lowering.graph;
  return readPlace(lowering, { kind: 'ref', layout: be32.layout, base: context, offset, space: 'context', shared: false, nullable: false });
}

/** Two u64: the context has four words, and the verifier takes them one by one. */
function address6(name: keyof SocketPlaces): Member {
  return {
    hooks: AT_SOCKETS,
    get: ({ lowering }) => {
      const offset = places(lowering)[name];
      const half = (at: number): Operand => {
        const [high, low] = [at, at + 4].map((from) => lowering.unary('swap32', exact(lowering, contextWord(lowering, offset + from))));
        const joined = lowering.binary('or', lowering.binary('lsh', high as Value, lowering.constant(32)), low as Value);
        return { kind: 'bigint', range: R.UINT64, value: joined };
      };
      return {
        kind: 'names',
        what: `ctx.${name.startsWith('remote') ? 'remoteAddr6' : 'localAddr6'}`,
        members: new Map([
          ['hi', half(0)],
          ['lo', half(8)],
        ]),
      };
    },
  };
}

function isEvent(op: number): Member {
  return {
    hooks: AT_EVENTS,
    get: ({ lowering }) => {
      const done = lowering.newJoin();
      const told = (value: number): void => lowering.jump(done, { kind: 'boolean', value: lowering.constant(value) });
      lowering.branch(
        'eq',
        exact(lowering, contextWord(lowering, SOCK_OPS.op)),
        lowering.constant(op),
        () => told(1),
        () => told(0),
      );
      return lowering.enter(done) as Operand;
    },
  };
}

/** How many bytes a verdict holds for, or have to come together before there is one. */
function bytes(helper: number): Member {
  return {
    hooks: ['skMsg'],
    call: ({ lowering }, node, args) => {
      const count = exact(lowering, numberArgument(lowering, argumentNode(node, 0), args[0], R.UINT32));
      lowering.call(helper, [lowering.graph.context, count]);
      return { kind: 'undefined' };
    },
  };
}

/**
 * `ctx`, hook by hook, over a simulated packet. A member that its hook does not have throws, where JavaScript would give
 * undefined: the compiler refuses such a body.
 */
import type { AnyStage, Encapsulation, Hook, Layout, RoomAt } from '@tailrace/stage';
import { Ethernet, Ipv6Fragment } from '@tailrace/stage';
import { SimulationError } from './live-view.ts';
import type { Outcome, RedirectTarget } from './outcome.ts';
import { checksumReplace, headerChecksum, type SummedHeader, type SummedWord, updateChecksum } from './simulated-checksum.ts';
import { arp, type FoundHeader, ipv4, ipv6, tags, transport, tunnel, upper } from './simulated-headers.ts';
import type { SimulatedMaps } from './simulated-map.ts';
import { type Moves, TcMoves, XdpMoves } from './simulated-moves.ts';
import type { SimulatedPacket } from './simulated-packet.ts';
import { SimulatedSkb, type SimulatedSkbOptions, type TunnelFamily } from './simulated-skb.ts';
import { redirectMapOf } from './simulated-uses.ts';

/** What the machine says: time, randomness, CPU; and where the packet came in. */
export interface SimulatedMachine {
  readonly now: bigint;
  readonly random: readonly number[];
  readonly cpu: number;
  readonly ingressIfindex: number;
  readonly rxQueue: number;
}

/** What a context is made of. */
export interface ContextParts {
  readonly stage: AnyStage;
  readonly packet: SimulatedPacket;
  /** `ctx.meta`. */
  readonly meta: object;
  readonly maps: SimulatedMaps;
  readonly machine: SimulatedMachine;
  /** Makes the verdict that the body returns. */
  readonly leave: (outcome: Outcome) => Outcome;
}

/** `ctx` at XDP. */
export function xdpContext(parts: ContextParts): object {
  const { packet, machine, maps, leave } = parts;
  return sealed(parts.stage.hook, {
    ...common(parts, new XdpMoves(packet)),
    ingressIfindex: { value: machine.ingressIfindex },
    rxQueue: { value: machine.rxQueue },
    tx: { value: () => leave({ verdict: 'tx' }) },
    abort: { value: (reason?: string) => leave(dropped('abort', reason)) },
    redirect: { value: (target: unknown, key?: number) => leave(xdpRedirect(target, key, maps)) },
  });
}

/** `ctx` at TC, and the fields that it works on. */
export function tcContext(
  parts: ContextParts,
  options: SimulatedSkbOptions | undefined,
): { readonly ctx: object; readonly skb: SimulatedSkb } {
  const { packet, leave } = parts;
  const moves = new TcMoves(packet);
  const skb = new SimulatedSkb(options);
  const redirected = (how?: Extract<RedirectTarget, { ifindex: number }>['how']) => ({
    value: (ifindex: number) => leave({ verdict: 'redirect', redirect: { ifindex, ...(how === undefined ? {} : { how }) } }),
  });
  const field = (name: 'mark' | 'priority' | 'queue'): PropertyDescriptor => ({
    get: () => skb[name],
    set: (value: unknown) => {
      skb[name] = value as number;
    },
  });
  const ctx = sealed(parts.stage.hook, {
    ...common(parts, moves),
    mark: field('mark'),
    priority: field('priority'),
    queue: field('queue'),
    segments: { value: skb.segments },
    hash: { value: skb.hash },
    ifindex: { value: skb.ifindex },
    ingressIfindex: { value: skb.ingressIfindex },
    tunnelKey: { value: (family?: TunnelFamily) => skb.tunnelKey(family) },
    setTunnelKey: { value: (key: unknown, family?: TunnelFamily) => skb.setTunnelKey(key, family) },
    redirect: redirected(),
    redirectIngress: redirected('ingress'),
    redirectNeigh: redirected('neighbour'),
    ...(parts.stage.hook === 'tcIngress' ? { redirectPeer: redirected('peer') } : {}),
    clone: { value: (ifindex: number) => skb.clone(packet, ifindex) },
    adjustRoom: {
      value: (delta: number, at: RoomAt, encapsulation?: Encapsulation) => moves.adjustRoom(delta, at, encapsulation),
    },
  });
  return { ctx, skb };
}

/** What every hook has that sees frames. */
function common({ packet, meta, machine, leave }: ContextParts, moves: Moves): PropertyDescriptorMap {
  const { now, random, cpu } = machine;
  let drawn = 0;
  const kinds = new WeakMap<object, SummedHeader>();
  const at = (found: FoundHeader | undefined): unknown => found && packet.at(found.layout, found.offset);
  const summed = (kind: SummedHeader): unknown => {
    const header = at(transport(packet, kind));
    if (typeof header === 'object' && header !== null) kinds.set(header, kind);
    return header;
  };
  const methods = {
    next: () => leave({ verdict: 'next' }),
    exit: (label: string) => leave({ verdict: 'exit', exit: label }),
    pass: () => leave({ verdict: 'pass' }),
    drop: (reason?: string) => leave(dropped('drop', reason)),
    ethernet: () => packet.at(Ethernet.layout, 0),
    arp: () => at(arp(packet)),
    ipv4: () => at(ipv4(packet)),
    ipv6: () => at(ipv6(packet)),
    ipv6Fragment: () => {
      const { fragment } = upper(packet);
      return fragment === undefined ? undefined : packet.at(Ipv6Fragment.layout, fragment);
    },
    tcp: () => summed('tcp'),
    udp: () => summed('udp'),
    icmp: () => summed('icmp'),
    icmpv6: () => summed('icmpv6'),
    ports: () => at(transport(packet, 'ports')),
    gre: () => at(transport(packet, 'gre')),
    vxlan: (port?: number) => at(tunnel(packet, 'vxlan', port)),
    gue: (port?: number) => at(tunnel(packet, 'gue', port)),
    at: (schema: { readonly layout: Layout }, offset: number) => packet.at(schema.layout, offset),
    offsetOf: (header: unknown) => packet.offsetOf(header),
    checksum: (header: unknown, length?: number) => headerChecksum(packet, header, length),
    checksumReplace,
    updateChecksum: (header: object, from: SummedWord, to: SummedWord, of: 'segment' | 'pseudoHeader' = 'segment') => {
      const kind = kinds.get(header);
      if (kind === undefined) throw new SimulationError('updateChecksum takes what ctx.tcp(), udp(), icmp() or icmpv6() gave');
      updateChecksum(packet, kind, header, { from, to }, of);
    },
    adjustHead: (delta: number) => moves.adjustHead(delta),
    adjustTail: (delta: number) => moves.adjustTail(delta),
    pushVlan: (tci: number) => moves.pushVlan(tci),
    popVlan: () => moves.popVlan(),
    now: () => now,
    nowCoarse: () => now,
    random: () => (random[drawn++ % random.length] ?? 0) >>> 0,
    cpu: () => cpu,
  };
  return {
    ...Object.fromEntries(Object.entries(methods).map(([name, value]) => [name, { value }])),
    meta: { value: meta },
    length: { get: () => packet.length },
    protocol: { get: () => upper(packet).protocol },
    fragment: { get: () => upper(packet).isFragment },
    vlanTags: { get: () => tags(packet).length },
    vlanTci: { get: () => tags(packet)[0] ?? 0 },
    innerVlanTci: { get: () => tags(packet)[1] ?? 0 },
  };
}

function dropped(verdict: 'abort' | 'drop', reason: string | undefined): Outcome {
  return reason === undefined ? { verdict } : { verdict, reason };
}

/** An object of these members and no others. */
function sealed(hook: Hook, members: PropertyDescriptorMap): object {
  const missing = (name: string | symbol): never => {
    throw new SimulationError(`ctx.${String(name)} is not there at ${hook}`);
  };
  return new Proxy(Object.defineProperties({}, members), {
    get: (target, name) => (name in target ? Reflect.get(target, name) : missing(name)),
    set: (target, name, value) => (name in target ? Reflect.set(target, name, value) : missing(name)),
  });
}

/** A map without an entry under the key makes it an abort (`bpf_redirect_map` without flags). */
function xdpRedirect(target: unknown, key: number | undefined, maps: SimulatedMaps): Outcome {
  if (typeof target === 'number') return { verdict: 'redirect', redirect: { ifindex: target } };
  const map = redirectMapOf(target);
  if (map === undefined || key === undefined) throw new SimulationError('redirect takes an interface, or a map of targets and a key');
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, key, true);
  return maps.of(map).lookup(bytes) === undefined ? { verdict: 'abort' } : { verdict: 'redirect', redirect: { map, key } };
}

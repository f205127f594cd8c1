/**
 * Services of network functions that only the kernel's side can give: next hops out of its neighbour table, health checks from
 * another network namespace. Bind them with `override(NextHops, …)` and `override(HealthChecker, …)`.
 */
import { BlockList, isIPv6 } from 'node:net';
import type { Connect, NextHop, NextHops } from '@tailrace/functions/l4lb';
import { connectTcp, type Neighbour, type NetworkNamespace, Rtnetlink, watchNeighbours } from '@tailrace/kernel';
import { ArgumentError } from '@tailrace/stage';
import { distinctUntilChanged, map, merge, Observable, timer } from 'rxjs';

/** How often an address is asked for that the kernel does not know, and a known one is looked at again. */
const LOOK_INTERVAL_MS = 1_000;

/**
 * Next hops of reals of either family on the links of this machine, as the kernel's neighbour table has them: an address is asked for
 * while it is not known, and changes are followed. Packets leave through the interface that the real is reached by.
 * `watch` throws ArgumentError for addresses that are on no link: give those a `nextHop` of their own.
 */
export function kernelNextHops(options: { readonly netns?: NetworkNamespace } = {}): NextHops {
  const { netns } = options;
  return {
    watch(address) {
      using socket = new Rtnetlink(netns);
      const egress = linkTo(socket, address);
      return hops(netns, address, egress);
    },
  };
}

interface Egress {
  readonly name: string;
  readonly ifindex: number;
  readonly mac: string;
}

/** The interface whose network the address is in. Link-local ones are on every link, and tell none. */
function linkTo(socket: Rtnetlink, address: string): Egress {
  const family = isIPv6(address) ? 'ipv6' : 'ipv4';
  for (const { index, address: own } of socket.addresses()) {
    const [network = '', length = ''] = own.split('/');
    if (isIPv6(network) !== (family === 'ipv6') || network.startsWith('fe80:')) continue;
    const addresses = new BlockList();
    addresses.addSubnet(network, Number(length), family);
    const same = addresses.check(address, family);
    const link = same ? socket.interfaces().find((i) => i.index === index) : undefined;
    if (link?.mac) return { name: link.name, ifindex: index, mac: link.mac };
  }
  throw new ArgumentError(`real ${address} is on no link of this machine`, { hint: "give it the router's MAC address: nextHop: '02:…'" });
}

function hops(netns: NetworkNamespace | undefined, address: string, egress: Egress): Observable<NextHop | undefined> {
  return new Observable<NextHop | undefined>((subscriber) => {
    const socket = new Rtnetlink(netns);
    const changes$ = new Observable<void>((changed) => {
      const watch = watchNeighbours(netns, () => changed.next());
      return () => watch.close();
    });
    const subscription = merge(timer(0, LOOK_INTERVAL_MS), changes$)
      .pipe(
        map(() => {
          const known = socket.neighbours(egress.name).find((n: Neighbour) => n.address === address)?.mac;
          if (known === undefined) socket.probeNeighbour(egress.name, address);
          return known;
        }),
        distinctUntilChanged(),
        map((mac) => (mac === undefined ? undefined : { mac, egress: { ifindex: egress.ifindex, mac: egress.mac } })),
      )
      .subscribe(subscriber);
    return () => {
      subscription.unsubscribe();
      socket.close();
    };
  });
}

/** For `tcpHealth({ connect })`: checks from another network namespace; an attempt is given up after `timeoutMs`. */
export function connectFrom(netns: NetworkNamespace, timeoutMs = 1_000): Connect {
  return async ({ address, port }, signal) => {
    const socket = await connectTcp(netns, address, port, { timeoutMs });
    socket.destroy();
    signal.throwIfAborted();
  };
}

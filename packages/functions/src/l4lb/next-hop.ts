/** Where packets for a real go on the link: given, or learnt from whoever knows the neighbours. */
import { ArgumentError, token } from '@tailrace/stage';
import { distinctUntilChanged, map, type Observable, of, shareReplay } from 'rxjs';
import { canonicalIp } from '../address.ts';

/** The next hop on the way to a real. */
export interface NextHop {
  /** Its MAC address, e.g. `02:00:00:00:00:02`: the real's own on one link with it, otherwise the router's. */
  readonly mac: string;
  /** The interface that leads there, with its own MAC address; default: the one that the packet came in on. */
  readonly egress?: { readonly ifindex: number; readonly mac: string };
}

/** Knows next hops. */
export interface NextHops {
  /**
   * The next hop to an address, now and whenever it changes; `undefined` while it is not known, and no packet is
   * sent there meanwhile. Throws ArgumentError for an address that it cannot know.
   */
  watch(address: string): Observable<NextHop | undefined>;
}
/** The service that controllers of balancers ask. */
export const NextHops = token<NextHops>('NextHops');

/** The default: knows nothing, so every real must be given its own. */
export const noNextHops: NextHops = {
  watch(address) {
    throw new ArgumentError(`real ${address} has no nextHop, and no service knows any`, {
      hint: "give { address, nextHop: '02:…' }, or override(NextHops, neighbourNextHops(…))",
    });
  },
};

/** Next hops from a table by address. `watch` throws ArgumentError for others. */
export function givenNextHops(table: Readonly<Record<string, string | NextHop>>): NextHops {
  const hops = new Map(Object.entries(table).map(([address, hop]) => [canonicalIp(address), typeof hop === 'string' ? { mac: hop } : hop]));
  return {
    watch(address) {
      const hop = hops.get(address);
      if (hop === undefined) throw new ArgumentError(`no next hop is given for ${address}`);
      return of(hop);
    },
  };
}

/** One entry of a kernel's neighbour table. */
export interface NeighbourEntry {
  /** Canonical: IPv6 as in RFC 5952. */
  readonly address: string;
  /** Undefined while the kernel does not know it. */
  readonly mac: string | undefined;
}

/**
 * Next hops of reals on one link with the balancer, from lists of the kernel's neighbours, e.g.
 * `timer(0, 1000).pipe(map(() => listNeighbours(socket, 'eth0')))`. The lists are shared by all who watch.
 */
export function neighbourNextHops(lists$: Observable<Iterable<NeighbourEntry>>, egress?: NextHop['egress']): NextHops {
  const shared$ = lists$.pipe(shareReplay({ bufferSize: 1, refCount: true }));
  return {
    watch: (address) =>
      shared$.pipe(
        map((list) => [...list].find((entry) => entry.address === address)?.mac),
        distinctUntilChanged(),
        map((mac) => (mac === undefined ? undefined : { mac, ...(egress === undefined ? {} : { egress }) })),
      ),
  };
}

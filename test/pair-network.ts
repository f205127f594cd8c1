/** A client and a server on one link, with addresses of both families, for tests that put programs on either end. */
import { type Topology, topology } from '@tailrace/testing';

/** The interface is named for the host at its other end. */
export function pairNetwork(): Promise<Topology<'client' | 'server'>> {
  return topology({
    hosts: { client: {}, server: {} },
    links: [
      {
        ends: [
          { host: 'client', addresses: ['10.0.0.1/24', 'fd00::1/64'] },
          { host: 'server', addresses: ['10.0.0.2/24', 'fd00::2/64'] },
        ],
      },
    ],
  });
}

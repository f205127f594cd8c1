/** The real's side of a tunnel: `decap({ addresses: ['10.0.1.1'] })` unpacks what a balancer sends in IP in IP. */
import { ArgumentError, defineFunction, formatIp, type HandleOf, ip } from '@tailrace/stage';
import { decapMaps, decapStage } from './stage.ts';

export { decapMaps, decapStage, Tunnel, Unpacked } from './stage.ts';

/** How to make a decapsulator. */
export interface DecapOptions {
  /** Our own addresses, e.g. `10.0.1.1`: what outer headers are addressed to. */
  readonly addresses?: readonly string[];
  /** Balancers that may send; default: anybody, so keep others off the link, or from sending IP in IP. */
  readonly sources?: readonly string[];
  /** Pairs of address and source; default 64. */
  readonly maxTunnels?: number;
}

/**
 * Declares a decapsulator with maps of its own: one stage, `decap`, and a DecapController. Fragments and malformed
 * packets are dropped, each counted at its exit. Throws ArgumentError for addresses that are none and too many of them.
 */
export function decap(options: DecapOptions = {}) {
  const { addresses = [], sources, maxTunnels = 64 } = options;
  if (!Number.isSafeInteger(maxTunnels) || maxTunnels < 1 || maxTunnels > 65_536)
    throw new ArgumentError(`decap: maxTunnels is ${maxTunnels}, expected 1..65536`);
  if (sources?.length === 0) throw new ArgumentError('decap: sources is empty, expected at least one, or no list for anybody');
  const from = sources?.map(ip) ?? [0];
  checkRoom(addresses.map(ip).length * from.length, maxTunnels);
  const { tunnels, unpacked } = decapMaps(maxTunnels);
  return defineFunction({
    name: 'decap',
    stages: {
      xdp: [decapStage.with({ tunnels, unpacked, anySource: sources === undefined }).on({ fragment: 'drop', malformed: 'drop' })],
    },
    controller: {
      needs: { tunnels, unpacked },
      create: (needs) => new DecapController(needs, { addresses, sources: from, maxTunnels }),
    },
  });
}

type Maps = ReturnType<typeof decapMaps>;

/** What the controller works on. */
export interface DecapNeeds {
  readonly tunnels: HandleOf<Maps['tunnels']>;
  readonly unpacked: HandleOf<Maps['unpacked']>;
}

/** Says which outer addresses are ours while the stage runs. */
export class DecapController {
  readonly #needs: DecapNeeds;
  readonly #sources: readonly number[];
  readonly #maxTunnels: number;
  readonly #addresses = new Set<string>();

  /** `sources` are host numbers, 0 for anybody. */
  constructor(
    needs: DecapNeeds,
    options: { readonly addresses: readonly string[]; readonly sources: readonly number[]; readonly maxTunnels: number },
  ) {
    this.#needs = needs;
    this.#sources = options.sources;
    this.#maxTunnels = options.maxTunnels;
    for (const address of options.addresses) this.add(address);
  }

  /** Our addresses. */
  get addresses(): readonly string[] {
    return [...this.#addresses];
  }

  /** Packets that were unpacked, and their bytes as they came in. */
  get unpacked(): { readonly packets: bigint; readonly bytes: bigint } {
    return this.#needs.unpacked.sum(0) ?? { packets: 0n, bytes: 0n };
  }

  /** Unpacks what is addressed to `address`. False where it is unpacked already. Throws ArgumentError for one too many. */
  add(address: string): boolean {
    const number = ip(address);
    const name = formatIp(number);
    if (this.#addresses.has(name)) return false;
    checkRoom((this.#addresses.size + 1) * this.#sources.length, this.#maxTunnels);
    for (const source of this.#sources) this.#needs.tunnels.set({ address: number, source }, true);
    this.#addresses.add(name);
    return true;
  }

  /** Leaves what is addressed to `address` as it is. False where it was. */
  remove(address: string): boolean {
    const number = ip(address);
    if (!this.#addresses.delete(formatIp(number))) return false;
    for (const source of this.#sources) this.#needs.tunnels.delete({ address: number, source });
    return true;
  }
}

function checkRoom(tunnels: number, maxTunnels: number): void {
  if (tunnels > maxTunnels)
    throw new ArgumentError(`decap: ${tunnels} pairs of address and source, expected at most ${maxTunnels}`, { hint: 'raise maxTunnels' });
}

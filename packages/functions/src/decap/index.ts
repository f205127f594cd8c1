/** The real's side of a tunnel: `decap({ addresses: ['10.0.1.1'] })` unpacks what a balancer sends in IP in IP. */
import { ArgumentError, defineFunction, type HandleOf } from '@tailrace/stage';
import { formatAddress, type IpAddress, parseIp } from '../address.ts';
import { decapMaps, decapStage } from './stage.ts';

export { decapMaps, decapStage, Tunnel, Tunnel6, Unpacked } from './stage.ts';

/** How to make a decapsulator. */
export interface DecapOptions {
  /**
   * Our own addresses, e.g. `10.0.1.1` or `2001:db8:1::1`: what outer headers are addressed to. Over a restart of a persistent
   * pipeline these and no others.
   */
  readonly addresses?: readonly string[];
  /**
   * Balancers that may send, to addresses of their family; default: anybody, so keep others off the link, or from sending IP in IP.
   * A restart that goes from anybody to a list, or back, leaves packets packed until its chain is in place.
   */
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
  const from = sources?.map(parseIp);
  const pairs = addresses.map(parseIp).reduce((sum, address) => sum + sourcesFor(address, from).length, 0);
  checkRoom(pairs, maxTunnels);
  const { tunnels, tunnels6, unpacked } = decapMaps(maxTunnels);
  return defineFunction({
    name: 'decap',
    stages: {
      xdp: [decapStage.with({ tunnels, tunnels6, unpacked, anySource: sources === undefined }).on({ fragment: 'drop', malformed: 'drop' })],
    },
    controller: {
      needs: { tunnels, tunnels6, unpacked },
      create: (needs) => new DecapController(needs, { addresses, sources: from, maxTunnels }),
    },
  });
}

type Maps = ReturnType<typeof decapMaps>;

/** What the controller works on. */
export interface DecapNeeds {
  readonly tunnels: HandleOf<Maps['tunnels']>;
  readonly tunnels6: HandleOf<Maps['tunnels6']>;
  readonly unpacked: HandleOf<Maps['unpacked']>;
}

/** Says which outer addresses are ours while the stage runs. */
export class DecapController {
  readonly #needs: DecapNeeds;
  readonly #sources: readonly IpAddress[] | undefined;
  readonly #maxTunnels: number;
  readonly #addresses = new Set<string>();
  #pairs = 0;

  /** Without `sources` anybody may send. What the maps hold already goes, unless it is among these. */
  constructor(
    needs: DecapNeeds,
    options: { readonly addresses: readonly string[]; readonly sources?: readonly IpAddress[] | undefined; readonly maxTunnels: number },
  ) {
    this.#needs = needs;
    this.#sources = options.sources;
    this.#maxTunnels = options.maxTunnels;
    const [tunnels, tunnels6] = [needs.tunnels.getAll(), needs.tunnels6.getAll()];
    for (const address of options.addresses) this.add(address);
    // what another process left
    for (const [{ address, source }] of tunnels)
      if (!this.#has({ family: 4, value: address }, source === 0 ? undefined : { family: 4, value: source }))
        needs.tunnels.delete({ address, source });
    for (const [{ address, source }] of tunnels6)
      if (!this.#has({ family: 6, value: address }, source.hi === 0n && source.lo === 0n ? undefined : { family: 6, value: source }))
        needs.tunnels6.delete({ address, source });
  }

  /** Our addresses, canonical. */
  get addresses(): readonly string[] {
    return [...this.#addresses];
  }

  /** Packets that were unpacked, and their bytes as they came in. */
  get unpacked(): { readonly packets: bigint; readonly bytes: bigint } {
    return this.#needs.unpacked.sum(0) ?? { packets: 0n, bytes: 0n };
  }

  /**
   * Unpacks what is addressed to `address`. False where it is unpacked already. Throws ArgumentError for one too many, and
   * for one whose family no source has.
   */
  add(address: string): boolean {
    const parsed = parseIp(address);
    const name = formatAddress(parsed);
    if (this.#addresses.has(name)) return false;
    const sources = sourcesFor(parsed, this.#sources);
    checkRoom(this.#pairs + sources.length, this.#maxTunnels);
    for (const source of sources) {
      if (parsed.family === 6) this.#needs.tunnels6.set({ address: { ...parsed.value }, source: halvesOf(source) }, true);
      else this.#needs.tunnels.set({ address: parsed.value, source: numberOf(source) }, true);
    }
    this.#addresses.add(name);
    this.#pairs += sources.length;
    return true;
  }

  /** Leaves what is addressed to `address` as it is. False where it was. */
  remove(address: string): boolean {
    const parsed = parseIp(address);
    if (!this.#addresses.delete(formatAddress(parsed))) return false;
    const sources = sourcesFor(parsed, this.#sources);
    for (const source of sources) {
      if (parsed.family === 6) this.#needs.tunnels6.delete({ address: { ...parsed.value }, source: halvesOf(source) });
      else this.#needs.tunnels.delete({ address: parsed.value, source: numberOf(source) });
    }
    this.#pairs -= sources.length;
    return true;
  }

  #has(address: IpAddress, source: IpAddress | undefined): boolean {
    if (!this.#addresses.has(formatAddress(address))) return false;
    if (source === undefined || this.#sources === undefined) return source === this.#sources;
    return this.#sources.some((known) => formatAddress(known) === formatAddress(source));
  }
}

/** Who may send to that address: sources of its family, or anybody. Throws ArgumentError where nobody may. */
function sourcesFor(address: IpAddress, sources: readonly IpAddress[] | undefined): readonly (IpAddress | undefined)[] {
  if (sources === undefined) return [undefined];
  const fitting = sources.filter(({ family }) => family === address.family);
  if (fitting.length > 0) return fitting;
  throw new ArgumentError(`decap: no source can send to ${formatAddress(address)}, expected one of IPv${address.family}`);
}

function numberOf(source: IpAddress | undefined): number {
  return source?.family === 4 ? source.value : 0;
}

function halvesOf(source: IpAddress | undefined): { hi: bigint; lo: bigint } {
  return source?.family === 6 ? { ...source.value } : { hi: 0n, lo: 0n };
}

function checkRoom(tunnels: number, maxTunnels: number): void {
  if (tunnels > maxTunnels)
    throw new ArgumentError(`decap: ${tunnels} pairs of address and source, expected at most ${maxTunnels}`, { hint: 'raise maxTunnels' });
}

/** Changes a policy while it runs, and tells what it did. */
import type { HandleOf, Infer } from '@tailrace/stage';
import { map, type Observable, type SchedulerLike } from 'rxjs';
import { formatMapped } from '../address.ts';
import { type BootClock, wallTime } from '../boot-clock.ts';
import { type PolicyDirection, type PolicyEndpoint, type PolicyRule, parseEndpoint } from './rule.ts';
import { type RuleLimits, type RuleMaps, RuleWriter } from './rule-writer.ts';
import { type DeniedEvent, type policyTables, REASONS, Reason } from './tables.ts';

type Tables = ReturnType<typeof policyTables>;

/** What the controller works on. */
export type PolicyNeeds = RuleMaps & {
  readonly budget: HandleOf<Tables['budget']>;
  readonly denied: HandleOf<Tables['denied']>;
  readonly clock: SchedulerLike;
  readonly bootClock: BootClock;
};

/**
 * Why a packet is denied: `rule`, no rule lets it in; `endpoint`, it is not to or from one; `state`, TCP that starts no
 * connection and belongs to none that is known; `fragment`, a piece whose first one was not let through before;
 * `malformed`, cut within its layer 4 header; `protocol`, neither IP nor ARP; `full`, its flow could not be remembered.
 */
export type DenialReason = keyof typeof Reason;

/** A packet that was denied, or would have been. */
export interface DeniedPacket {
  /** In ms since 1970, as fine as the kernel's timer tick. */
  readonly time: number;
  readonly direction: PolicyDirection;
  readonly reason: DenialReason;
  /** The endpoint's name; undefined where it belongs to none. */
  readonly endpoint: string | undefined;
  /** Addresses; undefined where it is no IP. */
  readonly source: string | undefined;
  readonly destination: string | undefined;
  readonly protocol: number;
  /** Ports of TCP and UDP. ICMP has its type and code here, and an echo its id and 0 or 1. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly tcpFlags: number;
  /** Bytes of the packet. */
  readonly length: number;
  readonly ifindex: number;
}

/** A rule and what it let through, all packets of the flows included that it let start. */
export interface RuleTraffic {
  readonly endpoint: string;
  readonly rule: PolicyRule;
  /** Segments count each. */
  readonly packets: bigint;
  /** As programs see them: segments in one packet have one header. */
  readonly bytes: bigint;
}

/** What was denied of an endpoint for one reason. */
export interface Denials {
  /** Undefined for packets of no endpoint. */
  readonly endpoint: string | undefined;
  readonly reason: DenialReason;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** A flow that is let through. */
export interface PolicyFlow {
  readonly endpoint: string;
  /** `egress` where the endpoint started it. */
  readonly direction: PolicyDirection;
  readonly local: string;
  readonly localPort: number;
  readonly peer: string;
  readonly peerPort: number;
  readonly protocol: number;
  readonly answered: boolean;
  /** Since its last packet. */
  readonly idleMs: number;
}

/** Changes a policy while it runs. Methods act at once: what they say is in force when they return. */
export class PolicyController implements AsyncDisposable {
  readonly #needs: PolicyNeeds;
  readonly #writer: RuleWriter;
  readonly #specs = new Map<string, PolicyEndpoint>();
  /**
   * Packets that are denied, as a sample: no more than `eventsPerSecond` on each CPU. Read from the first subscriber to
   * the last; completes when the pipeline stops.
   */
  readonly denied$: Observable<DeniedPacket>;

  /**
   * Goes on from what the maps hold. An endpoint that has an address of one that was left keeps its flows, and the counters of its rules
   * where all of them stayed; others go with their flows. Every packet meanwhile is decided by the old rules or by the new ones.
   */
  constructor(needs: PolicyNeeds, limits: RuleLimits, endpoints: readonly PolicyEndpoint[] = []) {
    this.#needs = needs;
    this.#writer = new RuleWriter(needs, limits);
    this.denied$ = needs.denied.events$.pipe(map((event) => this.#packetOf(event)));
    for (const endpoint of endpoints) this.set(endpoint);
    this.#writer.removeLeft();
  }

  /** The endpoints as they were given. */
  get endpoints(): readonly PolicyEndpoint[] {
    return [...this.#specs.values()];
  }

  /**
   * Adds an endpoint, or replaces the one of the same name. Every packet is decided by the old rules or by the new ones,
   * and flows that were let in stay: `flush` ends them. Counters of rules that stay go on. Returns the name. Throws
   * ArgumentError, leaving everything as it was, for what cannot be and where the policy is full.
   */
  set(endpoint: PolicyEndpoint): string {
    const parsed = parseEndpoint(endpoint);
    this.#writer.put(parsed);
    this.#specs.set(parsed.name, endpoint);
    return parsed.name;
  }

  /** Takes an endpoint and its flows away: nothing is let through to it or from it. False where there is none. */
  remove(name: string): boolean {
    this.#specs.delete(name);
    return this.#writer.remove(name);
  }

  /** Sets all of these, each as `set` does, and then removes all others. Throws for the first that cannot be; those before it are set. */
  replace(endpoints: readonly PolicyEndpoint[]): void {
    const names = new Set(endpoints.map((endpoint) => parseEndpoint(endpoint).name));
    for (const endpoint of endpoints) this.set(endpoint);
    for (const name of [...this.#specs.keys()]) if (!names.has(name)) this.remove(name);
  }

  /** Forgets the flows of an endpoint, or all: their packets are decided anew, and TCP has to connect again. Returns how many there were. */
  flush(name?: string): number {
    if (name === undefined) return this.#writer.flush(() => true);
    const index = this.#writer.endpoints.get(name)?.index;
    return index === undefined ? 0 : this.#writer.flush((endpoint) => endpoint === index);
  }

  /** Resolves once rules that were replaced have left the maps, which takes about 15 ms a change, and need no room there. */
  settled(): Promise<void> {
    return this.#writer.settled();
  }

  /** What each rule let through, in the order of endpoints and rules. */
  rules(): readonly RuleTraffic[] {
    return [...this.#writer.endpoints.values()].flatMap(({ endpoint, places }) =>
      endpoint.rules.map(({ text, rule }) => ({
        endpoint: endpoint.name,
        rule,
        ...(this.#needs.hits.sum(places.get(text) ?? 0) ?? { packets: 0n, bytes: 0n }),
      })),
    );
  }

  /** What was denied, by endpoint and reason, where that was anything. */
  denials(): readonly Denials[] {
    const owners: [name: string | undefined, index: number][] = [...this.#writer.endpoints].map(([name, { index }]) => [name, index]);
    return [...owners, [undefined, 0] as const].flatMap(([endpoint, index]) =>
      reasons.flatMap(([reason, number]) => {
        const count = this.#needs.denials.sum(index * REASONS + number);
        return count && count.packets > 0n ? [{ endpoint, reason, ...count }] : [];
      }),
    );
  }

  /** Denied packets that `denied$` does not tell of: beyond `eventsPerSecond`, and those that found its ring full. */
  get untold(): bigint {
    return (this.#needs.budget.sum(0)?.skipped ?? 0n) + this.#needs.denied.lost;
  }

  /** Flows that are remembered, of one endpoint or of all; some may be too old to be let through. Reads the table. */
  flows(name?: string): readonly PolicyFlow[] {
    const names = new Map([...this.#writer.endpoints.values()].map(({ endpoint, index }) => [index, endpoint.name]));
    const now = this.#needs.bootClock();
    return this.#needs.flows.getAll().flatMap(([key, flow]) => {
      const endpoint = names.get(flow.endpoint);
      if (endpoint === undefined || (name !== undefined && name !== endpoint)) return [];
      return [
        {
          endpoint,
          direction: flow.inbound ? 'ingress' : 'egress',
          local: formatMapped(key.local),
          localPort: key.localPort,
          peer: formatMapped(key.remote),
          peerPort: key.remotePort,
          protocol: key.protocol,
          answered: flow.answered,
          idleMs: Math.max(0, Number(now - flow.last) / 1e6),
        } satisfies PolicyFlow,
      ];
    });
  }

  /** Waits for what is being cleaned up. The maps stay as they are. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.settled();
  }

  #packetOf(event: Infer<typeof DeniedEvent>): DeniedPacket {
    const { protocol, tcpFlags, length, ifindex, inbound } = event;
    const [reason] = reasons.find(([, number]) => number === event.reason) ?? ['rule'];
    const isIp = event.reason !== Reason.protocol;
    const [local, remote] = isIp ? [formatMapped(event.local), formatMapped(event.remote)] : [];
    const owner = [...this.#writer.endpoints.values()].find(({ index }) => index === event.endpoint);
    return {
      time: wallTime(this.#needs.clock, this.#needs.bootClock)(event.time),
      direction: inbound ? 'ingress' : 'egress',
      reason,
      endpoint: owner?.endpoint.name,
      source: inbound ? remote : local,
      destination: inbound ? local : remote,
      protocol,
      sourcePort: inbound ? event.remotePort : event.localPort,
      destinationPort: inbound ? event.localPort : event.remotePort,
      tcpFlags,
      length,
      ifindex,
    };
  }
}

const reasons = Object.entries(Reason) as readonly [DenialReason, number][];

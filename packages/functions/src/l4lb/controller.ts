/** Runs a balancer: commands, health checks and next hops in, maps and a stream of states out. */
import {
  BehaviorSubject,
  combineLatest,
  distinctUntilChanged,
  map,
  type Observable,
  ReplaySubject,
  type SchedulerLike,
  Subscription,
  shareReplay,
  skipWhile,
  timer,
} from 'rxjs';
import { canonicalIp } from '../address.ts';
import {
  addReal,
  addVip,
  type BalancerConfig,
  type RealOptions,
  removeReal,
  removeVip,
  setDrained,
  setWeight,
  type VipAddress,
  type VipOptions,
  vipName,
} from './config.ts';
import { adopted, readTables } from './found.ts';
import type { HealthChecker } from './health.ts';
import { MapWriter } from './map-writer.ts';
import type { NatHandles } from './nat/writer.ts';
import type { NextHops } from './next-hop.ts';
import { healthKeys, healthTarget, hopKeys, type PlannedVip, planBalancer, type RealCondition, wellKeys } from './plan.ts';
import type { BalancerHandles } from './tables.ts';
import { watchEach } from './watch-each.ts';

/** What the controller works on. */
export interface BalancerNeeds extends BalancerHandles {
  /** The maps of full NAT, where the balancer does that. */
  readonly nat?: NatHandles;
  readonly health: HealthChecker;
  readonly nextHops: NextHops;
  readonly clock: SchedulerLike;
}

/** A vip by name, `198.51.100.1:80/tcp` or `[2001:db8::1]:80/tcp`, or by what its packets carry. */
export type VipReference = string | VipAddress;

/** A vip as it is. */
export interface VipStatus {
  readonly name: string;
  readonly reals: readonly RealStatus[];
}

/** A real of a vip as it is. */
export interface RealStatus {
  readonly address: string;
  readonly weight: number;
  readonly condition: RealCondition;
  /** The MAC address that its packets go to. */
  readonly nextHop: string | undefined;
  /** Slots of the vip's ring, out of 65,537: its share of new flows. */
  readonly slots: number;
}

/** What a vip and its reals were sent: packets, and their bytes with all headers as they came in. */
export interface VipTraffic {
  readonly name: string;
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly reals: readonly { readonly address: string; readonly packets: bigint; readonly bytes: bigint }[];
}

/**
 * Changes a balancer while it runs. Methods act at once: when they return, the maps are what they should be, as far as
 * health and next hops are known; what is learnt later follows by itself. All throw ArgumentError for vips and reals
 * that are not there, leaving everything as it was, and what the engine throws where a map cannot be written; after
 * that the controller takes no more commands.
 */
export class BalancerController implements Disposable {
  readonly #needs: BalancerNeeds;
  readonly #writer: MapWriter;
  readonly #config: BehaviorSubject<BalancerConfig>;
  readonly #states = new ReplaySubject<readonly VipStatus[]>(1);
  readonly #running: Subscription;
  #plan: readonly PlannedVip[] = [];
  #failure: { readonly error: unknown } | undefined;
  /** Vips and reals as they are, now and after every change. */
  readonly state$: Observable<readonly VipStatus[]> = this.#states.pipe(
    distinctUntilChanged((a, b) => JSON.stringify(a) === JSON.stringify(b)),
  );
  /** Counters of vips and reals, at once and then every second, shared. */
  readonly traffic$: Observable<readonly VipTraffic[]>;

  /**
   * Goes on from what the maps hold: vips and reals that stay keep numbers and flows, and reals that are up stay so until their
   * checks say something else. What `config` does not have goes at once.
   */
  constructor(needs: BalancerNeeds, config: BalancerConfig) {
    this.#needs = needs;
    this.#checkNextHops(hopKeys(config));
    const found = readTables(needs);
    this.#writer = new MapWriter(needs, config, found);
    this.#config = new BehaviorSubject(adopted(config, found));
    this.traffic$ = timer(0, 1_000, needs.clock).pipe(
      map(() => this.traffic()),
      shareReplay({ bufferSize: 1, refCount: true }),
    );
    this.#running = this.#run();
    this.#checkRunning();
  }

  /** Adds a vip; returns its name. Throws ArgumentError for one that cannot be, or is there. */
  addVip(options: VipOptions): string {
    this.#change((config) => addVip(config, options));
    return vipName(options);
  }

  /** Packets to it are not for a vip from now on. */
  removeVip(vip: VipReference): void {
    this.#change((config) => removeVip(config, nameOf(vip)));
  }

  /** Adds a real to a vip. It gets flows once it is well and its next hop is known. */
  addReal(vip: VipReference, options: RealOptions): void {
    this.#change((config) => addReal(config, nameOf(vip), options));
  }

  /** Takes a real away at once: its flows are picked anew. */
  removeReal(vip: VipReference, address: string): void {
    this.#change((config) => removeReal(config, nameOf(vip), canonicalIp(address)));
  }

  /** A real's share of new flows relative to the vip's others, 0..1000. */
  setWeight(vip: VipReference, address: string, weight: number): void {
    this.#change((config) => setWeight(config, nameOf(vip), canonicalIp(address), weight));
  }

  /** New flows go elsewhere, those that it has stay: of one vip, or of all that it serves. */
  drain(address: string, vip?: VipReference): void {
    this.#change((config) => setDrained(config, canonicalIp(address), true, vip === undefined ? undefined : nameOf(vip)));
  }

  /** Ends a drain. */
  restore(address: string, vip?: VipReference): void {
    this.#change((config) => setDrained(config, canonicalIp(address), false, vip === undefined ? undefined : nameOf(vip)));
  }

  /** Vips and reals as they are. */
  state(): readonly VipStatus[] {
    return this.#plan.map(({ vip, reals }) => {
      const slots = this.#writer.slots(vip.index);
      return {
        name: vip.name,
        reals: reals.map(({ real, condition, hop }) => ({
          address: real.address,
          weight: real.weight,
          condition,
          nextHop: hop?.mac,
          slots: slots.get(real.place) ?? 0,
        })),
      };
    });
  }

  /** Counters of vips and reals. */
  traffic(): readonly VipTraffic[] {
    const { vipTraffic, realTraffic } = this.#needs;
    const none = { packets: 0n, bytes: 0n };
    return this.#plan.map(({ vip, reals }) => ({
      name: vip.name,
      ...(vipTraffic.sum(vip.index) ?? none),
      reals: reals.map(({ real }) => ({ address: real.address, ...(realTraffic.sum(real.place) ?? none) })),
    }));
  }

  /** Ends all checks. The maps stay as they are. */
  [Symbol.dispose](): void {
    this.#running.unsubscribe();
    this.#states.complete();
  }

  #run(): Subscription {
    const config$ = this.#config;
    const health$ = config$.pipe(
      map(healthKeys),
      watchEach((key) => this.#needs.health.watch(healthTarget(key), wellKeys(config$.value).has(key))),
    );
    const hops$ = config$.pipe(
      map(hopKeys),
      // what was never known is no news: where another process knew it, that holds
      watchEach((address) => this.#needs.nextHops.watch(address).pipe(skipWhile((hop) => hop === undefined))),
    );
    const running = new Subscription();
    running.add(
      combineLatest({ config: config$, health: health$, hops: hops$ }).subscribe({
        next: ({ config, ...observed }) => {
          if (this.#failure) return;
          try {
            const plan = planBalancer(config, observed);
            this.#writer.write(plan);
            this.#plan = plan;
            this.#states.next(this.state());
          } catch (error) {
            this.#fail(error);
          }
        },
        error: (error: unknown) => this.#fail(error),
      }),
    );
    return running;
  }

  #change(by: (config: BalancerConfig) => BalancerConfig): void {
    this.#checkRunning();
    const config = by(this.#config.value);
    const known = new Set(hopKeys(this.#config.value));
    this.#checkNextHops(hopKeys(config).filter((address) => !known.has(address)));
    this.#config.next(config);
    this.#checkRunning();
  }

  /** Asks for reals without a next hop before anything is changed: the service throws for those that it cannot know. */
  #checkNextHops(addresses: readonly string[]): void {
    for (const address of addresses) this.#needs.nextHops.watch(address);
  }

  #fail(error: unknown): void {
    this.#failure = { error };
    this.#states.error(error);
  }

  #checkRunning(): void {
    if (this.#failure) throw this.#failure.error;
  }
}

function nameOf(vip: VipReference): string {
  return typeof vip === 'string' ? vip : vipName(vip);
}

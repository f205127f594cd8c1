/**
 * Chains that run beside the present ones, each behind a front that sorts packets. Fronts come from the stack outwards, so that
 * no packet leaves XDP for a chain at TC ingress that is not there yet; and where a front at TC ingress goes by what XDP gave the
 * packet, it stays until the last of those is through.
 */
import type { PreparedChange } from './chain.ts';
import type { ChainHook } from './chain-hook.ts';
import { takenBack } from './rollback.ts';
import type { ChainStats } from './stats.ts';
import { changeStep, makeAll } from './transition.ts';

/** What a trial has to do with what is around it. */
export interface TrialParts {
  grace(): Promise<void>;
  /** Before any packet goes there: the next process may find it. */
  announce(): void;
  /** Packets were led back, or could not be. */
  retract(): void;
}

/** Loaded changes on trial. */
export class Trial {
  /** From the stack outwards. */
  readonly #changes: readonly PreparedChange[];
  readonly #around: TrialParts;

  constructor(prepared: readonly PreparedChange[], around: TrialParts) {
    this.#changes = prepared.toReversed();
    this.#around = around;
  }

  /** Puts the fronts in, all or none. */
  async start(): Promise<void> {
    this.#around.announce();
    try {
      await makeAll(this.#changes.map((one) => changeStep(one, this.#changes)));
    } catch (error) {
      await this.#around.grace().catch(() => undefined);
      throw await takenBack(error, () => this.#around.retract());
    }
  }

  /** Leads all packets to the new chains. After an error it can be asked for again, and so can `revert`. */
  arrive(): Promise<void> {
    return this.#leave((one) => one.arrive());
  }

  /** Leads all packets to the old chains. After an error it can be asked for again. */
  async revert(): Promise<void> {
    await this.#leave((one) => one.revert());
    this.#around.retract();
  }

  /** What the new chains have counted. */
  stats(): ReadonlyMap<ChainHook, ChainStats> {
    return new Map(this.#changes.toReversed().map((one) => [one.hook, one.stats()]));
  }

  /** TC ingress last: until then both chains there get the packets of their own. Ends with a grace period. */
  async #leave(way: (one: PreparedChange) => Promise<void>): Promise<void> {
    for (const one of this.#changes) if (one.hook !== 'tcIngress') await way(one);
    await this.#around.grace();
    const ingress = this.#changes.find(({ hook }) => hook === 'tcIngress');
    if (ingress === undefined) return;
    await way(ingress);
    await this.#around.grace();
  }
}

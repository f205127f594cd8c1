/** Fills the maps of full NAT from a plan, and forgets the flows of numbers that have new owners. */
import type { HandleOf, Infer } from '@tailrace/stage';
import type { PlannedVip } from '../plan.ts';
import type { NatTables, NatVip } from './tables.ts';

/** The handles of the maps of full NAT. */
export type NatHandles = { readonly [K in keyof NatTables]: HandleOf<NatTables[K]> };

/** Writes plans; what does not differ is left alone. */
export class NatWriter {
  readonly #maps: NatHandles;
  readonly #vips = new Map<number, string>();

  constructor(maps: NatHandles) {
    this.#maps = maps;
  }

  /** To be called before packets can be for a vip of the plan. */
  write(plan: readonly PlannedVip[]): void {
    for (const { vip } of plan) {
      const value: Infer<typeof NatVip> = {
        address: vip.address.family === 4 ? vip.address.value : 0,
        port: vip.port,
        realPort: vip.realPort,
      };
      const text = JSON.stringify(value);
      if (this.#vips.get(vip.index) === text) continue;
      this.#maps.natVips.set(vip.index, value);
      this.#vips.set(vip.index, text);
    }
  }

  /** The flows of these vips. Those to a real that is gone stay: they are told apart by its address, which nobody else has. */
  forget(indices: ReadonlySet<number>): void {
    if (indices.size > 0) this.#maps.leases.forget((flow) => indices.has(indexOf(flow)));
  }
}

/** The vip of a flow. */
const indexOf = (flow: bigint): number => Number(flow & 0xffffn);

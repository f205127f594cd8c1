/** Fills the maps of full NAT from a plan, and forgets the flows of numbers that have new owners. */
import type { HandleOf, Infer } from '@tailrace/stage';
import type { PlannedVip } from '../plan.ts';
import type { NatTables, NatVip } from './tables.ts';

/** The handles of the maps of full NAT. */
export type NatHandles = { readonly [K in keyof NatTables]: HandleOf<NatTables[K]> };

/** Numbers of vips and reals. */
interface Numbers {
  readonly indices: ReadonlySet<number>;
  readonly places: ReadonlySet<number>;
}

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

  /** Flows of these vips, and flows that go to these reals. */
  forget({ indices, places }: Numbers): void {
    const { bindings, replies } = this.#maps;
    const gone = bindings.getAll().filter(([flow, { real }]) => indices.has(indexOf(flow)) || places.has(real));
    const flows = new Set(gone.map(([flow]) => flow));
    bindings.deleteMany(flows);
    replies.deleteMany(
      replies
        .getAll()
        .filter(([, flow]) => indices.has(indexOf(flow)) || flows.has(flow))
        .map(([key]) => key),
    );
  }
}

/** The vip of a flow. */
const indexOf = (flow: bigint): number => Number(flow & 0xffffn);

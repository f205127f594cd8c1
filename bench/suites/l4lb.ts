/** The balancer on flows that it knows and on new ones, beside the same in C and beside what C authors write. */
import type { EngineInstance } from '@tailrace/bpf';
import { packet } from '@tailrace/testing';
import { loadBalancer, VIP } from '../balancer.ts';
import { clangMissing } from '../clang.ts';
import { type Entrant, type Loaded, measure, PathError } from '../contest.ts';
import { ALWAYS_NEW, type Restoration, restorationFloors, restore } from '../restore.ts';
import { type Row, type Suite, type Variant, withRatios } from '../row.ts';

const XDP_TX = 3;

/** The outer header moves the head back by 20; the frame's header is what has to be written again. */
const encapsulated = { moved: -20, rewritten: 14 } as const;

const acknowledgement = packet().ipv4({ saddr: '192.0.2.1', daddr: VIP }).tcp({ sport: 1234, dport: 80, ack: true }).padTo(64).bytes();
const opening = packet().ipv4({ saddr: '192.0.2.1', daddr: VIP }).tcp({ sport: 1234, dport: 80, syn: true }).padTo(64).bytes();
const question = packet().ipv4({ saddr: '192.0.2.1', daddr: VIP }).udp({ sport: 1234, dport: 53 }).padTo(64).bytes();

/** What is measured. */
export const flows: Readonly<Record<string, Restoration>> = {
  'hit, one flow': { ...encapsulated, packet: acknowledgement, flows: 1 },
  'hit, 65,536 flows': { ...encapsulated, packet: acknowledgement, flows: 65_536 },
  'new flow, TCP SYN': { ...encapsulated, packet: opening, flows: ALWAYS_NEW },
  'new flow, UDP': { ...encapsulated, packet: question, flows: ALWAYS_NEW },
};

/** The suite. */
export const l4lb: Suite = {
  name: 'l4lb',
  hook: 'xdp',
  about: 'the balancer to XDP_TX with IPIP, ns a packet; c-same: the same stages and maps, c-lru: one program over LRU maps',
  cases: Object.keys(flows),
  async run(effort, wanted) {
    const rows: Row[] = [];
    for (const [name, restoration] of Object.entries(flows)) {
      if (!wanted(name)) continue;
      const contest = { suite: 'l4lb', hook: 'xdp', name, packet: restoration.packet, returnValue: XDP_TX } as const;
      const floors = restorationFloors(restoration);
      rows.push(...(await measure({ ...contest, floors, entrants: entrants(restoration) }, effort)));
    }
    const reason = clangMissing();
    return { rows: withRatios(rows), notes: reason === null ? [] : [reason] };
  },
};

function entrants(restoration: Restoration): readonly Entrant[] {
  const variants: readonly Variant[] = clangMissing() === null ? ['tailrace', 'c-same', 'c-lru'] : ['tailrace'];
  return variants.map((variant) => ({ variant, load: (instance) => loadRestored(instance, variant, restoration) }));
}

/** A balancer behind the program that gives it its packets back. */
export async function loadRestored(instance: EngineInstance, variant: Variant, restoration: Restoration): Promise<Loaded> {
  const balancer = await loadBalancer(instance, variant);
  const restored = await restore(instance, balancer.entry, restoration);
  return {
    entry: restored.entry,
    insns: balancer.insns,
    maps: balancer.maps,
    verify(runs) {
      const [forwarded, changed] = [balancer.forwarded(), restored.changed()];
      // The last packet of each run is handed back instead of being restored.
      if (forwarded < runs || changed < runs - 1)
        throw new PathError(`${variant}: of ${runs} packets ${forwarded} were forwarded and ${changed} came back encapsulated`);
    },
  };
}

/**
 * What metadata cost: a light chain whose stages take a sum further, beside the same one without; and at XDP one whose
 * packets carry that sum on to TC, beside the one that keeps it.
 */
import type { AttachHook } from '@tailrace/bpf';
import { clangMissing } from '../clang.ts';
import { measureCost } from '../cost.ts';
import { CROSSING_BYTES, type LightChain, lightChain, lightFrame, lightReturn, METADATA_STAGES } from '../light-chain.ts';
import type { Row, Suite } from '../row.ts';
import { takingBack, takingBackFloor } from '../take-back.ts';

const SUM = `${METADATA_STAGES} stages`;
const CROSSING = 'crossing';

/** The suite. */
export function metadata(hook: AttachHook): Suite {
  const cases = hook === 'xdp' ? [SUM, CROSSING] : [SUM];
  return {
    name: 'metadata',
    hook,
    about: `a u32 written and read by ${METADATA_STAGES} stages${hook === 'xdp' ? '; crossing: put in front of packets that pass, for TC' : ''}, ns a packet`,
    cases,
    async run(effort, wanted) {
      const chain: LightChain = { hook, length: METADATA_STAGES, metadata: true };
      const contest = { suite: 'metadata', hook, packet: lightFrame, returnValue: lightReturn(chain) };
      const rows: Row[] = [];
      if (wanted(SUM)) {
        const without = lightChain({ ...chain, metadata: false });
        rows.push(...(await measureCost({ ...contest, name: SUM, without, with: lightChain(chain) }, effort)));
      }
      if (cases.includes(CROSSING) && wanted(CROSSING)) {
        const without = lightChain(chain).map((one) => takingBack(one, 0));
        const crossing = lightChain({ ...chain, crossing: true }).map((one) => takingBack(one, CROSSING_BYTES));
        rows.push(...(await measureCost({ ...contest, name: CROSSING, floors: [takingBackFloor()], without, with: crossing }, effort)));
      }
      const reason = clangMissing();
      return { rows, notes: reason === null ? [] : [reason] };
    },
  };
}

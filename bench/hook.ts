/** What differs between the hooks that the bench runs programs at. */
import type { AttachHook, ProgramSpec } from '@tailrace/bpf';
import { type ProgramHook, TcVerdict, XdpVerdict } from '@tailrace/compiler';

/** The hooks that most suites have rows for. */
export const HOOKS = ['xdp', 'tcIngress'] as const satisfies readonly AttachHook[];

/** Which chains a program of that hook stands in. */
export function chainKind(hook: AttachHook): ProgramHook {
  return hook === 'xdp' ? 'xdp' : 'tc';
}

/** How a program of that hook is loaded. */
export function programKind(hook: AttachHook): Pick<ProgramSpec, 'type' | 'frags'> {
  return hook === 'xdp' ? { type: 'xdp', frags: true } : { type: 'schedCls', frags: false };
}

/** What a program returns for a verdict: signed, as it writes it. */
export function verdictNumber(hook: AttachHook, verdict: 'pass' | 'drop'): number {
  return hook === 'xdp' ? XdpVerdict[verdict] : TcVerdict[verdict];
}

/** The same as test runs tell it: unsigned. */
export function returnValue(hook: AttachHook, verdict: 'pass' | 'drop'): number {
  return verdictNumber(hook, verdict) >>> 0;
}

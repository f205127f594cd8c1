/**
 * What differs between the hooks that programs are compiled for: the kind of program, the struct that its context points
 * to, the numbers of its verdicts. Everything else of the compiler is the same for all of them.
 */
import type { ProgramType } from '@tailrace/bpf';
import type { Hook } from '@tailrace/stage';
import { hookVerdicts, type ProgramHook, TcVerdict, XdpVerdict } from './placement.ts';

/** Offsets into struct xdp_md (include/uapi/linux/bpf.h). */
export const XDP_MD = { data: 0, dataEnd: 4, dataMeta: 8, ingressIfindex: 12, rxQueue: 16 } as const;

/** Offsets into struct __sk_buff (include/uapi/linux/bpf.h); all fields are u32, `cb` is five of them. */
export const SK_BUFF = {
  len: 0,
  mark: 8,
  queueMapping: 12,
  vlanPresent: 20,
  vlanTci: 24,
  vlanProto: 28,
  priority: 32,
  ingressIfindex: 36,
  ifindex: 40,
  cb: 48,
  data: 76,
  dataEnd: 80,
  dataMeta: 140,
  gsoSegments: 164,
  gsoSize: 176,
} as const;

export interface HookModel {
  /** Which chains it serves; decides the verdicts and the counters. */
  readonly kind: ProgramHook;
  readonly programType: ProgramType;
  /** Loaded as able to take packets in fragments (BPF_F_XDP_HAS_FRAGS). */
  readonly frags: boolean;
  /** Offsets of the packet's ends in the context struct. */
  readonly context: { readonly data: number; readonly dataEnd: number; readonly dataMeta: number };
  /** The kernel's numbers of the verdicts. */
  readonly verdicts: Readonly<Record<string, number>>;
  /** What a program returns that finds its chain's state gone: it never does, but the verifier wants the path. */
  readonly lost: number;
  /** The verdict that a redirect gives which the kernel refuses. */
  readonly refusedRedirect: string;
}

const XDP: HookModel = {
  kind: 'xdp',
  programType: 'xdp',
  frags: true,
  context: XDP_MD,
  verdicts: hookVerdicts.xdp,
  lost: XdpVerdict.abort,
  refusedRedirect: 'abort',
};

const TC: HookModel = {
  kind: 'tc',
  programType: 'schedCls',
  frags: false,
  context: SK_BUFF,
  verdicts: hookVerdicts.tc,
  lost: TcVerdict.drop,
  refusedRedirect: 'drop',
};

/** The models by what programs are compiled for. */
export const hookModels: Readonly<Record<ProgramHook, HookModel>> = { xdp: XDP, tc: TC };

/** The model of a stage's hook; undefined for hooks that cannot be compiled. */
export function hookModel(hook: Hook): HookModel | undefined {
  switch (hook) {
    case 'xdp':
      return XDP;
    case 'tc':
    case 'tcIngress':
    case 'tcEgress':
      return TC;
    default:
      return undefined;
  }
}

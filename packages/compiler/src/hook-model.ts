/**
 * What differs between the hooks that programs are compiled for: the kind of program, the struct that its context points
 * to, the numbers of its verdicts. Everything else of the compiler is the same for all of them.
 */
import type { ProgramType } from '@tailrace/bpf';
import type { Hook } from '@tailrace/stage';
import { hookVerdicts, type ProgramHook, SocketVerdict, SockOpsVerdict, TcVerdict, XdpVerdict } from './placement.ts';

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
  family: 88,
  remoteIp4: 92,
  localIp4: 96,
  remoteIp6: 100,
  localIp6: 116,
  remotePort: 132,
  localPort: 136,
  dataMeta: 140,
  gsoSegments: 164,
  gsoSize: 176,
} as const;

/** Offsets into struct sk_msg_md (include/uapi/linux/bpf.h): two pointers, then u32s. */
export const SK_MSG = {
  data: 0,
  dataEnd: 8,
  family: 16,
  remoteIp4: 20,
  localIp4: 24,
  remoteIp6: 28,
  localIp6: 44,
  remotePort: 60,
  localPort: 64,
  size: 68,
} as const;

/** Offsets into struct bpf_sock_ops (include/uapi/linux/bpf.h); all of these are u32. */
export const SOCK_OPS = {
  op: 0,
  family: 20,
  remoteIp4: 24,
  localIp4: 28,
  remoteIp6: 32,
  localIp6: 48,
  remotePort: 64,
  localPort: 68,
} as const;

/** Where the context has the bytes that a program sees. */
export interface BytesPlace {
  readonly data: number;
  readonly dataEnd: number;
  /** Bytes of each of these. */
  readonly pointerSize: 4 | 8;
  /** How many bytes there are, also those that cannot be reached without a pull; undefined at XDP, where none can be pulled. */
  readonly length?: number;
}

/** Where the context names the ends of a socket's connection. Addresses and the remote port are big-endian. */
export interface SocketPlaces {
  readonly family: number;
  readonly remoteIp4: number;
  readonly localIp4: number;
  readonly remoteIp6: number;
  readonly localIp6: number;
  readonly remotePort: number;
  readonly localPort: number;
}

export interface HookModel {
  /** Which chains it serves; decides the verdicts and the counters. */
  readonly kind: ProgramHook;
  readonly programType: ProgramType;
  /** Loaded as able to take packets in fragments (BPF_F_XDP_HAS_FRAGS). */
  readonly frags: boolean;
  /** The packet, or a socket's data; undefined where programs see none. */
  readonly bytes: BytesPlace | undefined;
  /** The socket; undefined at hooks of interfaces. */
  readonly socket?: SocketPlaces;
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
  bytes: { data: XDP_MD.data, dataEnd: XDP_MD.dataEnd, pointerSize: 4 },
  verdicts: hookVerdicts.xdp,
  lost: XdpVerdict.abort,
  refusedRedirect: 'abort',
};

const TC: HookModel = {
  kind: 'tc',
  programType: 'schedCls',
  frags: false,
  bytes: { data: SK_BUFF.data, dataEnd: SK_BUFF.dataEnd, pointerSize: 4, length: SK_BUFF.len },
  verdicts: hookVerdicts.tc,
  lost: TcVerdict.drop,
  refusedRedirect: 'drop',
};

/** What programs of sockets have in common. */
const SOCKET = { frags: false, lost: SocketVerdict.drop, refusedRedirect: 'drop' } as const;

const SK_SKB_MODEL: HookModel = {
  ...SOCKET,
  kind: 'skSkb',
  programType: 'skSkb',
  bytes: { data: SK_BUFF.data, dataEnd: SK_BUFF.dataEnd, pointerSize: 4, length: SK_BUFF.len },
  socket: SK_BUFF,
  verdicts: hookVerdicts.skSkb,
};

const SK_MSG_MODEL: HookModel = {
  ...SOCKET,
  kind: 'skMsg',
  programType: 'skMsg',
  bytes: { data: SK_MSG.data, dataEnd: SK_MSG.dataEnd, pointerSize: 8, length: SK_MSG.size },
  socket: SK_MSG,
  verdicts: hookVerdicts.skMsg,
};

const SOCK_OPS_MODEL: HookModel = {
  ...SOCKET,
  kind: 'sockOps',
  programType: 'sockOps',
  bytes: undefined,
  socket: SOCK_OPS,
  verdicts: hookVerdicts.sockOps,
  lost: SockOpsVerdict.pass,
};

/** The models by what programs are compiled for. */
export const hookModels: Readonly<Record<ProgramHook, HookModel>> = {
  xdp: XDP,
  tc: TC,
  skSkb: SK_SKB_MODEL,
  skMsg: SK_MSG_MODEL,
  sockOps: SOCK_OPS_MODEL,
};

/** The model of a stage's hook. */
export function hookModel(hook: Hook): HookModel {
  return hookModels[hook === 'tcIngress' || hook === 'tcEgress' ? 'tc' : hook];
}

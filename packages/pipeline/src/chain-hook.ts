/** The chains that run so far, in the order in which packets meet them, and the kind of program that each is made of. */
import type { AttachHook } from '@tailrace/bpf';
import { hookVerdicts, type ProgramHook, type TcVerdict, type XdpVerdict } from '@tailrace/compiler';

/** A chain on packets: it runs at interfaces. */
export type PacketHook = AttachHook;
/** A chain on sockets: on data that have come in, on data that are sent, on events. */
export type SocketHook = 'skSkb' | 'skMsg' | 'sockOps';
/** A chain that engines can run. */
export type ChainHook = PacketHook | SocketHook;
/** In the order in which packets meet them. */
export const chainHooks: readonly ChainHook[] = ['xdp', 'tcIngress', 'tcEgress', 'skSkb', 'skMsg', 'sockOps'];

/** How people call them. */
export const hookTitle: Readonly<Record<ChainHook, string>> = {
  xdp: 'XDP',
  tcIngress: 'TC ingress',
  tcEgress: 'TC egress',
  skSkb: 'socket data in',
  skMsg: 'socket data out',
  sockOps: 'socket events',
};

/** True for chains on packets. */
export function isPacketHook(hook: ChainHook): hook is PacketHook {
  return hook === 'xdp' || hook === 'tcIngress' || hook === 'tcEgress';
}

/** The kind of a chain's programs: both directions of TC have the same. */
export const programHook = (hook: ChainHook): ProgramHook => (hook === 'tcIngress' || hook === 'tcEgress' ? 'tc' : hook);

/** What a chain can come to. */
export type ChainVerdict = XdpVerdict | TcVerdict;

/** The names of a chain's verdicts. */
export function verdictNamesOf(hook: ChainHook): readonly ChainVerdict[] {
  return Object.keys(hookVerdicts[programHook(hook)]) as ChainVerdict[];
}

/** The verdict that a program's return value stands for; `undefined` for none. TC's -1 comes back as an unsigned number. */
export function verdictOf(hook: ChainHook, returnValue: number): ChainVerdict | undefined {
  const numbers: Readonly<Partial<Record<ChainVerdict, number>>> = hookVerdicts[programHook(hook)];
  return verdictNamesOf(hook).find((name) => (numbers[name] ?? 0) >>> 0 === returnValue >>> 0);
}

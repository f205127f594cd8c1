export type { Check, CheckState } from './check.ts';
export { QdiscConflictError } from './clsact.ts';
export { EndWatch } from './end-watch.ts';
export { type KernelEngine, KernelInstance, type KernelOptions, kernel } from './engine.ts';
export { errnoName, SyscallError } from './errno.ts';
export type { Offload } from './ethtool.ts';
export { type IcmpMessage, IcmpSocket } from './icmp-socket.ts';
export type { AttachedXdp, InterfaceChange, InterfaceInfo, VethEnd, VxlanDevice, XdpMode } from './interface.ts';
export { type AttachedMode, type AttachMode, InterfaceConflictError, type KernelAttachment } from './link.ts';
export { KernelMap } from './map.ts';
export { type Neighbour, type NeighbourEvent, type NeighbourState, watchNeighbours } from './neighbour.ts';
export { NetlinkError } from './netlink.ts';
export { createNamespace, currentNamespace, inNamespace, NetworkNamespace, openNamespace } from './netns.ts';
export { PacketSocket, type PacketSocketOptions } from './packet-socket.ts';
export { PinFolderError } from './pin.ts';
export { KernelPinFolder } from './pin-folder.ts';
export { PinsTakenError } from './pin-lock.ts';
export { KernelPinStore } from './pin-store.ts';
export { PinnedMapError } from './pinned-map.ts';
export { PinnedTextError } from './pinned-text.ts';
export {
  bpffsMounted,
  Capability,
  effectiveCapabilities,
  PrivilegeError,
  possibleCpus,
  requireBpf,
  requireBpffs,
  requireCapabilities,
  requireKernel,
} from './privilege.ts';
export { type KernelReport, type ProbeOptions, probeKernel } from './probe.ts';
export type { InterfaceProgram, InterfaceReport, OffloadReport } from './probe-interface.ts';
export { KernelProgram, type ProgramInfo } from './program.ts';
export type { InterfaceAddress, Route } from './routing.ts';
export { Rtnetlink } from './rtnetlink.ts';
export { bindUdp, type ConnectOptions, connectTcp, listenTcp } from './socket.ts';
export { enableForwarding, getSysctl, setSysctl } from './sysctl.ts';
export type { TcLinkKind, TcOptions } from './tc-link.ts';
export { AlreadyAttachedError, type AttachedTc, type TcHook, type TcOrder, TcOrderError } from './tc-order.ts';
export { isTcp, isTcpClosed, moveBytes, ReadingEnd, readBytes, setReceiveLowWater, tcpProgress, tcpUnread } from './tcp-socket.ts';
export { formatVerifierError, type RegisterState, type Rejection, type SourceLine, VerifierError } from './verifier.ts';

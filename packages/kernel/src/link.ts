/**
 * Attaching a program to interfaces, all or none, and XDP links, which are one way to (tc-link.ts has the others). A program of somebody else is never displaced: the kernel
 * refuses a second link by itself, and the interface is looked at first so that the error can name what is there.
 */
import { ArgumentError, type Attachment, TailraceError, UnsupportedError } from '@tailrace/bpf';
import type { Attributes } from './attribute.ts';
import { bpfError, tryBpf, tryBpfAsync } from './bpf.ts';
import { Errno } from './errno.ts';
import { type AttachedXdp, type InterfaceInfo, requireInterface } from './interface.ts';
import type { RouteSocket } from './netlink.ts';
import { inNamespace, type NetworkNamespace } from './netns.ts';
import { type KernelProgram, programName } from './program.ts';
import { closeFdAsync } from './syscall.ts';

/** BPF_XDP (enum bpf_attach_type). */
const BPF_XDP = 37;
/** XDP_FLAGS_SKB_MODE and XDP_FLAGS_DRV_MODE (include/uapi/linux/if_link.h). */
const modeFlags = { generic: 1 << 1, native: 1 << 2 } as const;
/** ARPHRD_ETHER and ARPHRD_LOOPBACK (include/uapi/linux/if_arp.h): frames start with an Ethernet header. */
export const ethernetTypes: readonly number[] = [1, 772];
const ERANGE = 34;

/** `auto` attaches native and, where the driver has no XDP of its own, generic. */
export type AttachMode = 'native' | 'generic' | 'auto';

/** Another XDP program is on the interface. */
export class InterfaceConflictError extends TailraceError {
  readonly interface: string;
  /** The other program's name; empty where it has none or may not be asked. */
  readonly program: string;
  /** The other program's id in the kernel. */
  readonly programId: number;

  constructor(name: string, program: string, { programId, mode }: AttachedXdp) {
    const other = program === '' ? '' : ` ${program}`;
    // libxdp runs the programs of several tools behind one of its own, of this name
    const hint =
      program === 'xdp_dispatcher'
        ? `that is libxdp's, with programs of other tools behind it: see xdp-loader status, and xdp-loader unload ${name}`
        : `stop what attached it, or: ip link set dev ${name} xdp off`;
    super('conflict', `interface ${name} has another XDP program, ${mode}:${other} (id ${programId})`, { hint });
    this.interface = name;
    this.program = program;
    this.programId = programId;
  }
}

type XdpLinkMode = keyof typeof modeFlags;

/** Where attaching happens. */
export interface AttachPlace {
  /** Looks interfaces up. */
  readonly socket: RouteSocket;
  /** The interfaces' namespace, entered on this thread; undefined where the pool's threads are in it. */
  readonly namespace?: NetworkNamespace | undefined;
}

/** How a program is attached: XDP in the driver or behind it; TC by a link or by a filter of clsact. */
export type AttachedMode = 'native' | 'generic' | 'tcx' | 'clsact';

/** A live attachment in the kernel. */
export interface KernelAttachment extends Attachment {
  /** How the program is attached, by interface. */
  readonly modes: ReadonlyMap<string, AttachedMode>;
}

/** The interface of that name, if it can carry XDP stages. Throws ArgumentError. */
export function requireEthernet(socket: RouteSocket, name: string): InterfaceInfo {
  const info = requireInterface(socket, name);
  if (ethernetTypes.includes(info.type)) return info;
  throw new ArgumentError(`interface ${name} carries no Ethernet headers (hardware type ${info.type})`, {
    hint: 'stages read packets from the Ethernet header on: choose an Ethernet interface',
  });
}

/**
 * Attaches a program to every interface or to none. Throws InterfaceConflictError, ArgumentError (no such interface, no Ethernet),
 * UnsupportedError (mode `native` without a driver for it), SyscallError.
 */
export async function attachXdp(
  program: KernelProgram,
  interfaces: readonly string[],
  mode: AttachMode,
  place: AttachPlace,
): Promise<KernelAttachment> {
  return attachEverywhere(interfaces, async (name) => {
    const made = await createXdpLink(program, name, mode, place);
    return linkOfFd(name, made.mode, made.fd);
  });
}

/** A program at one interface. */
export interface Link {
  readonly interface: string;
  readonly mode: AttachedMode;
  /** Takes the program off. Where it throws it may be called again; where it succeeded once it does nothing. */
  release(): Promise<void>;
}

/** Makes a link at each interface, in order, or at none, and an attachment of them all. */
export async function attachEverywhere(interfaces: readonly string[], create: (name: string) => Promise<Link>): Promise<KernelAttachment> {
  const links: Link[] = [];
  try {
    for (const name of interfaces) links.push(await create(name));
  } catch (error) {
    await releaseLinks(links);
    throw error;
  }
  const modes = new Map(links.map((link) => [link.interface, link.mode]));
  let detaching: Promise<void> | undefined;
  return {
    interfaces: [...interfaces],
    modes,
    detach: () => {
      detaching ??= releaseLinks(links).catch((error: unknown) => {
        detaching = undefined;
        throw error;
      });
      return detaching;
    },
  };
}

/** A link that closing an fd ends. Closing happens on a pool thread: it blocks for milliseconds. */
export function linkOfFd(name: string, mode: AttachedMode, fd: number): Link {
  let open = true;
  return {
    interface: name,
    mode,
    async release() {
      // The number is free after close even where that reports an error.
      if (!open) return;
      open = false;
      await closeFdAsync(fd);
    },
  };
}

/** Releases all links, the last one first; a failure is thrown after the rest are released, and its link stays in the list. */
async function releaseLinks(links: Link[]): Promise<void> {
  const left: Link[] = [];
  let failure: unknown;
  for (let link = links.pop(); link; link = links.pop()) {
    try {
      await link.release();
    } catch (error) {
      failure ??= error;
      left.unshift(link);
    }
  }
  links.push(...left);
  if (failure !== undefined) throw failure;
}

/** A link as it was made: closing the fd, which is the caller's, ends it unless it is pinned. */
export interface MadeLink {
  readonly fd: number;
  readonly mode: AttachedMode;
}

/** Makes an XDP link at one interface. Throws what `attachXdp` does. */
export function createXdpLink(program: KernelProgram, name: string, mode: AttachMode, place: AttachPlace): Promise<MadeLink> {
  return program.hold((fd) => createLink(fd, program.spec.name, name, mode, place));
}

async function createLink(prog_fd: number, program: string, name: string, wanted: AttachMode, place: AttachPlace): Promise<MadeLink> {
  const info = requireEthernet(place.socket, name);
  refuseOccupied(info);
  let mode: XdpLinkMode = wanted === 'generic' ? 'generic' : 'native';
  let result = await tryLink(prog_fd, info.index, mode, place);
  // EOPNOTSUPP: the driver has no XDP (net/core/dev.c, dev_xdp_attach).
  if (result === -Errno.EOPNOTSUPP && wanted === 'auto') {
    mode = 'generic';
    result = await tryLink(prog_fd, info.index, mode, place);
  }
  if (result >= 0) return { mode, fd: result };
  if (result === -Errno.EOPNOTSUPP && wanted === 'native') {
    throw new UnsupportedError(`the driver of interface ${name} has no native XDP`, {
      hint: "use mode 'auto' or 'generic'",
    });
  }
  // Somebody was faster: EBUSY in the same mode, EEXIST in the other.
  if (result === -Errno.EBUSY || result === -Errno.EEXIST) refuseOccupied(requireInterface(place.socket, name));
  throw bpfError('BPF_LINK_CREATE', result, `program ${program} on interface ${name}`, linkHint(-result, info));
}

async function tryLink(prog_fd: number, index: number, mode: XdpLinkMode, place: AttachPlace): Promise<number> {
  const attributes: Attributes<'BPF_LINK_CREATE'> = {
    prog_fd,
    target_ifindex: index,
    attach_type: BPF_XDP,
    flags: modeFlags[mode],
  };
  const { result } = place.namespace
    ? inNamespace(place.namespace, () => tryBpf('BPF_LINK_CREATE', attributes))
    : await tryBpfAsync('BPF_LINK_CREATE', attributes);
  return result;
}

function refuseOccupied({ name, xdp }: InterfaceInfo): void {
  const [occupant] = xdp;
  if (occupant) throw new InterfaceConflictError(name, programName(occupant.programId), occupant);
}

function linkHint(errno: number, { mtu, kind }: InterfaceInfo): string | undefined {
  if (errno === ERANGE) return `its MTU of ${mtu} does not fit one page: load programs with frags, or lower the MTU`;
  if (errno === Errno.ENOSPC && kind === 'veth') return 'native XDP on veth needs as many receive queues as the peer has transmit queues';
  return undefined;
}

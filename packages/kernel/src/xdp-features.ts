/**
 * What a driver says of its XDP, over generic netlink: the family `netdev` of Linux 6.3 (include/uapi/linux/netdev.h and
 * genetlink.h). Nothing else tells it without attaching a program.
 */
import { Errno } from './errno.ts';
import { decodeAttributes, encodePayload, NetlinkError, RouteSocket } from './netlink.ts';
import type { NetworkNamespace } from './netns.ts';

/** GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID and CTRL_ATTR_FAMILY_NAME. */
const control = { type: 0x10, getFamily: 3, familyId: 1, familyName: 2 } as const;
/** NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX and NETDEV_A_DEV_XDP_FEATURES. */
const netdev = { deviceGet: 1, ifindex: 1, xdpFeatures: 3 } as const;
/** NETDEV_XDP_ACT_* */
const feature = { basic: 1, redirect: 2, transmit: 4, zeroCopy: 8, fragments: 32 } as const;
/** struct genlmsghdr: cmd u8, version u8, reserved u16. */
const headerBytes = 4;

/** What a driver has of XDP. */
export type XdpFeatures = { readonly [F in keyof typeof feature]: boolean };

/** The features of an interface's driver; undefined where the kernel does not tell (before Linux 6.3). Throws NetlinkError, SyscallError. */
export function xdpFeatures(index: number, namespace?: NetworkNamespace): XdpFeatures | undefined {
  using socket = new RouteSocket(namespace, 'generic');
  try {
    const family = ask(socket, 'look up netlink family netdev', control.type, control.getFamily, [control.familyName, 'netdev']);
    const id = family?.get(control.familyId);
    if (id === undefined) return undefined;
    const type = new DataView(id.buffer, id.byteOffset, 2).getUint16(0, true);
    const device = ask(socket, `features of interface ${index}`, type, netdev.deviceGet, [netdev.ifindex, index]);
    const bits = device?.get(netdev.xdpFeatures);
    if (bits === undefined) return undefined;
    const set = new DataView(bits.buffer, bits.byteOffset, 8).getBigUint64(0, true);
    const entries = Object.entries(feature).map(([name, bit]) => [name, (set & BigInt(bit)) !== 0n]);
    return Object.fromEntries(entries) as XdpFeatures;
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === Errno.ENOENT) return undefined;
    throw error;
  }
}

function ask(socket: RouteSocket, what: string, type: number, command: number, attribute: readonly [number, string | number]) {
  const [answer] = socket.get(what, type, encodePayload(Uint8Array.of(command, 1, 0, 0), [attribute]));
  return answer && decodeAttributes(answer.payload.subarray(headerBytes));
}

/**
 * One namespace's interfaces, addresses, routes and neighbours as an object: what `ip` and `ethtool` do. All calls are
 * synchronous, and all work in the namespace the object was opened for, whichever the thread is in.
 */

import { getOffload, type Offload, setOffloads } from './ethtool.ts';
import {
  changeInterface,
  createVeth,
  createVxlan,
  deleteInterface,
  findInterface,
  type InterfaceChange,
  type InterfaceInfo,
  listInterfaces,
  requireInterface,
  type VethEnd,
  type VxlanDevice,
} from './interface.ts';
import { deleteNeighbour, listNeighbours, type Neighbour, probeNeighbour, resolveNeighbour, setNeighbour } from './neighbour.ts';
import { RouteSocket } from './netlink.ts';
import type { NetworkNamespace } from './netns.ts';
import { addAddress, addRoute, deleteAddress, deleteRoute, type InterfaceAddress, listAddresses, type Route } from './routing.ts';

/**
 * A connection to the kernel's network configuration. Interfaces are given by name; a name that is not there throws
 * ArgumentError with the names that are. Requests that the kernel refuses throw NetlinkError.
 */
export class Rtnetlink implements Disposable {
  readonly #socket: RouteSocket;

  /** Opens it for `namespace` (undefined: the thread's own). Throws SyscallError. */
  constructor(namespace?: NetworkNamespace) {
    this.#socket = new RouteSocket(namespace);
  }

  /** All interfaces, by index. */
  interfaces(): InterfaceInfo[] {
    return listInterfaces(this.#socket);
  }

  /** The interface of that name, if there is one. */
  find(name: string): InterfaceInfo | undefined {
    return findInterface(this.#socket, name);
  }

  /** The interface of that name. */
  interface(name: string): InterfaceInfo {
    return requireInterface(this.#socket, name);
  }

  /** Makes a veth pair, each end in its namespace (by default this one). Both ends are down. */
  createVeth(end: VethEnd, peer: VethEnd): void {
    createVeth(this.#socket, end, peer);
  }

  /** Makes a VXLAN device whose tunnel keys come from programs (`external` in iproute2), down. */
  createVxlan(device: VxlanDevice): void {
    createVxlan(this.#socket, device);
  }

  /** Switches an interface on or off, sets its MTU or MAC address, moves it to another namespace. */
  change(name: string, change: InterfaceChange): void {
    changeInterface(this.#socket, name, change);
  }

  /** Deletes an interface; a veth's other end goes with it. False where there was none. */
  delete(name: string): boolean {
    return deleteInterface(this.#socket, name);
  }

  /** Adds `10.0.0.1/24` or `fd00::1/64`; IPv6 addresses are usable at once (no duplicate detection). */
  addAddress(name: string, address: string): void {
    addAddress(this.#socket, name, address);
  }

  deleteAddress(name: string, address: string): void {
    deleteAddress(this.#socket, name, address);
  }

  /** Addresses of one interface, or of all. */
  addresses(name?: string): InterfaceAddress[] {
    return listAddresses(this.#socket, name);
  }

  addRoute(route: Route): void {
    addRoute(this.#socket, route);
  }

  deleteRoute(route: Route): void {
    deleteRoute(this.#socket, route);
  }

  /** Neighbours of one interface, or of all. */
  neighbours(name?: string): Neighbour[] {
    return listNeighbours(this.#socket, name);
  }

  /** Adds or overwrites a permanent neighbour. */
  setNeighbour(name: string, address: string, mac: string): void {
    setNeighbour(this.#socket, name, address, mac);
  }

  /** False where there was none. */
  deleteNeighbour(name: string, address: string): boolean {
    return deleteNeighbour(this.#socket, name, address);
  }

  /** Has the kernel ask the link for a MAC address; `neighbours` or `watchNeighbours` shows the answer. */
  probeNeighbour(name: string, address: string): void {
    probeNeighbour(this.#socket, name, address);
  }

  /** Asks the link and waits; undefined when nobody answered within `timeoutMs` (by default 3,000). */
  resolveNeighbour(name: string, address: string, timeoutMs?: number): Promise<string | undefined> {
    return resolveNeighbour(this.#socket, name, address, timeoutMs);
  }

  /** Switches offloads on or off, e.g. `{ txChecksum: false }`. Throws SyscallError. */
  setOffloads(name: string, offloads: Partial<Readonly<Record<Offload, boolean>>>): void {
    setOffloads(this.#socket, name, offloads);
  }

  /** Whether an offload is on. Throws SyscallError. */
  offload(name: string, offload: Offload): boolean {
    return getOffload(this.#socket, name, offload);
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

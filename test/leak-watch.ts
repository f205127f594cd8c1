/** Has every test of a file leave what it found: open files, programs, and what is attached to the interfaces of its hosts. */
import { eventually, type Host } from '@tailrace/testing';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { RouteSocket } from '../packages/kernel/src/netlink.ts';
import { listTcx } from '../packages/kernel/src/tcx.ts';
import { clsactKind } from '../packages/kernel/src/traffic-control.ts';
import { gone, type HeldObjects, heldBy, openFds } from './kernel-objects.ts';

/** Watches a file's tests. Made by `watchLeaks`. */
export interface LeakWatch {
  /** Has the programs that this process holds now be gone when the test is over. */
  remember(): void;
}

/** What is attached to one interface, by the ids of programs; `qdisc` is the kind where clsact goes. */
interface Attached {
  readonly name: string;
  readonly xdp: readonly number[];
  readonly tcIngress: readonly number[];
  readonly tcEgress: readonly number[];
  readonly qdisc: string | undefined;
}

/**
 * Compares around every test, and around the whole file: call it before the hooks that make the hosts. `hosts` are asked
 * for when a test starts; none where each test makes its own.
 */
export function watchLeaks(hosts: () => readonly Host[] = () => []): LeakWatch {
  const met = new Set<number>();
  let file: { readonly fds: number; readonly held: HeldObjects };
  let before: { readonly fds: number; readonly held: HeldObjects; readonly attached: readonly Attached[] };
  const allAttached = () => hosts().flatMap(attachedTo);
  beforeAll(() => {
    file = { fds: openFds(), held: heldBy('self') };
  });
  beforeEach(() => {
    before = { fds: openFds(), held: heldBy('self'), attached: allAttached() };
  });
  afterEach(async () => {
    await eventually(() => openFds() === before.fds, 2_000, `${before.fds} open files again`);
    expect(heldBy('self')).toEqual(before.held);
    expect(allAttached()).toEqual(before.attached);
    await gone({ programs: [...met].filter((id) => !before.held.programs.includes(id)), namespaces: [] });
    met.clear();
  });
  // Hooks of this kind run last first, so this one after those that close the hosts.
  afterAll(async () => {
    await eventually(() => openFds() === file.fds, 2_000, `${file.fds} open files again`);
    expect(heldBy('self')).toEqual(file.held);
  });
  return {
    remember() {
      for (const id of heldBy('self').programs) met.add(id);
    },
  };
}

function attachedTo({ namespace, route }: Host): Attached[] {
  using socket = new RouteSocket(namespace);
  return route.interfaces().map(({ name, index, xdp }) => {
    const at = (hook: 'tcIngress' | 'tcEgress') => listTcx({ index, name, hook }, namespace).map(({ programId }) => programId);
    return {
      name,
      xdp: xdp.map(({ programId }) => programId),
      tcIngress: at('tcIngress'),
      tcEgress: at('tcEgress'),
      qdisc: clsactKind(socket, index),
    };
  });
}

/** All that one pipeline has in the kernel, and on one interface, so that two moments can be compared. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { kernel, type NetworkNamespace, Rtnetlink } from '@tailrace/kernel';
import { stopKept } from '@tailrace/pipeline';
import { eventually } from '@tailrace/testing';
import { expect } from 'vitest';
import { RouteSocket } from '../packages/kernel/src/netlink.ts';
import { listTcx } from '../packages/kernel/src/tcx.ts';
import { clsactKind, listFilters } from '../packages/kernel/src/traffic-control.ts';
import { openFds } from './kernel-objects.ts';

/** Programs and pins by name, sorted; ids, and the numbers of arrays, differ from one generation to the next. */
export interface PipelineObjects {
  /** Of this process: bpf objects, sockets, namespaces. */
  readonly fds: number;
  readonly programs: readonly string[];
  /** How many this process or a program of these holds. */
  readonly maps: number;
  /** One for each link, by its program. */
  readonly links: readonly string[];
  readonly pins: readonly string[];
  /** How many programs are on the interface, and the qdisc where clsact goes. */
  readonly attached: Readonly<Record<'xdp' | 'tcIngress' | 'tcEgress' | 'filters', number>> & { readonly qdisc: string | undefined };
}

/** Where to look. */
export interface PipelinePlace {
  /** The pipeline's name, of up to 8 bytes. */
  readonly name: string;
  /** The names of its stages, which no other pipeline has. */
  readonly stages: readonly string[];
  readonly namespace: NetworkNamespace;
  readonly interface: string;
}

/**
 * What there is now. Maps are not listed by id: where a program array is opened that way while the kernel empties it, it stays for
 * good (kernel/bpf/arraymap.c, prog_array_map_clear, whose work is counted once more than it runs).
 */
export function objectsOf({ name, stages, namespace, interface: at }: PipelinePlace): PipelineObjects {
  const all = listed<ListedProgram>('prog');
  const isNamed = (program: ListedProgram) => program.name?.startsWith(`${name}.`) || stages.includes(program.name ?? '');
  const fds = mapsOpen();
  const known = new Set([...fds, ...all.filter(isNamed).flatMap(({ map_ids = [] }) => map_ids)]);
  const programs = all.filter((program) => isNamed(program) || program.map_ids?.some((id) => known.has(id)));
  const nameOf = new Map(programs.map((program) => [program.id, program.name ?? '']));
  return {
    fds: openFds(),
    programs: [...nameOf.values()].sort(),
    maps: new Set([...fds, ...programs.flatMap(({ map_ids = [] }) => map_ids)]).size,
    links: listed<{ readonly prog_id: number }>('link')
      .flatMap(({ prog_id }) => nameOf.get(prog_id) ?? [])
      .sort(),
    pins: pinsOf(name),
    attached: attachedAt(namespace, at),
  };
}

interface ListedProgram {
  readonly id: number;
  readonly name?: string;
  readonly map_ids?: readonly number[];
}

/** Ids of the maps that this process has open. */
function mapsOpen(): readonly number[] {
  return readdirSync('/proc/self/fdinfo').flatMap((fd) => {
    try {
      const [, id] = /^map_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
      return id === undefined ? [] : Number(id);
    } catch {
      // the one that the folder was read by
      return [];
    }
  });
}

/** What is gone as soon as a call is over; programs go when the kernel has emptied the arrays that they are in. */
export type HeldObjects = Pick<PipelineObjects, 'fds' | 'pins' | 'attached'>;

/** The part of `objectsOf` that tells at once whether something was left. */
export function heldOf({ name, namespace, interface: at }: PipelinePlace): HeldObjects {
  return { fds: openFds(), pins: pinsOf(name), attached: attachedAt(namespace, at) };
}

/** Waits for what there is to be `expected`. Throws the difference. */
export async function expectSame<T>(look: () => T, expected: T, about: string): Promise<void> {
  const text = JSON.stringify(expected);
  await eventually(() => JSON.stringify(look()) === text, 5_000, about).catch(() => undefined);
  expect(look(), about).toEqual(expected);
}

/** The pins of a pipeline by their names, sorted, without the numbers of arrays; none where it has no folder. */
export function pinsOf(name: string): readonly string[] {
  const folder = folderOf(name);
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .map((pin) => decodeURIComponent(pin).replace(/:\d+:/, ':N:'))
    .sort();
}

/** Stops a persistent pipeline that a test which failed has left, if there is one. */
export async function stopLeft(name: string): Promise<void> {
  if (!existsSync(folderOf(name))) return;
  await using outside = await kernel({ interfaces: [] }).open();
  await stopKept(outside, name);
}

const folderOf = (name: string): string => `/sys/fs/bpf/tailrace/${name}`;

function attachedAt(namespace: NetworkNamespace, name: string): PipelineObjects['attached'] {
  using route = new Rtnetlink(namespace);
  using socket = new RouteSocket(namespace);
  const { index, xdp } = route.interface(name);
  const at = (hook: 'tcIngress' | 'tcEgress') => ({ index, name, hook });
  return {
    xdp: xdp.length,
    tcIngress: listTcx(at('tcIngress'), namespace).length,
    tcEgress: listTcx(at('tcEgress'), namespace).length,
    filters: [...listFilters(socket, at('tcIngress')), ...listFilters(socket, at('tcEgress'))].length,
    qdisc: clsactKind(socket, index),
  };
}

function listed<T>(kind: 'prog' | 'link'): readonly T[] {
  return JSON.parse(execFileSync('bpftool', ['--json', kind, 'list'], { encoding: 'utf8', maxBuffer: 1 << 26 })) as readonly T[];
}

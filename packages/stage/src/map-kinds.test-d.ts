/** What types say of the kinds of maps: programs on one side, handles on the other. Checked by tsc alone. */
import {
  arrayOfMaps,
  bloomFilter,
  cpumap,
  devmapHash,
  type HandleOf,
  hash,
  hashOfMaps,
  type InnerHandle,
  type KeyedHandle,
  type QueueHandle,
  queue,
  type SocketHandle,
  sockhash,
  stack,
  stage,
  struct,
  u8,
  u32,
  u64,
  xskmap,
} from './index.ts';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const yes = <_T extends true>(): void => undefined;

const Job = struct({ id: u32, kind: u8 });
const jobs = queue({ name: 'jobs', value: Job, maxEntries: 8 });
const undo = stack({ name: 'undo', value: u64, maxEntries: 8 });
const seen = bloomFilter({ name: 'seen', value: Job, maxEntries: 8, hashes: 3 });
const flows = hash({ name: 'flows', key: u32, value: u64, maxEntries: 8, noPrealloc: true });
const tenants = hashOfMaps({ name: 'tenants', key: Job, maxEntries: 8, inner: flows });
const lists = arrayOfMaps({ name: 'lists', maxEntries: 8, inner: jobs });
const ports = devmapHash({ name: 'ports', maxEntries: 8 });
const cpus = cpumap({ name: 'cpus', maxEntries: 8 });
const queues = xskmap({ name: 'queues', maxEntries: 8 });
const sockets = sockhash({ name: 'sockets', key: Job, maxEntries: 8 });

yes<Same<HandleOf<typeof jobs>, QueueHandle<{ id: number; kind: number }>>>();
yes<Same<HandleOf<typeof sockets>, SocketHandle<{ id: number; kind: number }>>>();
yes<Same<HandleOf<typeof cpus>['get'], (key: number) => { readonly qsize: number } | undefined>>();

export async function handles(
  tenantsHandle: HandleOf<typeof tenants>,
  jobsHandle: HandleOf<typeof jobs>,
  queuesHandle: HandleOf<typeof queues>,
): Promise<void> {
  const inner: InnerHandle<KeyedHandle<number, bigint>> = await tenantsHandle.set({ id: 1, kind: 2 });
  inner.set(1, 5n);
  using other = tenantsHandle.create();
  await tenantsHandle.set({ id: 1, kind: 2 }, other);
  const own: HandleOf<typeof flows> | undefined = tenantsHandle.get({ id: 1, kind: 2 });
  own?.delete(1);
  // @ts-expect-error keys have the outer map's schema
  tenantsHandle.get(1);
  // @ts-expect-error another kind's handle
  await tenantsHandle.set({ id: 1, kind: 2 }, jobsHandle);
  // @ts-expect-error noexist means nothing where there are no keys
  jobsHandle.push({ id: 1, kind: 2 }, 'noexist');
  // @ts-expect-error the kernel does not tell
  jobsHandle.size;
  // @ts-expect-error the kernel does not give it back
  queuesHandle.get(1);
}

export const program = stage({
  name: 'kinds',
  hook: 'xdp',
  uses: { jobs, undo, seen, tenants, lists, ports, cpus, queues, sockets },
  program(ctx, { jobs, undo, seen, tenants, lists, ports, cpus, queues, sockets }) {
    const job = jobs.pop();
    // @ts-expect-error it may be empty
    job.id = 1;
    const last = undo.peek();
    if (last) undo.push(last.value + 1n, 'exist');
    // @ts-expect-error a queue has no keys
    jobs.lookup(1);
    if (job && seen.has(job)) return ctx.drop();
    // @ts-expect-error nothing is told of an add
    if (seen.add({ id: 1, kind: 2 })) return ctx.drop();
    const tenant = tenants.lookup({ id: 1, kind: 2 });
    // @ts-expect-error there may be no map
    tenant.lookup(1);
    const flow = tenant ? tenant.lookup(1) : undefined;
    if (flow) flow.value += 1n;
    // @ts-expect-error the handle puts maps in
    tenants.update({ id: 1, kind: 2 }, tenant);
    const list = lists.lookup(1);
    if (list) list.push({ id: 1, kind: 2 });
    // @ts-expect-error there are no stages for sockets yet
    sockets.lookup(1);
    // @ts-expect-error packets are not sent to sockets
    if (ctx.length > 99) return ctx.redirect(sockets, 1);
    if (ctx.length > 98) return ctx.redirect(queues, 1);
    if (ctx.length > 97) return ctx.redirect(cpus, 1);
    return ctx.redirect(ports, 70_000);
  },
});

export const elsewhere = stage({
  name: 'elsewhere',
  hook: 'tc',
  uses: { ports },
  // @ts-expect-error maps of targets are XDP's
  program: (ctx, { ports }) => ctx.redirect(ports, 1),
});

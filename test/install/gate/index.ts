/** A function package of a user's own: lets TCP in to the ports that a service names, and counts. */
import { defineFunction, type HandleOf, type HashMap, hash, stage, token, u16, u64 } from '@tailrace/stage';
import { ContainerModule } from 'inversify';
import { type Observable, of, type Subscription } from 'rxjs';

/** Says which ports are open, over time. */
export interface PortSource {
  readonly ports$: Observable<readonly number[]>;
}
export const PortSource = token<PortSource>('PortSource');

type Open = HashMap<number, bigint>;

/** Keeps the map of open ports as its service says. */
export class GateController implements Disposable {
  readonly #open: HandleOf<Open>;
  readonly #subscription: Subscription;

  constructor(open: HandleOf<Open>, source: PortSource) {
    this.#open = open;
    this.#subscription = source.ports$.subscribe((ports) => {
      for (const [port] of open.getAll()) if (!ports.includes(port)) open.delete(port);
      for (const port of ports) if (open.get(port) === undefined) open.set(port, 0n);
    });
  }

  /** Packets to each open port. */
  get hits(): Readonly<Record<number, bigint>> {
    return Object.fromEntries(this.#open.getAll());
  }

  [Symbol.dispose](): void {
    this.#subscription.unsubscribe();
  }
}

const guarded = hash({ name: 'open', key: u16, value: u64, maxEntries: 64 });

const guard = stage({
  name: 'guard',
  hook: 'xdp',
  uses: { open: guarded },
  program(ctx, { open }) {
    const tcp = ctx.tcp();
    if (!tcp) return ctx.next();
    const hits = open.lookup(tcp.dport);
    if (!hits) return ctx.exit('closed');
    hits.value += 1n;
    return ctx.next();
  },
});

/** Declares a gate with a map of its own. Exit: `closed`. */
export function gate() {
  const open = hash({ name: 'open', key: u16, value: u64, maxEntries: 64 });
  return defineFunction({
    name: 'gate',
    stages: { xdp: [guard.with({ open })] },
    controller: { needs: { open, source: PortSource }, create: ({ open, source }) => new GateController(open, source) },
    services: new ContainerModule(({ bind }) => {
      bind(PortSource).toConstantValue({ ports$: of([80]) });
    }),
  });
}

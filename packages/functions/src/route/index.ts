/** Where connections go, by the name that their first bytes ask for: `router()`, behind a splicer, and its `routeOf(socket)`. */
import { ArgumentError, backTo, defineFunction } from '@tailrace/stage';
import { RouteController } from './controller.ts';
import { checkName } from './domain.ts';
import { type By, findStage, WAYS } from './find.ts';
import { collectStage, matchStage, routeMaps } from './stage.ts';

export {
  type Holder,
  type Reason,
  RouteController,
  type Routed,
  type RouteNeeds,
  type RouteOptions,
  type RouteSetup,
} from './controller.ts';
export { type By, findStage } from './find.ts';
export { collectStage, HEAD_BYTES, HeadBytes, matchStage, nameKey, routeMaps, State, Waiting } from './stage.ts';

/** How to make a router. */
export interface RouterOptions<R> {
  /** Where names are looked for; default `name`, wherever they can be. */
  readonly by?: By;
  /** Routes by name; `*.example.com` is all names below example.com. The longest one counts. */
  readonly rules?: Readonly<Record<string, R>>;
  /** The route of all other connections. */
  readonly otherwise: R;
  /** Rules at a time; default 10,000. */
  readonly maxRules?: number;
  /** Connections that wait for their route at a time; default 1,024, of about 8.5 kB each. Further ones go the way of all others. */
  readonly maxWaiting?: number;
}

/**
 * Declares a router with maps of its own, for `skSkb`, behind the splicer that holds its connections. Another policy is a hot swap:
 * `running.replace(router.stage(findStage), controller.policy('sni'))`. Throws ArgumentError for names that are none, and sizes that no
 * map can have.
 */
export function router<R>(options: RouterOptions<R>) {
  const { by = 'name', rules = {}, otherwise, maxRules = 10_000, maxWaiting = 1_024 } = options;
  for (const [name, value, most] of [
    ['maxRules', maxRules, 2 ** 20],
    ['maxWaiting', maxWaiting, 2 ** 16],
  ] as const)
    if (!Number.isSafeInteger(value) || value < 1 || value > most)
      throw new ArgumentError(`router: ${name} is ${value}, expected 1..${most}`);
  for (const name of Object.keys(rules)) checkName(name);
  const maps = routeMaps(maxWaiting, maxRules);
  const find = findStage.with({ ...maps, ...WAYS[by] }).on({ again: backTo('find') });
  const { waiting, names } = maps;
  return defineFunction({
    name: 'route',
    stages: { skSkb: [collectStage.with(maps), find, matchStage.with(maps)] },
    controller: {
      needs: { waiting, names },
      create: (needs) => new RouteController<R>(needs, { maps, rules, otherwise }),
    },
  });
}

/**
 * The maps of a running pipeline that become others with an update: the new ones are opened under the names of the old, and entries
 * are brought while the old chains run, right before packets are led over, and once the old chains are through. What outlives the
 * process is pinned and told of meanwhile, by kept-maps.ts.
 */
import { ArgumentError, type EngineInstance } from '@tailrace/bpf';
import type { AnyMap } from '@tailrace/stage';
import type { Keeper } from './keeper.ts';
import { copiedSpec, MapMigration, type MigrationProgress } from './map-migration.ts';
import { isOne, type Migration } from './migration.ts';
import type { MapClaim, MapRegistry } from './registry.ts';

/** What maps are opened by. */
export interface TakeoverParts {
  /** The pipeline's name. */
  readonly name: string;
  readonly instance: EngineInstance;
  readonly registry: MapRegistry;
  /** Set where the pipeline outlives its process. */
  readonly keeper: Keeper | undefined;
}

type Told = ((progress: MigrationProgress) => void) | undefined;

/** Maps that are taken over by one update. Disposing of it lets go of them. */
export class MapTakeover implements Disposable {
  readonly #parts: TakeoverParts;
  /** Of a pipeline that ends with its process. */
  readonly #moving: readonly MapMigration[];
  readonly #held: DisposableStack;

  private constructor(parts: TakeoverParts, moving: readonly MapMigration[], held: DisposableStack) {
    this.#parts = parts;
    this.#moving = moving;
    this.#held = held;
  }

  /**
   * Opens the new maps, and keeps the old. `claims` are those of the next pipeline, as its chains and functions are going to open
   * them. Throws ChainError for a migration from a map that is not open, ArgumentError for one that has nothing to do otherwise, and
   * what the registry and the engine throw.
   */
  static begin(parts: TakeoverParts, claims: readonly (readonly MapClaim[])[], migrations: readonly Migration[], tell: Told): MapTakeover {
    const { instance, registry, keeper } = parts;
    for (const migration of migrations) check(parts, claims.flat(), migrations, migration);
    using held = new DisposableStack();
    keeper?.beginMigrations(migrations, tell);
    held.defer(() => keeper?.beginMigrations([]));
    const afterOf = ({ map }: MapClaim): AnyMap | undefined => migrations.find(({ to }) => isOne(to, map))?.from;
    for (const group of claims) {
      const taking = group.map((claim) => {
        const after = afterOf(claim);
        return after ? { ...claim, after } : claim;
      });
      const old = taking.flatMap((claim) => ('after' in claim ? { map: claim.after, scope: claim.scope, user: claim.user } : []));
      if (old.length === 0) continue;
      held.use(registry.hold(old));
      held.use(registry.hold(taking));
    }
    const moving = keeper
      ? []
      : migrations.map((migration) => {
          const [from, to] = [registry.loaded(migration.from), registry.loaded(migration.to)];
          return new MapMigration(
            migration,
            { from, to, copied: held.adopt(instance.createMap(copiedSpec(from)), (map) => map.close()) },
            tell,
          );
        });
    return new MapTakeover(parts, moving, held.move());
  }

  /** Once chains are loaded, and before controllers start: brings all entries. Throws MigrationError. */
  async copy(): Promise<void> {
    await this.#parts.keeper?.migrate();
    for (const moving of this.#moving) await moving.copy();
  }

  /** Right before packets are led over: brings what changed since. Throws MigrationError. */
  async follow(): Promise<void> {
    await this.#parts.keeper?.follow();
    for (const moving of this.#moving) await moving.follow();
  }

  /** Once nothing runs the old chains any more: brings the last entries. Throws MigrationError for those without room, which stay behind. */
  async finish(): Promise<void> {
    await this.#parts.keeper?.endMigrations();
    for (const moving of this.#moving) await moving.follow('the next pipeline runs without them: update it to one with more room');
  }

  [Symbol.dispose](): void {
    this.#held.dispose();
  }
}

function check({ name, registry }: TakeoverParts, claims: readonly MapClaim[], all: readonly Migration[], { from, to }: Migration): void {
  const old = registry.loaded(from);
  const isClaimed = (map: AnyMap): boolean => claims.some((claim) => isOne(claim.map, map));
  const refused = (problem: string, hint: string): ArgumentError => new ArgumentError(`migrate: ${problem}`, { hint });
  if (!isClaimed(to))
    throw refused(
      `map '${to.name}' is in no stage or controller of the next pipeline '${name}'`,
      'it is told by the value that hash(), lpmTrie() and the like returned',
    );
  if (all.filter((other) => isOne(other.to, to)).length > 1)
    throw refused(`map '${to.name}' is to take the entries of two`, 'leave one of the migrations out');
  if (isClaimed(from))
    throw refused(
      `map '${old.spec.name}' is in the next pipeline too`,
      'a map goes when its entries go into another: use that one everywhere',
    );
}

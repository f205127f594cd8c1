/**
 * The composition root. The platform container holds what everything shares: engine, compiler, registry, clock. Each
 * network function gets a child container of its own, with its default services, its map handles and its controller, so
 * that a function can stand in a pipeline twice and a replacement never leaks from one into another.
 */
import { ArgumentError, type Engine as BpfEngine, type EngineInstance as BpfEngineInstance } from '@tailrace/bpf';
import { type AnyFunction, type AnyResource, type ControllerRecipe, mapsIn, type Override, type Token, token } from '@tailrace/stage';
import { Container, ContainerModule, type ResolvedValueInjectOptions, type ServiceIdentifier } from 'inversify';
import type { SchedulerLike } from 'rxjs';
import { ChainError } from './chain-error.ts';
import { noStore, type MapStore as Store } from './map-store.ts';
import { EngineMapRegistry, type MapClaim, type MapHold, type MapKeeper, type MapRegistry as Registry } from './registry.ts';
import { Clock, Compiler, defaultClock, defaultCompiler, Engine, EngineInstance, GracePeriod, MapRegistry, MapStore } from './service.ts';

// Without `jitless` inversify generates code after some resolutions, which hardened Node flags forbid.
const containerOptions = { defaultScope: 'Singleton', jitless: true } as const;

/** What becomes of the functions of a pipeline. Exactly one of `settle`, `settleLate` and `abandon` ends it. */
export interface FunctionsChange {
  /** The maps that controllers ask for, by function; those that stay are among them. */
  readonly claims: readonly (readonly MapClaim[])[];
  /** Opens the maps of new controllers, then makes those. Throws as `Composition.start` does; `abandon` undoes it. */
  start(registry: Registry): void;
  /** Stops the controllers of functions that are gone, last first, and closes maps that only they had. */
  settle(): Promise<void>;
  /** As `settle`, but what is gone goes on until the pipeline stops. */
  settleLate(): void;
  /** Stops those that were made, last first. */
  abandon(): Promise<void>;
}

/** The containers of one running pipeline. */
export class Composition {
  readonly #platform = new Container(containerOptions);
  readonly #overrides: Override[];
  #keeper: MapKeeper | undefined;
  #functions: ReadonlyMap<string, FunctionContainer>;
  /** Gone, and still at work. */
  #late: readonly FunctionContainer[] = [];

  /** Binds everything and applies the overrides, before anything is resolved. Throws ArgumentError for an override of nothing. */
  constructor(engine: BpfEngine, functions: readonly AnyFunction[], overrides: readonly Override[]) {
    const platform = this.#platform;
    platform.bind(Engine).toConstantValue(engine);
    platform.bind(Compiler).toConstantValue(defaultCompiler);
    platform.bind(Clock).toConstantValue(defaultClock);
    platform.bind(MapStore).toConstantValue(noStore);
    platform
      .bind(MapRegistry)
      .toResolvedValue(
        (instance: BpfEngineInstance, clock: SchedulerLike, store: Store) =>
          new EngineMapRegistry(instance, { keeper: this.#keeper, clock, store }),
        [EngineInstance, Clock, MapStore],
      );
    platform.bind(GracePeriod).toResolvedValue((instance: BpfEngineInstance) => () => instance.gracePeriod(), [EngineInstance]);
    this.#functions = new Map(functions.map((declared) => [declared.name, new FunctionContainer(declared, platform)]));
    this.#overrides = [...overrides];
    for (const one of overrides) if (!replaceIn([...this.#functions.values()], one, platform)) throw ofNothing(one, 'this pipeline');
  }

  /** A service of the platform. */
  get<T>(service: Token<T>): T {
    return this.#platform.get(service);
  }

  /** Makes the opened engine known, and what keeps maps beyond the process. */
  bindInstance(instance: BpfEngineInstance, keeper?: MapKeeper): void {
    this.#keeper = keeper;
    this.#platform.bind(EngineInstance).toConstantValue(instance);
  }

  /** Opens the maps that controllers ask for; those of a function stay open as long as it does. */
  hold(registry: Registry): void {
    for (const own of this.#functions.values()) own.hold(registry);
  }

  /**
   * Makes every controller, in the order of their functions. Dispose of the result to stop those that there are then, last first.
   * Throws ChainError where a controller needs a service that nothing provides; those made by then are stopped.
   */
  async start(registry: Registry): Promise<AsyncDisposable> {
    await using started = new AsyncDisposableStack();
    started.defer(() => stopAll([...this.#late, ...this.#functions.values()]));
    for (const own of this.#functions.values()) own.start(registry);
    return started.move();
  }

  /**
   * Goes over to other functions: one of the same name and stages stays as it is, with its controller. Overrides of the run hold
   * for new ones too, `overrides` are for these alone. Throws ArgumentError for an override that no new function has a use for.
   */
  change(functions: readonly AnyFunction[], overrides: readonly Override[]): FunctionsChange {
    const before = this.#functions;
    const kept = ({ name, stages }: AnyFunction): FunctionContainer | undefined => {
      const known = before.get(name);
      return known?.declared.stages === stages ? known : undefined;
    };
    const after = new Map(
      functions.map((declared) => [declared.name, kept(declared) ?? new FunctionContainer(declared, this.#platform)] as const),
    );
    const made = [...after.values()].filter((own) => before.get(own.declared.name) !== own);
    const gone = [...before.values()].filter((own) => after.get(own.declared.name) !== own);
    for (const one of this.#overrides) replaceIn(made, one);
    for (const one of overrides) if (!replaceIn(made, one)) throw ofNothing(one, 'the new functions');
    return {
      claims: [...after.values()].map((own) => own.claims),
      start: (registry) => {
        for (const own of made) own.hold(registry);
        for (const own of made) own.start(registry);
      },
      settle: async () => {
        this.#functions = after;
        await endAll(gone);
      },
      settleLate: () => {
        this.#functions = after;
        this.#late = [...this.#late, ...gone];
      },
      abandon: () => endAll(made),
    };
  }

  /** The controller of a function. Throws ChainError where the pipeline has no such function. */
  controller(of: AnyFunction): unknown {
    const own = this.#functions.get(of.name);
    if (own === undefined) throw new ChainError('absent', `'${of.name}' is not in this pipeline`);
    return own.controller;
  }

  /** Lets go of everything that is bound. */
  async dispose(): Promise<void> {
    for (const own of [...this.#late, ...this.#functions.values()]) await own.dispose();
    await this.#platform.unbindAllAsync();
  }
}

/** Replaces a service wherever one of the containers binds it or lacks it. False where none does. */
function replaceIn(functions: readonly FunctionContainer[], { service, value }: Override, platform?: Container): boolean {
  const containers = [...(platform ? [platform] : []), ...functions.map((own) => own.container)];
  // rebind() of an unbound service binds it without a word, so look first
  const bound = containers.filter((container) => container.isCurrentBound(service));
  const lacking = functions.filter((own) => own.needs(service) && !own.container.isBound(service));
  for (const container of bound) container.rebind(service).toConstantValue(value);
  for (const { container } of lacking) container.bind(service).toConstantValue(value);
  return bound.length + lacking.length > 0;
}

function ofNothing({ service }: Override, where: string): ArgumentError {
  return new ArgumentError(`override of ${service.name}: nothing in ${where} uses it`, {
    hint: 'override the token that the function itself exports; two tokens of one name are two services',
  });
}

/** Stops them, and lets go of what they had bound. */
async function endAll(functions: readonly FunctionContainer[]): Promise<void> {
  await using all = new AsyncDisposableStack();
  for (const own of functions) all.defer(() => own.dispose());
  await stopAll(functions);
}

/** Stops them, the last first, each whatever becomes of the others. */
async function stopAll(functions: readonly FunctionContainer[]): Promise<void> {
  await using all = new AsyncDisposableStack();
  for (const own of functions) all.defer(() => own.stop());
}

/** A function's own container. */
class FunctionContainer {
  readonly container: Container;
  readonly declared: AnyFunction;
  readonly #identity: Token<unknown>;
  readonly #handles = new Map<AnyResource, Token<unknown>>();
  #maps: MapHold | undefined;
  #isStarted = false;

  constructor(declared: AnyFunction, parent: Container) {
    this.declared = declared;
    this.container = new Container({ ...containerOptions, parent });
    this.#identity = token(`controller of ${declared.name}`);
    if (declared.services) this.container.load(declared.services);
    if (declared.controller) this.container.load(this.#controllerModule(declared.controller));
  }

  needs(service: Override['service']): boolean {
    return Object.values(this.declared.controller?.needs ?? {}).includes(service);
  }

  /** The maps that the controller asks for. */
  get claims(): readonly MapClaim[] {
    const { name } = this.declared;
    return [...this.#handles.keys()].flatMap((resource) => mapsIn({ resource }).map((map) => ({ map, scope: name, user: name })));
  }

  /** Opens them, until the controller is stopped. */
  hold(registry: Registry): void {
    this.#maps = registry.hold(this.claims);
  }

  /** Makes the controller. */
  start(registry: Registry): void {
    for (const [resource, identity] of this.#handles) this.container.bind(identity).toConstantValue(registry.handle(resource));
    const { name, controller } = this.declared;
    for (const need of Object.values(controller?.needs ?? {})) {
      if (isResource(need) || this.container.isBound(need)) continue;
      throw new ChainError('absent', `the controller of '${name}' needs ${need.name}, which nothing provides`, {
        hint: `run(engine, { services: [override(${need.name}, …)] })`,
      });
    }
    void this.controller;
    this.#isStarted = true;
  }

  get controller(): unknown {
    return this.declared.controller && this.container.get(this.#identity);
  }

  /** Stops the controller, where there is one, and lets go of its maps. */
  async stop(): Promise<void> {
    using _maps = this.#maps;
    this.#maps = undefined;
    if (!this.#isStarted) return;
    this.#isStarted = false;
    await stop(this.controller);
  }

  /** Lets go of everything that is bound. */
  async dispose(): Promise<void> {
    await this.container.unbindAllAsync();
  }

  #controllerModule({ needs, create }: ControllerRecipe): ContainerModule {
    const names = Object.keys(needs);
    const identifiers = Object.values(needs).map((need): ServiceIdentifier => (isResource(need) ? this.#handleOf(need) : need));
    // toResolvedValue is positional, controllers see names: this is the one place that turns one into the other
    return new ContainerModule(({ bind }) => {
      bind(this.#identity).toResolvedValue(
        (...values: unknown[]) => create(Object.fromEntries(names.map((name, i) => [name, values[i]]))),
        identifiers as ResolvedValueInjectOptions<unknown>[],
      );
    });
  }

  #handleOf(resource: AnyResource): Token<unknown> {
    const identity = this.#handles.get(resource) ?? token(`handle of ${resource.name}`);
    this.#handles.set(resource, identity);
    return identity;
  }
}

function isResource(need: ControllerRecipe['needs'][string]): need is AnyResource {
  return typeof need === 'object';
}

async function stop(controller: unknown): Promise<void> {
  if (typeof controller !== 'object' || controller === null) return;
  if (Symbol.asyncDispose in controller) await (controller as AsyncDisposable)[Symbol.asyncDispose]();
  else if (Symbol.dispose in controller) (controller as Disposable)[Symbol.dispose]();
}

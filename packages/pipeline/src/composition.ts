/**
 * The composition root. The platform container holds what everything shares: engine, compiler, registry, clock. Each
 * network function gets a child container of its own, with its default services, its map handles and its controller, so
 * that a function can stand in a pipeline twice and a replacement never leaks from one into another.
 */
import { ArgumentError, type Engine as BpfEngine, type EngineInstance as BpfEngineInstance } from '@tailrace/bpf';
import { type AnyFunction, type AnyResource, type ControllerRecipe, mapsIn, type Override, type Token, token } from '@tailrace/stage';
import { Container, ContainerModule, type ResolvedValueInjectOptions, type ServiceIdentifier } from 'inversify';
import { ChainError } from './chain-error.ts';
import { EngineMapRegistry, type MapClaim, type MapRegistry as Registry } from './registry.ts';
import { Clock, Compiler, defaultClock, defaultCompiler, Engine, EngineInstance, GracePeriod, MapRegistry } from './service.ts';

// Without `jitless` inversify generates code after some resolutions, which hardened Node flags forbid.
const containerOptions = { defaultScope: 'Singleton', jitless: true } as const;

/** The containers of one running pipeline. */
export class Composition {
  readonly #platform = new Container(containerOptions);
  readonly #functions = new Map<string, FunctionContainer>();

  /** Binds everything and applies the overrides, before anything is resolved. Throws ArgumentError for an override of nothing. */
  constructor(engine: BpfEngine, functions: readonly AnyFunction[], overrides: readonly Override[]) {
    const platform = this.#platform;
    platform.bind(Engine).toConstantValue(engine);
    platform.bind(Compiler).toConstantValue(defaultCompiler);
    platform.bind(Clock).toConstantValue(defaultClock);
    platform.bind(MapRegistry).toResolvedValue((instance: BpfEngineInstance) => new EngineMapRegistry(instance), [EngineInstance]);
    platform.bind(GracePeriod).toResolvedValue((instance: BpfEngineInstance) => () => instance.gracePeriod(), [EngineInstance]);
    for (const declared of functions) this.#functions.set(declared.name, new FunctionContainer(declared, platform));
    for (const { service, value } of overrides) this.#override(service, value);
  }

  /** A service of the platform. */
  get<T>(service: Token<T>): T {
    return this.#platform.get(service);
  }

  /** Makes the opened engine known. */
  bindInstance(instance: BpfEngineInstance): void {
    this.#platform.bind(EngineInstance).toConstantValue(instance);
  }

  /** The maps that controllers ask for. */
  get claims(): readonly MapClaim[] {
    return [...this.#functions.values()].flatMap((own) => own.claims);
  }

  /**
   * Makes every controller, in the order of their functions. Dispose of the result to stop them, last first.
   * Throws ChainError where a controller needs a service that nothing provides; those made by then are stopped.
   */
  async start(registry: Registry): Promise<AsyncDisposable> {
    await using started = new AsyncDisposableStack();
    for (const own of this.#functions.values()) {
      const controller = own.start(registry);
      started.defer(() => stop(controller));
    }
    return started.move();
  }

  /** The controller of a function. Throws ChainError where the pipeline has no such function. */
  controller(of: AnyFunction): unknown {
    const own = this.#functions.get(of.name);
    if (own === undefined) throw new ChainError('absent', `'${of.name}' is not in this pipeline`);
    return own.controller;
  }

  /** Lets go of everything that is bound. */
  async dispose(): Promise<void> {
    for (const own of this.#functions.values()) await own.container.unbindAllAsync();
    await this.#platform.unbindAllAsync();
  }

  #override(service: Override['service'], value: unknown): void {
    const functions = [...this.#functions.values()];
    // rebind() of an unbound service binds it without a word, so look first
    const bound = [this.#platform, ...functions.map((own) => own.container)].filter((c) => c.isCurrentBound(service));
    const lacking = functions.filter((own) => own.needs(service) && !own.container.isBound(service));
    if (bound.length + lacking.length === 0)
      throw new ArgumentError(`override of ${service.name}: nothing in this pipeline uses it`, {
        hint: 'override the token that the function itself exports; two tokens of one name are two services',
      });
    for (const container of bound) container.rebind(service).toConstantValue(value);
    for (const { container } of lacking) container.bind(service).toConstantValue(value);
  }
}

/** A function's own container. */
class FunctionContainer {
  readonly container: Container;
  readonly #declared: AnyFunction;
  readonly #identity: Token<unknown>;
  readonly #handles = new Map<AnyResource, Token<unknown>>();

  constructor(declared: AnyFunction, parent: Container) {
    this.#declared = declared;
    this.container = new Container({ ...containerOptions, parent });
    this.#identity = token(`controller of ${declared.name}`);
    if (declared.services) this.container.load(declared.services);
    if (declared.controller) this.container.load(this.#controllerModule(declared.controller));
  }

  get claims(): readonly MapClaim[] {
    const { name } = this.#declared;
    return [...this.#handles.keys()].flatMap((resource) => mapsIn({ resource }).map((map) => ({ map, scope: name, user: name })));
  }

  needs(service: Override['service']): boolean {
    return Object.values(this.#declared.controller?.needs ?? {}).includes(service);
  }

  start(registry: Registry): unknown {
    for (const [resource, identity] of this.#handles) this.container.bind(identity).toConstantValue(registry.handle(resource));
    const { name, controller } = this.#declared;
    for (const need of Object.values(controller?.needs ?? {})) {
      if (isResource(need) || this.container.isBound(need)) continue;
      throw new ChainError('absent', `the controller of '${name}' needs ${need.name}, which nothing provides`, {
        hint: `run(engine, { services: [override(${need.name}, …)] })`,
      });
    }
    return this.controller;
  }

  get controller(): unknown {
    return this.#declared.controller && this.container.get(this.#identity);
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

/**
 * The services that a pipeline is made of, by token. A user replaces one with `override(token, value)` in the options of
 * `run()`; a network function's controller may ask for any of them.
 */
import type { Engine as BpfEngine, EngineInstance as BpfEngineInstance } from '@tailrace/bpf';
import { type compileFused, compileRoot, type compileStage, outcomesOf } from '@tailrace/compiler';
import { token } from '@tailrace/stage';
import { asyncScheduler, type SchedulerLike } from 'rxjs';
import { compileFusedOnce, compileOnce } from './compiled-stages.ts';
import type { MapStore as Store } from './map-store.ts';
import type { MapRegistry as Registry } from './registry.ts';

/** What runs the pipeline: what was handed to `run()`. */
export const Engine = token<BpfEngine>('Engine');

/** The opened engine. Made by `Engine`; to replace it, replace that. */
export const EngineInstance = token<BpfEngineInstance>('EngineInstance');

/**
 * Resolves once no CPU runs a program that started before the call: what controllers wait for before they take out what
 * programs may still be at work on. About 15 ms in the kernel, off the main thread.
 */
export type GracePeriod = () => Promise<void>;
/** The engine's grace period. */
export const GracePeriod = token<GracePeriod>('GracePeriod');

/** Is told of maps. */
export type MapStore = Store;
/** Sees maps as they come and go: to restore, keep or log what they hold. Default: nobody. */
export const MapStore = token<Store>('MapStore');

/** Makes and shares maps. */
export type MapRegistry = Registry;
/** All of the registry; see MapStore for what most want to replace. */
export const MapRegistry = token<Registry>('MapRegistry');

/** From stages to programs. */
export interface StageCompiler {
  readonly compileStage: typeof compileStage;
  readonly compileFused: typeof compileFused;
  readonly compileRoot: typeof compileRoot;
  readonly outcomesOf: typeof outcomesOf;
}
/** The compiler. */
export const Compiler = token<StageCompiler>('Compiler');
/** The compiler of @tailrace/compiler; it compiles a stage at a place once. */
export const defaultCompiler: StageCompiler = { compileStage: compileOnce, compileFused: compileFusedOnce, compileRoot, outcomesOf };

/** Time, as RxJS takes it. */
export type Clock = SchedulerLike;
/** What streams, controllers and health checks go by: `interval(1000, clock)`, `clock.now()`. A VirtualTimeScheduler makes a fake clock. */
export const Clock = token<SchedulerLike>('Clock');
/** Real time. */
export const defaultClock: SchedulerLike = asyncScheduler;

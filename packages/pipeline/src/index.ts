/** Chains, the map registry, hot swap, stats: what makes a running pipeline of stages and functions. */

export type { CanaryOptions } from './canary.ts';
export type { CanaryDescription } from './canary-description.ts';
export { type CanaryPicture, type StatsByHook, trafficText } from './canary-picture.ts';
export type { RunResult, SocketRedirect } from './chain.ts';
export { ChainError, type ChainProblem } from './chain-error.ts';
export { type ChainHook, type ChainVerdict, chainHooks, hookTitle } from './chain-hook.ts';
export { type CompiledProgram, IMPORT_PLACE, ROOT_PLACE } from './compiled-program.ts';
export type { ChainCost } from './cost.ts';
export type { ChainDescription, EdgeDescription, PipelineDescription, StageDescription } from './description.ts';
export type { Injected, InjectedStep, InjectOptions, PacketSource } from './injection.ts';
export { forgetKept, type KeptPipeline, type KeptPipelineAge, type KeptPipelineMap, keptPipelines, stopKept } from './kept.ts';
export { ManifestError } from './manifest.ts';
export type { MigrationProgress } from './map-migration.ts';
export type { StoredMap } from './map-store.ts';
export { MemoryRing } from './memory-ring.ts';
export {
  type Convert,
  type EntryOf,
  type MigratableMap,
  type Migration,
  MigrationError,
  type MigrationProblem,
  migrate,
  type NewEntryOf,
} from './migration.ts';
export type { ObserveOptions, TellOptions } from './observation.ts';
export type { Drop } from './observed-packets.ts';
export type { PathStep } from './path.ts';
export { drawChain, drawPipeline, type PictureOptions, type PipelinePictureOptions } from './picture.ts';
export { type Pipeline, type PipelineOptions, pipeline, type RunOptions } from './pipeline.ts';
export type { PipelineEvent } from './pipeline-events.ts';
export { MAX_TAIL_CALLS } from './plan.ts';
export { EngineMapRegistry, type MapClaim, type MapHold } from './registry.ts';
export type { ReplayTotals } from './replay.ts';
export type { DropOf, Running, TestPacket, TracedPathOf } from './running.ts';
export type { Canary, CanaryStats } from './running-canary.ts';
export type { CanaryTraffic } from './selector.ts';
export { Clock, Compiler, Engine, GracePeriod, MapRegistry, MapStore, type StageCompiler } from './service.ts';
export { SnapshotError } from './snapshot-file.ts';
export type { ChainStats, Lost, RootStats, StageStats, Stats, VerdictsOf } from './stats.ts';
export { drawSvg, type SvgOptions } from './svg.ts';
export type { TracedPath, TracedStep } from './trace.ts';
export type { UpdateOptions } from './update.ts';
export type { SeenPacket } from './way-out.ts';

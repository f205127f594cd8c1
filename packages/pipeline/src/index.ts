/** Chains, the map registry, hot swap, stats: what makes a running pipeline of stages and functions. */
export type { RunResult } from './chain.ts';
export { ChainError, type ChainProblem } from './chain-error.ts';
export { type ChainHook, type ChainVerdict, chainHooks, hookTitle } from './chain-hook.ts';
export { type CompiledProgram, IMPORT_PLACE, ROOT_PLACE } from './compiled-program.ts';
export type { ChainDescription, EdgeDescription, PipelineDescription, StageDescription } from './description.ts';
export type { Injected, InjectedStep, InjectOptions, PacketSource } from './injection.ts';
export { MemoryRing } from './memory-ring.ts';
export type { PathStep } from './path.ts';
export { drawChain, drawPipeline, type PictureOptions, type PipelinePictureOptions } from './picture.ts';
export { type Pipeline, type PipelineOptions, pipeline, type RunOptions } from './pipeline.ts';
export { MAX_TAIL_CALLS } from './plan.ts';
export { EngineMapRegistry, type MapClaim, type MapHold } from './registry.ts';
export type { ReplayTotals } from './replay.ts';
export type { Running, TestPacket } from './running.ts';
export { Clock, Compiler, Engine, GracePeriod, MapRegistry, type StageCompiler } from './service.ts';
export type { ChainStats, RootStats, StageStats, Stats, VerdictsOf } from './stats.ts';
export { drawSvg, type SvgOptions } from './svg.ts';
export type { UpdateOptions } from './update.ts';

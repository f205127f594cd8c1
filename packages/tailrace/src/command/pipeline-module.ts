/**
 * The module that a user names: importing it, and finding the pipeline and the services among its exports. They may be made
 * by another copy of these packages than ours, so they are known by their shape.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ArgumentError } from '@tailrace/bpf';
import type { ChainHook, Pipeline } from '@tailrace/pipeline';
import type { AnyStage, Override } from '@tailrace/stage';
import { isTailraceError } from './typed-error.ts';

/** Names of stages that the types know nothing about. Chains may be missing at run time. */
export type AnyLayout = Readonly<Record<ChainHook, string>>;
/** A pipeline that the types know nothing about. */
export type AnyPipeline = Pipeline<string, AnyLayout>;

/** What a module holds. */
export interface PipelineModule {
  readonly pipeline: AnyPipeline;
  /** What its export `services` replaces. */
  readonly services: readonly Override[];
  /** Who goes through it first, where it is a canary: its export `canary`, stages that let such packets out through `canary`. */
  readonly canary: readonly AnyStage[];
}

/** A module could not be imported; `cause` is what it threw. */
export class ImportError extends ArgumentError {}

/**
 * Imports a module (a path, from the working directory) and takes its pipeline. Throws ArgumentError, ImportError, and what
 * these packages throw while the module is evaluated.
 */
export async function importPipeline(file: string): Promise<PipelineModule> {
  const path = resolve(file);
  if (!existsSync(path)) throw new ArgumentError(`there is no file ${file}`, { hint: `looked for ${path}` });
  let exports: Readonly<Record<string, unknown>>;
  try {
    exports = (await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    if (isTailraceError(error)) throw error;
    throw new ImportError(`${file} cannot be imported`, { cause: error });
  }
  return { pipeline: choosePipeline(exports, file), services: servicesIn(exports, file), canary: canaryIn(exports, file) };
}

/** The pipeline among a module's exports: the default one, or the only one. Throws ArgumentError that names the candidates. */
export function choosePipeline(exports: Readonly<Record<string, unknown>>, file: string): AnyPipeline {
  if (isPipeline(exports.default)) return exports.default;
  const candidates = Object.entries(exports).flatMap(([name, value]) => (isPipeline(value) ? [{ name, value }] : []));
  const [first] = candidates;
  if (first === undefined) {
    const names = Object.keys(exports);
    throw new ArgumentError(`${file} exports no pipeline, ${names.length === 0 ? 'it exports nothing' : `only ${names.join(', ')}`}`, {
      hint: "export default pipeline('edge', { xdp: […] })",
    });
  }
  if (candidates.every(({ value }) => value === first.value)) return first.value;
  throw new ArgumentError(`${file} exports several pipelines: ${candidates.map(({ name }) => name).join(', ')}`, {
    hint: 'make one of them the default export',
  });
}

/** The replacements that a module exports as `services`. Throws ArgumentError for anything else of that name. */
export function servicesIn({ services }: Readonly<Record<string, unknown>>, file: string): readonly Override[] {
  if (services === undefined) return [];
  if (Array.isArray(services) && services.every(isOverride)) return services;
  throw new ArgumentError(`${file} exports services that are no list of replacements`, {
    hint: 'export const services = [override(TOKEN, value)]',
  });
}

/** The stages that a module exports as `canary`. Throws ArgumentError for anything else of that name. */
export function canaryIn({ canary }: Readonly<Record<string, unknown>>, file: string): readonly AnyStage[] {
  const stages = canary === undefined ? [] : [canary].flat();
  if (stages.every(isStage)) return stages;
  throw new ArgumentError(`${file} exports a canary that is no stage, and no list of them`, {
    hint: "export const canary = stage({ … ctx.exit('canary') … })",
  });
}

function isStage(value: unknown): value is AnyStage {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'stage';
}

function isPipeline(value: unknown): value is AnyPipeline {
  if (typeof value !== 'object' || value === null) return false;
  const { name, chains, run, describe, compile } = value as Readonly<Record<string, unknown>>;
  return typeof name === 'string' && typeof chains === 'object' && [run, describe, compile].every((method) => typeof method === 'function');
}

function isOverride(value: unknown): value is Override {
  return typeof value === 'object' && value !== null && 'service' in value && 'value' in value;
}

/** Pipelines that outlive their processes, from outside: which there are, and how they are ended by name. */
import { ArgumentError, type PinFolder, type PinnedPlace, type PinningInstance } from '@tailrace/bpf';
import type { ChainHook } from './chain-hook.ts';
import { beforeName, type Manifest, ManifestError, manifestText, parseManifest, pinsOfMap } from './manifest.ts';

/** A pipeline that is pinned. */
export interface KeptPipeline {
  readonly name: string;
  /** The process that runs it; undefined where none does, or none that can be seen from here. */
  readonly owner: number | undefined;
  /** Why nothing more is known of it: another version wrote it. It can be stopped. */
  readonly problem: string | undefined;
  /** Undefined where a process died before all was there. */
  readonly age: KeptPipelineAge | undefined;
  /** What it is attached to. */
  readonly links: readonly PinnedPlace[];
  /** In the order in which packets meet them; none where a process died before all was there. */
  readonly hooks: readonly ChainHook[];
  readonly maps: readonly KeptPipelineMap[];
}

/** Since when it is there, by the clock of the host. */
export interface KeptPipelineAge {
  /** It was run first. */
  readonly began: Date;
  /** Its chains were led over last, by a change or by a process that took it over. */
  readonly changed: Date;
  /** How often they were, counted from 1. */
  readonly generation: number;
}

/** A map of it. */
export interface KeptPipelineMap {
  readonly name: string;
  readonly type: string;
  readonly maxEntries: number;
  /** How many it holds now; undefined for kinds whose entries are always there or are none, and where they change too fast to be counted. */
  readonly entries: number | undefined;
  /** A stage or controller uses it. */
  readonly used: boolean;
}

/** What is pinned. Throws what the engine throws. */
export function keptPipelines({ pins }: PinningInstance): readonly KeptPipeline[] {
  return pins.list().map(({ name, owner, links }) => {
    const { manifest, problem } = readManifest(name, pins.read(name));
    const maps = [...(manifest?.maps ?? [])].map(
      ([
        map,
        {
          pin,
          declaration: { type, maxEntries },
          used,
        },
      ]) => ({ name: map, type, maxEntries, entries: pins.count(name, pin), used }),
    );
    const age = manifest && { ...manifest.age, began: new Date(manifest.age.began), changed: new Date(manifest.age.changed) };
    return { name, owner, problem, age, links, hooks: [...(manifest?.chains.keys() ?? [])], maps };
  });
}

/**
 * Takes a pipeline that no process runs off its interfaces, and deletes all that it holds. Throws ArgumentError where there is none
 * of that name, and TailraceError (`conflict`) naming the process that runs it.
 */
export async function stopKept(instance: PinningInstance, name: string): Promise<void> {
  const folder = take(instance, name);
  try {
    await folder.destroy();
  } finally {
    folder.release();
  }
}

/**
 * Deletes a map of a pipeline that no process runs. With it goes what is
 * still to be taken over into it. Throws as `stopKept`, and ArgumentError for other maps.
 */
export function forgetKept(instance: PinningInstance, name: string, map: string): void {
  const folder = take(instance, name);
  try {
    const text = folder.read();
    const manifest = text === undefined ? undefined : parseManifest(name, text);
    const kept = manifest?.maps.get(map);
    if (manifest === undefined || kept === undefined) throw new ArgumentError(`pipeline '${name}' has no map '${map}'`, hintOf(manifest));
    if (kept.leaves?.flipped === false)
      throw new ArgumentError(`pipeline '${name}' may need map '${map}': a process died while it took its entries over`, {
        hint: 'run the pipeline, which tells and goes on with it',
      });
    const gone = [map, beforeName(map)];
    folder.write(manifestText({ ...manifest, maps: new Map([...manifest.maps].filter(([other]) => !gone.includes(other))) }));
    for (const one of gone) for (const pin of pinsOf(manifest, one)) folder.remove(pin);
  } finally {
    folder.release();
  }
}

/** One that cannot be read hides no other. */
function readManifest(name: string, text: string | undefined): { readonly manifest?: Manifest; readonly problem?: string } {
  if (text === undefined) return {};
  try {
    return { manifest: parseManifest(name, text) };
  } catch (error) {
    if (error instanceof ManifestError) return { problem: error.problem };
    throw error;
  }
}

function take({ pins }: PinningInstance, name: string): PinFolder {
  const names = pins.list().map((pinned) => pinned.name);
  if (names.includes(name)) return pins.take(name);
  throw new ArgumentError(`no pipeline '${name}' is pinned`, {
    hint: names.length > 0 ? `there are ${names.join(', ')}` : 'none is: run one with persist',
  });
}

function pinsOf({ maps }: Manifest, map: string): readonly string[] {
  const kept = maps.get(map);
  return kept ? pinsOfMap(kept) : [];
}

function hintOf(manifest: Manifest | undefined): { readonly hint: string } {
  const names = [...(manifest?.maps.keys() ?? [])];
  return { hint: names.length > 0 ? `it has ${names.join(', ')}` : 'it has none' };
}

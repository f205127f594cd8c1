/** What a process finds pinned of a pipeline, and whether it can go on with it. */
import { createHash } from 'node:crypto';
import { encode, type PinFolder, type ProgramSpec } from '@tailrace/bpf';
import { ConflictError } from '@tailrace/stage';
import { entrySpec } from './chain-blueprint.ts';
import { ChainError } from './chain-error.ts';
import type { ChainHook } from './chain-hook.ts';
import { type Manifest, mapsLeft, parseManifest, pinsOfMap } from './manifest.ts';
import type { MigrationProgress } from './map-migration.ts';
import type { Migration } from './migration.ts';

/** What a pipeline is to run with. */
export interface KeptOptions {
  /** The pipeline's name. */
  readonly name: string;
  readonly roots: ReadonlyMap<ChainHook, ProgramSpec>;
  /** For maps that are pinned otherwise than they are declared. */
  readonly migrations: readonly Migration[];
  readonly onMigration?: ((progress: MigrationProgress) => void) | undefined;
}

/** The pin of a chain's map that there is one of. */
export function ownPin(name: string): string {
  return `own:${name}`;
}

/** The pin of a chain's root. */
export function rootPin(hook: ChainHook): string {
  return `root:${hook}`;
}

/** Tells the code of a root from that of others. */
export function rootDigest({ type, frags, instructions, mapReferences }: ProgramSpec): string {
  const hash = createHash('sha256').update(encode(instructions));
  return hash.update(JSON.stringify({ type, frags, mapReferences })).digest('hex');
}

/**
 * Reads what was left, and removes maps and roots that a process that died had half made; undefined where nothing is left that counts. Throws
 * ManifestError, ConflictError for pins of another namespace, ChainError for other hooks.
 */
export function findKept(folder: PinFolder, options: KeptOptions): Manifest | undefined {
  const text = folder.read();
  if (text === undefined) return undefined;
  const manifest = parseManifest(options.name, text);
  checkFound(manifest, options, folder.place);
  const found = { ...manifest, maps: mapsLeft(manifest.maps, isFlipped(manifest, options, folder)) };
  const known = new Set([...[...found.maps.values()].flatMap(pinsOfMap), ...[...found.chains.keys()].map(rootPin)]);
  for (const pin of folder.list()) if (/^(?:map|root):/.test(pin) && !known.has(pin)) folder.remove(pin);
  return found;
}

function checkFound({ place, chains }: Manifest, { name, roots }: KeptOptions, here: string): void {
  if (place !== here)
    throw new ConflictError(
      `pipeline '${name}' is pinned elsewhere`,
      [{ field: 'network namespace', ours: here, theirs: place }],
      `run it there, or remove it with all state: tailrace stop ${name}`,
    );
  const [ours, theirs] = [[...roots.keys()], [...chains.keys()]];
  if (ours.join() !== theirs.join())
    throw new ChainError('hook', `pipeline '${name}' is pinned at ${theirs.join(', ')}, and cannot be run at ${ours.join(', ')}`, {
      hint: `give it another name, or remove it with all state: tailrace stop ${name}`,
    });
}

/** Whether packets were led to what was announced, in any chain. */
function isFlipped({ chains }: Manifest, { name, roots }: KeptOptions, folder: PinFolder): boolean {
  return [...chains].some(([hook, { head }]) => {
    const root = roots.get(hook);
    if (head === undefined || root === undefined) return false;
    const spec = entrySpec(`${name}/${hook}`);
    return folder.programAt(folder.openMap(ownPin(spec.name), spec), 0, root)?.id !== head;
  });
}

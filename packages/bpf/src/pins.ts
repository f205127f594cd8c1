/**
 * What an engine keeps of a pipeline beyond its process: maps, programs and links under names, in a folder that one process has
 * at a time. The pipeline package says what is kept there; this is how.
 */
import type { AttachHook, Attachment, EngineInstance, LoadedMap, LoadedProgram } from './engine.ts';
import type { MapSpec } from './map.ts';
import type { ProgramSpec } from './program.ts';

/** An opened engine that keeps pipelines beyond its process. What is pinned stays when it is closed. */
export interface PinningInstance extends EngineInstance {
  readonly pins: PinStore;
}

/** Whether an engine can pin. */
export function canPin(instance: EngineInstance): instance is PinningInstance {
  return 'pins' in instance;
}

/** The folders of an engine. */
export interface PinStore {
  /** Every pipeline that has one, by name. */
  list(): readonly PinnedPipeline[];
  /** What a folder's owner wrote; undefined where there is nothing. It may be replaced the moment after. */
  read(name: string): string | undefined;
  /**
   * How many entries a map holds that is pinned in a folder; undefined where none is, for kinds whose entries are always there or
   * are none, and where they come and go faster than they can be read. Throws SyscallError.
   */
  count(name: string, pin: string): number | undefined;
  /**
   * Takes a folder, and makes it where there is none. Throws TailraceError (`conflict`) naming the process that has it,
   * UnsupportedError with what to do where there is no place for pins, SyscallError.
   */
  take(name: string): PinFolder;
}

/** A pipeline that is pinned. */
export interface PinnedPipeline {
  readonly name: string;
  /** The process that has it; undefined where none has, or none that can be seen from here. */
  readonly owner: number | undefined;
  /** Where its links are. */
  readonly links: readonly PinnedPlace[];
}

/** Where a pinned link is. */
export interface PinnedPlace {
  readonly hook: AttachHook;
  readonly interface: string;
}

/**
 * The pins of one pipeline. What is opened is closed with the engine; pins stay until they are removed. Methods throw
 * SyscallError beside what they say.
 */
export interface PinFolder {
  /** Tells one network namespace, where pinned links are, from another. */
  readonly place: string;
  /** The text that was written last; undefined where none was. */
  read(): string | undefined;
  /** Replaces the text in one step: whoever reads, and whatever happens, finds the old one or the new. */
  write(text: string): void;
  /** The names of pinned maps and programs, sorted. */
  list(): readonly string[];
  /** Pins a map of this engine. */
  pinMap(name: string, map: LoadedMap): void;
  /** Opens a pinned map. Throws TailraceError (`conflict`) where it is not like its spec. */
  openMap(name: string, spec: MapSpec): LoadedMap;
  /** Pins a program of this engine; it takes the name from another in one step. */
  pinProgram(name: string, program: LoadedProgram): void;
  /** Opens a pinned program, whose spec the caller knows. */
  openProgram(name: string, spec: ProgramSpec): LoadedProgram;
  /** What a slot of a program array leads to; undefined where it is empty. `spec` is the caller's word for it. */
  programAt(array: LoadedMap, slot: number, spec: ProgramSpec): LoadedProgram | undefined;
  /** Takes away a map's or program's pin. False where there was none. */
  remove(name: string): boolean;
  /**
   * Attaches a program to every interface of the engine by links that are pinned, or to none. A link that is there already is led
   * to the program in one step: no packet goes by. Detaching undoes just what was done here.
   */
  attach(program: LoadedProgram, hook: AttachHook): Promise<Attachment>;
  /** Where pinned links are. */
  links(): readonly PinnedPlace[];
  /** Takes a pinned link off. */
  detach(place: PinnedPlace): Promise<void>;
  /** Removes the text, then all links, then all else. A process that dies in between leaves what the next `clear` removes. */
  clear(): Promise<void>;
  /** As `clear`, and the folder, which is nobody's then. */
  destroy(): Promise<void>;
  /** Lets others have the folder; one that is empty goes. Idempotent; nothing else may be called then. */
  release(): void;
}

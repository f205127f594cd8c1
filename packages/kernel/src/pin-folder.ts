/**
 * The pins of one pipeline, in a folder that one process has at a time: its maps, its roots, its links, and a text that says what
 * they are. Nothing goes from there unless it is said: not when an object is closed, not when the process ends.
 */
import { dirname } from 'node:path';
import {
  ArgumentError,
  type AttachHook,
  type LoadedMap,
  type LoadedProgram,
  type MapSpec,
  type PinFolder,
  type PinnedPlace,
  type ProgramSpec,
  specOnHost,
} from '@tailrace/bpf';
import { closeOnError, objectId } from './bpf.ts';
import type { Descriptor } from './descriptor.ts';
import type { InterfaceInfo } from './interface.ts';
import type { AttachedMode, KernelAttachment, MadeLink } from './link.ts';
import { KernelMap, type MapContext } from './map.ts';
import { exchangePin, openPin, pinFd, pinFile, pinsIn, removeIfEmpty, removePin } from './pin.ts';
import { readLink, removeLink, updateLink } from './pinned-link.ts';
import { checkPinnedMap } from './pinned-map.ts';
import { readPinnedText, TEXT_FILE, writePinnedText } from './pinned-text.ts';
import { KernelProgram, openProgramById } from './program.ts';
import { closeFd } from './syscall.ts';

/** What a folder needs of its engine. */
export interface PinContext {
  readonly map: MapContext;
  readonly interfaces: readonly InterfaceInfo[];
  /** The interfaces' namespace. */
  readonly place: string;
  /** Makes a link that nobody keeps yet. */
  createLink(program: KernelProgram, hook: AttachHook, name: string): Promise<MadeLink>;
  /** Closes it with the engine. */
  keep<T extends KernelMap | KernelProgram>(object: T): T;
  /** A program that was opened and not loaded. */
  program(spec: ProgramSpec, fd: number, id: number): KernelProgram;
}

/** Names of their own kind: no map or program has one. */
const linkPrefix = 'link:';
const objectPrefix = 'object:';
const hooks: readonly AttachHook[] = ['xdp', 'tcIngress', 'tcEgress'];

/** A folder of pins that this process has. */
export class KernelPinFolder implements PinFolder {
  readonly place: string;
  readonly #path: string;
  readonly #lock: Descriptor;
  readonly #context: PinContext;

  constructor(path: string, lock: Descriptor, context: PinContext) {
    this.place = context.place;
    this.#path = path;
    this.#lock = lock;
    this.#context = context;
  }

  read(): string | undefined {
    return readPinnedText(this.#at(TEXT_FILE));
  }

  write(content: string): void {
    writePinnedText(this.#at(TEXT_FILE), content);
  }

  list(): readonly string[] {
    return this.#pins(objectPrefix);
  }

  pinMap(name: string, map: LoadedMap): void {
    if (!(map instanceof KernelMap)) throw new ArgumentError(`map ${map.spec.name} was not made by the kernel engine`);
    pinFd(map.fd, this.#object(name), `map ${map.spec.name}`);
  }

  openMap(name: string, given: MapSpec): KernelMap {
    const path = this.#object(name);
    const spec = specOnHost(given, this.#context.map.cpus);
    return this.#context.keep(
      closeOnError(openPin(path), (fd) => {
        checkPinnedMap(fd, spec, path);
        return new KernelMap(spec, fd, objectId(fd, path), this.#context.map);
      }),
    );
  }

  pinProgram(name: string, program: LoadedProgram): void {
    const path = this.#object(name);
    const next = this.#object(`${name}:next`);
    removePin(next);
    pinFd(kernelProgram(program).fd, next, `program ${program.spec.name}`);
    exchangePin(next, path);
  }

  openProgram(name: string, spec: ProgramSpec): KernelProgram {
    const path = this.#object(name);
    return this.#context.keep(closeOnError(openPin(path), (fd) => this.#context.program(spec, fd, objectId(fd, path))));
  }

  programAt(array: LoadedMap, slot: number, spec: ProgramSpec): KernelProgram | undefined {
    const key = new Uint8Array(4);
    new DataView(key.buffer).setUint32(0, slot, true);
    const id = array.lookup(key);
    return id && this.#programById(new DataView(id.buffer, id.byteOffset).getUint32(0, true), spec);
  }

  remove(name: string): boolean {
    return removePin(this.#object(name));
  }

  async attach(attached: LoadedProgram, hook: AttachHook): Promise<KernelAttachment> {
    const program = kernelProgram(attached);
    const modes = new Map<string, AttachedMode>();
    await using undo = new AsyncDisposableStack();
    for (const info of this.#context.interfaces) {
      const path = this.#link({ hook, interface: info.name });
      const found = readLink(path);
      if (found?.ifindex === info.index) {
        modes.set(info.name, hook === 'xdp' ? xdpMode(info) : 'tcx');
        if (found.programId === program.id) continue;
        const old = this.#programById(found.programId, program.spec);
        updateLink(path, program);
        undo.defer(() => updateLink(path, old));
      } else {
        // its interface is gone, or another has its name now
        if (found) await removeLink(path);
        modes.set(info.name, await this.#makeLink(program, hook, info.name, path));
        undo.defer(() => removeLink(path));
      }
    }
    const done = undo.move();
    return { interfaces: [...modes.keys()], modes, detach: () => done.disposeAsync() };
  }

  links(): readonly PinnedPlace[] {
    this.#checkHeld();
    return linksIn(this.#path);
  }

  async detach(place: PinnedPlace): Promise<void> {
    await removeLink(this.#link(place));
  }

  async clear(): Promise<void> {
    removePin(this.#at(TEXT_FILE));
    for (const place of this.links()) await this.detach(place);
    for (const name of this.#all()) removePin(this.#at(name));
  }

  async destroy(): Promise<void> {
    await this.clear();
    this.release();
  }

  release(): void {
    if (this.#lock.closed) return;
    try {
      // while it is locked: nobody else has begun to fill it
      removeIfEmpty(this.#path);
      removeIfEmpty(dirname(this.#path));
    } finally {
      this.#lock.close();
    }
  }

  async #makeLink(program: KernelProgram, hook: AttachHook, name: string, path: string): Promise<AttachedMode> {
    const { fd, mode } = await this.#context.createLink(program, hook, name);
    try {
      pinFd(fd, path, `the link of ${program.spec.name}`);
    } finally {
      // the pin holds it from here on
      closeFd(fd);
    }
    return mode;
  }

  #programById(id: number, spec: ProgramSpec): KernelProgram {
    return this.#context.keep(closeOnError(openProgramById(id), (fd) => this.#context.program(spec, fd, id)));
  }

  #pins(prefix: string): readonly string[] {
    return this.#all().flatMap((name) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : []));
  }

  #all(): readonly string[] {
    this.#checkHeld();
    return pinsIn(this.#path);
  }

  #object(name: string): string {
    this.#checkHeld();
    return `${this.#path}/${objectFile(name)}`;
  }

  #link({ hook, interface: name }: PinnedPlace): string {
    return this.#at(`${linkPrefix}${hook}:${name}`);
  }

  #at(name: string): string {
    this.#checkHeld();
    return `${this.#path}/${pinFile(name)}`;
  }

  /** Nothing is done to a folder that may be another process's by now. */
  #checkHeld(): void {
    if (this.#lock.closed) throw new ArgumentError(`the pins at ${this.#path} were let go`);
  }
}

/** The file of a pinned map or program. */
export function objectFile(name: string): string {
  return pinFile(`${objectPrefix}${name}`);
}

/** Where the links are that are pinned in a folder. */
export function linksIn(path: string): readonly PinnedPlace[] {
  return pinsIn(path).flatMap((name) => {
    const [, hook, at] = /^link:(\w+):(.+)$/.exec(name) ?? [];
    const known = hooks.find((one) => one === hook);
    return known === undefined || at === undefined ? [] : [{ hook: known, interface: at }];
  });
}

function kernelProgram(program: LoadedProgram): KernelProgram {
  if (program instanceof KernelProgram) return program;
  throw new ArgumentError(`program ${program.spec.name} was not loaded by the kernel engine`);
}

function xdpMode({ xdp }: InterfaceInfo): AttachedMode {
  return xdp.some(({ mode }) => mode === 'generic') ? 'generic' : 'native';
}

/**
 * TC: attaching a program to one hook of interfaces, all or none, by TCX links where the kernel has them and by filters of
 * clsact where not. Programs of others keep their place either way.
 */
import { UnsupportedError } from '@tailrace/bpf';
import { Clsact } from './clsact.ts';
import { type AttachPlace, attachEverywhere, type KernelAttachment, type Link, linkOfFd, type MadeLink, requireEthernet } from './link.ts';
import type { KernelProgram } from './program.ts';
import type { TcHook, TcOrder } from './tc-order.ts';
import { createTcxLink, hasTcx } from './tcx.ts';

/** How programs are attached to TC: `auto` is `tcx` where the kernel has it (Linux 6.6), else `clsact`. */
export type TcLinkKind = 'auto' | 'tcx' | 'clsact';

/** How programs are attached to TC, and where among others. */
export interface TcOptions {
  /**
   * Default `auto`. A TCX link is gone with its process. A filter of clsact outlives it where the engine was not
   * closed: it is named `tailrace:PROGRAM …`, and the next engine that attaches to the interface removes it once its owner
   * is gone.
   */
  readonly link?: TcLinkKind;
  /** Default `last`. A program that comes later may stand behind it all the same. */
  readonly order?: TcOrder;
}

/** The TC attachments of one engine. */
export class TcAttacher {
  readonly #place: AttachPlace;
  readonly #link: TcLinkKind;
  readonly #order: TcOrder;
  readonly #clsact: Clsact;
  #kernelHasTcx: boolean | undefined;

  constructor(place: AttachPlace, options: TcOptions) {
    this.#place = place;
    this.#link = options.link ?? 'auto';
    this.#order = options.order ?? 'last';
    this.#clsact = new Clsact(place.socket);
  }

  /**
   * Attaches a program to every interface or to none. Throws TcOrderError, AlreadyAttachedError, QdiscConflictError,
   * ArgumentError (no such interface, no Ethernet), UnsupportedError (`tcx` where the kernel has none), NetlinkError,
   * SyscallError.
   */
  attach(program: KernelProgram, hook: TcHook, interfaces: readonly string[]): Promise<KernelAttachment> {
    return attachEverywhere(interfaces, (name) => this.#createLink(program, hook, name));
  }

  /** Makes a TCX link at one interface. Throws as `attach`, and UnsupportedError where it would have to be a filter of clsact. */
  createTcxLink(program: KernelProgram, hook: TcHook, name: string): Promise<MadeLink> {
    return program.hold(async (fd) => {
      if (!this.#usesTcx())
        throw new UnsupportedError('filters of clsact cannot be pinned', {
          hint: "pinned pipelines need TCX links (Linux 6.6): tc.link 'auto'",
        });
      const { index } = requireEthernet(this.#place.socket, name);
      const attached = { fd, id: program.id, name: program.spec.name };
      const target = { index, name, hook };
      this.#clsact.removeLeftovers(target);
      this.#clsact.tidy(target);
      return { fd: await createTcxLink(attached, target, this.#order, this.#place.namespace), mode: 'tcx' };
    });
  }

  #createLink(program: KernelProgram, hook: TcHook, name: string): Promise<Link> {
    return program.hold(async (fd) => {
      const tcx = this.#usesTcx();
      const { index } = requireEthernet(this.#place.socket, name);
      const target = { index, name, hook };
      const attached = { fd, id: program.id, name: program.spec.name };
      this.#clsact.removeLeftovers(target);
      if (tcx) {
        this.#clsact.tidy(target);
        return linkOfFd(name, 'tcx', await createTcxLink(attached, target, this.#order, this.#place.namespace));
      }
      const release = this.#clsact.attach(attached, target, this.#order);
      return { interface: name, mode: 'clsact', release: async () => release() };
    });
  }

  #usesTcx(): boolean {
    if (this.#link === 'clsact') return false;
    this.#kernelHasTcx ??= hasTcx();
    if (this.#link === 'tcx' && !this.#kernelHasTcx) {
      throw new UnsupportedError('this kernel has no TCX links', { hint: "they need Linux 6.6: use tc.link 'auto' or 'clsact'" });
    }
    return this.#kernelHasTcx;
  }
}

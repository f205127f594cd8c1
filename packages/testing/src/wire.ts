/**
 * The smallest network: the interfaces `left` and `right`, joined by a veth in a namespace of their own, with frames as bytes at
 * both. Hosts with addresses are `topology`'s.
 */
import { type KernelEngine, type KernelOptions, kernel, type NetworkNamespace, PacketSocket, Rtnetlink } from '@tailrace/kernel';
import { quietNamespace } from './quiet-namespace.ts';

/** `using wire = new Wire()`. Needs root. */
export class Wire implements Disposable {
  readonly namespace: NetworkNamespace;
  readonly route: Rtnetlink;
  readonly left: PacketSocket;
  readonly right: PacketSocket;
  readonly #stack: DisposableStack;

  /** No frames but those of the test cross it: IPv6 is off. Throws NetlinkError and SyscallError, leaving nothing behind. */
  constructor() {
    using stack = new DisposableStack();
    this.namespace = stack.use(quietNamespace());
    this.route = stack.use(new Rtnetlink(this.namespace));
    this.route.createVeth({ name: 'left' }, { name: 'right' });
    for (const end of ['left', 'right']) this.route.change(end, { up: true });
    this.left = stack.use(new PacketSocket(this.namespace, 'left'));
    this.right = stack.use(new PacketSocket(this.namespace, 'right'));
    this.#stack = stack.move();
  }

  /** The kernel as an engine, with programs at `right`. */
  engine(options: Omit<KernelOptions, 'interfaces' | 'netns'> = {}): KernelEngine {
    return kernel({ ...options, interfaces: ['right'], netns: this.namespace });
  }

  close(): void {
    this.#stack.dispose();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

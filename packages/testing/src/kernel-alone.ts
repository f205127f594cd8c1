/**
 * The kernel by itself: a namespace in which nothing is but one interface that nobody uses. Programs can be attached there,
 * and runs of attached programs do not wait for the kernel's readers, about 10 ms each.
 */
import type { Engine } from '@tailrace/bpf';
import { createNamespace, type KernelInstance, kernel, Rtnetlink } from '@tailrace/kernel';

/** The blueprint: every opening makes a namespace of its own, which goes with the instance. */
export class KernelAlone implements Engine {
  readonly kind = 'kernel';

  /** Needs root and eBPF. Throws what opening the kernel throws, leaving nothing behind. */
  async open(): Promise<KernelInstance> {
    // the instance holds the namespace open by itself
    using namespace = createNamespace();
    using route = new Rtnetlink(namespace);
    route.createVeth({ name: 'run' }, { name: 'unused' });
    return await kernel({ interfaces: ['run'], netns: namespace }).open();
  }
}

/** The kernel as an engine for tests: `runner(stage, { engine: kernelAlone() })`. Stages are attached without being asked. */
export function kernelAlone(): KernelAlone {
  return new KernelAlone();
}

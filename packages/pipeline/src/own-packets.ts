/** What engines say that have packets from interfaces only. */
import { UnsupportedError } from '@tailrace/bpf';

/** Packets cannot be handed to an engine of that kind. */
export function requiresOwnPackets(kind: string): UnsupportedError {
  return new UnsupportedError(`the ${kind} engine takes packets from its interfaces, none can be injected`, {
    hint: 'run the pipeline with userspace(), or use run() for single packets',
  });
}

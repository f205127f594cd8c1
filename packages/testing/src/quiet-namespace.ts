/** A network namespace in which nobody but the test speaks, so that counters stand still when it is silent. */
import { createNamespace, type NetworkNamespace, setSysctl } from '@tailrace/kernel';

/** IPv6 is off at interfaces that are made in it. Throws SyscallError (EPERM without CAP_SYS_ADMIN), leaving nothing behind. */
export function quietNamespace(): NetworkNamespace {
  using undo = new DisposableStack();
  const namespace = undo.use(createNamespace());
  setSysctl(namespace, 'net/ipv6/conf/default/disable_ipv6', 1);
  undo.move();
  return namespace;
}

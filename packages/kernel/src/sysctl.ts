/** Kernel settings of a network namespace, below /proc/sys/net. */
import { readFileSync, writeFileSync } from 'node:fs';
import { ArgumentError } from '@tailrace/bpf';
import { inNamespace, type NetworkNamespace } from './netns.ts';

/**
 * Reads a setting, e.g. `net/ipv4/ip_forward` (slashes, since interface names may hold dots), in `namespace`
 * (undefined: the thread's own). Throws ArgumentError where there is none.
 */
export function getSysctl(namespace: NetworkNamespace | undefined, name: string): string {
  return within(namespace, name, (path) => readFileSync(path, 'utf8').trim());
}

/** Writes a setting. Throws ArgumentError where there is none, or where the kernel refuses the value. */
export function setSysctl(namespace: NetworkNamespace | undefined, name: string, value: string | number): void {
  within(namespace, name, (path) => writeFileSync(path, String(value)));
}

/** Has a namespace forward IPv4 and IPv6 packets; fib_lookup in XDP needs it too. */
export function enableForwarding(namespace: NetworkNamespace | undefined): void {
  setSysctl(namespace, 'net/ipv4/ip_forward', 1);
  setSysctl(namespace, 'net/ipv6/conf/all/forwarding', 1);
}

function within<T>(namespace: NetworkNamespace | undefined, name: string, body: (path: string) => T): T {
  if (!/^net\/[\w./@-]+$/.test(name) || name.includes('..')) {
    throw new ArgumentError(`${name} is no network setting`, { hint: 'e.g. net/ipv4/ip_forward' });
  }
  const path = `/proc/sys/${name}`;
  try {
    return namespace ? inNamespace(namespace, () => body(path)) : body(path);
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && 'path' in cause)) throw cause;
    throw new ArgumentError(`the setting ${name} cannot be read or written: ${cause.code}`, { cause });
  }
}

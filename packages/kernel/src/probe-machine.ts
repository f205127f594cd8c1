/** What the machine itself is and has: kernel, Node, bpf(2), the JIT, BTF, bpffs, barriers, and this process's capabilities. */
import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { UnsupportedError } from '@tailrace/bpf';
import { type Check, found, has, look, type Search } from './check.ts';
import { Errno } from './errno.ts';
import { bpffsMounted, type Capability, PrivilegeError, requireBpf, requireKernel } from './privilege.ts';
import { trySyscall } from './syscall.ts';

const oldestNode = 24;
/** MEMBARRIER_CMD_QUERY, and the bit of MEMBARRIER_CMD_GLOBAL in its answer. */
const membarrierQuery = 0;
const membarrierGlobal = 1;

/** What machine and process are, as far as probes depend on it. */
export interface MachineFacts {
  readonly platform: string;
  /** The kernel's release, e.g. `6.1.0-18-amd64`. */
  readonly release: string;
  /** Node's version, e.g. `24.1.0`. */
  readonly node: string;
  /** Effective capabilities, one bit each. */
  readonly effective: bigint;
}

/** The facts of this process, but for its capabilities. */
export function machineFacts(effective: bigint): MachineFacts {
  return { platform: process.platform, release: release(), node: process.versions.node, effective };
}

/** Kernel and Node. Nothing else can be probed where the kernel is none. */
export function probeVersions({ platform, release, node }: MachineFacts): readonly Check[] {
  const kernel: Search = {
    id: 'kernel',
    title: platform === 'linux' ? `Linux ${release}` : platform,
    needed: true,
    remedy: 'a kernel of Linux 6.1 or later',
  };
  const runtime: Search = { id: 'node', title: `Node ${node}`, needed: true, remedy: `Node ${oldestNode} or later` };
  const recent = Number.parseInt(node, 10) >= oldestNode;
  return [
    outcome(kernel, () => requireKernel(platform, release)),
    found(runtime, recent ? 'yes' : 'no', recent ? undefined : `older than ${oldestNode}`),
  ];
}

/** Capabilities, of which CAP_SYS_ADMIN is for entering network namespaces only. */
export function probeCapabilities({ effective }: MachineFacts): readonly Check[] {
  const names: readonly Capability[] = ['CAP_BPF', 'CAP_NET_ADMIN', 'CAP_PERFMON'];
  const setcap = (...wanted: readonly string[]) => `run as root, or: setcap ${wanted.join(',')}=ep ${process.execPath}`;
  const all = names.map((name) => name.toLowerCase());
  return [
    ...names.map((name) =>
      found({ id: capabilityId(name), title: name, needed: true, remedy: setcap(...all) }, has(effective, name) ? 'yes' : 'no'),
    ),
    found(
      { id: capabilityId('CAP_SYS_ADMIN'), title: 'CAP_SYS_ADMIN', remedy: setcap(...all, 'cap_sys_admin') },
      has(effective, 'CAP_SYS_ADMIN') ? 'yes' : 'no',
      'for interfaces in other network namespaces only',
    ),
  ];
}

/** What the kernel was built with and how it is set. `jited` is what a loaded program tells: whether it became machine code. */
export async function probeMachine(facts: MachineFacts, jited: boolean | undefined): Promise<readonly Check[]> {
  return [
    probeBpf(facts),
    probeJit(jited),
    found(
      { id: 'btf', title: 'kernel BTF', remedy: 'a kernel built with CONFIG_DEBUG_INFO_BTF=y; only kfuncs need it' },
      existsSync('/sys/kernel/btf/vmlinux') ? 'yes' : 'no',
    ),
    found(
      { id: 'bpffs', title: 'BPF file system', remedy: 'mount -t bpf bpf /sys/fs/bpf; only pins need it' },
      bpffsMounted() ? 'yes' : 'no',
      'at /sys/fs/bpf',
    ),
    await look(
      { id: 'membarrier', title: 'membarrier(GLOBAL)', remedy: 'boot without nohz_full: hot swap waits by such barriers' },
      facts.effective,
      queryMembarrier,
    ),
  ];
}

const capabilityId = (name: Capability): string => `cap.${name.slice('CAP_'.length).toLowerCase()}`;

/** A check that throws what it has against the machine. */
function outcome(search: Search, require: () => void): Check {
  try {
    require();
    return found(search, 'yes');
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return found(search, 'no', error.message);
  }
}

function probeBpf({ effective }: MachineFacts): Check {
  const search: Search = { id: 'bpf', title: 'bpf(2)', needed: true, remedy: 'a kernel built with CONFIG_BPF_SYSCALL=y' };
  try {
    requireBpf();
    return found(search, 'yes');
  } catch (error) {
    if (error instanceof UnsupportedError) return found(search, 'no', error.message);
    if (!(error instanceof PrivilegeError)) throw error;
    if (!has(effective, 'CAP_BPF')) return found(search, 'unknown', 'cannot be told without CAP_BPF');
    return found({ ...search, remedy: error.hint ?? search.remedy }, 'no', error.message);
  }
}

/** The settings belong to the first network namespace and are not seen from others; a loaded program tells there. */
function probeJit(jited: boolean | undefined): Check {
  const search: Search = {
    id: 'jit',
    title: 'JIT',
    remedy: 'sysctl net.core.bpf_jit_enable=1: without it programs are interpreted, many times slower',
  };
  const enabled = setting('bpf_jit_enable');
  const hardening = setting('bpf_jit_harden');
  const note = hardening === '2' ? 'hardening blinds constants, which makes programs slower' : undefined;
  const on = jited ?? (enabled === undefined ? undefined : enabled !== '0');
  if (on === undefined) return found(search, 'unknown', 'its setting is not seen in this network namespace, and no program can be loaded');
  return found(search, on ? 'yes' : 'no', note);
}

function setting(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/net/core/${name}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function queryMembarrier(): undefined {
  const commands = trySyscall('membarrier', membarrierQuery);
  if (commands === -Errno.ENOSYS) throw new UnsupportedError('this kernel has no membarrier system call');
  if (commands < 0 || (commands & membarrierGlobal) === 0) throw new UnsupportedError('this kernel makes no barrier on all CPUs');
  return undefined;
}

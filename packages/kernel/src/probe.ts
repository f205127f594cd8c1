/**
 * What this machine can do, as data: `tailrace doctor` shows it. Everything is looked for by trying it on objects that are
 * closed again; nothing is attached, nothing on an interface is changed, nothing is left behind.
 */
import { type Check, has } from './check.ts';
import { type NetworkNamespace, openNamespace } from './netns.ts';
import { effectiveCapabilities, requireCapabilities } from './privilege.ts';
import { type InterfaceReport, probeInterfaces } from './probe-interface.ts';
import { machineFacts, probeCapabilities, probeMachine, probeVersions } from './probe-machine.ts';
import { probeMaps } from './probe-map.ts';
import { probePrograms } from './probe-program.ts';

/** What to look at beside the kernel. */
export interface ProbeOptions {
  /** Names of interfaces; default all Ethernet ones. */
  readonly interfaces?: readonly string[];
  /** Their network namespace, as the kernel engine takes it; default the own. */
  readonly netns?: string | number | NetworkNamespace;
}

/** What was found. */
export interface KernelReport {
  /** False where something is missing that is needed, or cannot be told. */
  readonly ready: boolean;
  /** Kernel, Node, and how the kernel is built and set. */
  readonly machine: readonly Check[];
  readonly capabilities: readonly Check[];
  /** What programs can do, by hook. */
  readonly hooks: readonly Check[];
  /** Every kind of map. */
  readonly maps: readonly Check[];
  readonly interfaces: readonly InterfaceReport[];
}

/**
 * Looks at everything. Throws ArgumentError where an interface or the namespace is not there, PrivilegeError where the
 * namespace may not be entered.
 */
export async function probeKernel(options: ProbeOptions = {}): Promise<KernelReport> {
  const facts = machineFacts(effectiveCapabilities());
  const { effective } = facts;
  const versions = probeVersions(facts);
  if (facts.platform !== 'linux') return { ready: false, machine: versions, capabilities: [], hooks: [], maps: [], interfaces: [] };
  const { checks: hooks, jited } = await probePrograms(effective);
  const machine = [...versions, ...(await probeMachine(facts, jited))];
  const capabilities = probeCapabilities(facts);
  const maps = await probeMaps(effective);
  const interfaces = await lookAt(options, effective);
  const all = [...machine, ...capabilities, ...hooks, ...maps, ...interfaces.flatMap(({ checks }) => checks)];
  return { ready: all.every(({ needed, state }) => !needed || state === 'yes'), machine, capabilities, hooks, maps, interfaces };
}

async function lookAt({ interfaces, netns }: ProbeOptions, effective: bigint): Promise<readonly InterfaceReport[]> {
  if (netns === undefined) return probeInterfaces(interfaces, effective);
  if (!has(effective, 'CAP_SYS_ADMIN')) requireCapabilities(true, effective);
  using namespace = openNamespace(typeof netns === 'object' ? netns.fd : netns);
  return await probeInterfaces(interfaces, effective, namespace);
}

/** The smallest XDP program: passes everything. A veth end that runs one takes what XDP sends into it. */
import { insn, type ProgramSpec } from '@tailrace/bpf';
import { kernel, type NetworkNamespace } from '@tailrace/kernel';

/** A program that returns XDP_PASS (2), or another number. */
export function constantProgram(name: string, returnValue = 2): ProgramSpec {
  return {
    name,
    type: 'xdp',
    frags: true,
    license: 'Dual MIT/GPL',
    instructions: [insn.mov(0, returnValue), insn.exit()],
    mapReferences: [],
    functions: [],
    lines: [],
  };
}

/** Attaches a program that passes everything to an interface. Disposing detaches it. */
export async function attachPass(namespace: NetworkNamespace, interfaceName: string): Promise<AsyncDisposable> {
  const engine = await kernel({ interfaces: [interfaceName], netns: namespace }).open();
  try {
    await engine.attach(await engine.loadProgram(constantProgram('testing.pass'), new Map()), 'xdp');
    return engine;
  } catch (error) {
    await engine.close();
    throw error;
  }
}

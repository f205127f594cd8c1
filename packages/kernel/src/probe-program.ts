/**
 * What programs can do here, looked for by loading small ones, running them off the wire and closing them: nothing is
 * attached to anything.
 */
import { assemble, type ProgramSpec, type ProgramType, UnsupportedError } from '@tailrace/bpf';
import { type Check, look, type Search } from './check.ts';
import { createMap, type KernelMap } from './map.ts';
import type { Capability } from './privilege.ts';
import { smallest } from './probe-map.ts';
import { type KernelProgram, loadProgram } from './program.ts';
import { openRingBuffer } from './ring.ts';
import { hasTcx } from './tcx.ts';

const takes: readonly Capability[] = ['CAP_BPF', 'CAP_NET_ADMIN'];
/** What every probe that is refused can be cured by: all of it is in Linux 6.1. */
const remedy = 'a kernel of Linux 6.1 or later with CONFIG_BPF_SYSCALL=y and CONFIG_NET=y';
const packet = new Uint8Array(64);
/** XDP_PASS and, as programs return it, TCX_NEXT. */
const verdict = { xdp: 2, schedCls: 0xffff_ffff } as const;

/** What loading programs told. */
export interface ProgramReport {
  readonly checks: readonly Check[];
  /** Whether a program became machine code; undefined where none could be loaded. */
  readonly jited: boolean | undefined;
}

/** Loads, runs and closes a small program for each thing that programs can do. */
export async function probePrograms(effective: bigint): Promise<ProgramReport> {
  let jited: boolean | undefined;
  const seek = (search: Omit<Search, 'remedy' | 'takes'>, body: () => Promise<undefined> | undefined): Promise<Check> =>
    look({ remedy, takes, ...search }, effective, body);
  const loads = (spec: ProgramSpec) => async () => {
    await withProgram(spec, async (program) => {
      jited = program.info().jitedBytes > 0;
    });
    return undefined;
  };
  const checks = [
    await seek({ id: 'xdp', title: 'XDP programs', needed: true }, loads(pass('xdp'))),
    await seek({ id: 'xdp.frags', title: 'XDP programs for packets in fragments', needed: true }, loads({ ...pass('xdp'), frags: true })),
    await seek({ id: 'tc', title: 'TC programs', needed: true }, loads(pass('schedCls'))),
    await probeTcx(effective),
    await seek({ id: 'testRun.xdp', title: 'test runs at XDP' }, () => runs('xdp')),
    await seek({ id: 'testRun.tc', title: 'test runs at TC' }, () => runs('schedCls')),
    await seek({ id: 'metadata', title: 'metadata from XDP to TC' }, metadataCross),
    await seek({ id: 'events', title: 'events through a ring buffer' }, recordArrives),
  ];
  return { checks, jited };
}

function probeTcx(effective: bigint): Promise<Check> {
  const search = { id: 'tcx', title: 'TCX links', remedy: 'Linux 6.6 or later; until then filters of clsact are used, which do as well' };
  return look({ ...search, takes: ['CAP_NET_ADMIN'] }, effective, () => {
    if (!hasTcx()) throw new UnsupportedError('this kernel has clsact only');
    return undefined;
  });
}

async function runs(type: keyof typeof verdict): Promise<undefined> {
  await withProgram(pass(type), async (program) => {
    const { returnValue } = await program.testRun({ packet });
    if (returnValue !== verdict[type]) throw new UnsupportedError(`a test run returned ${returnValue}, expected ${verdict[type]}`);
  });
  return undefined;
}

/** A program of XDP puts a word in front of a packet; one of TC may read it. */
async function metadataCross(): Promise<undefined> {
  await withProgram(writesMetadata(), async (program) => {
    const { returnValue, xdp } = await program.testRun({ packet });
    if (returnValue !== verdict.xdp || xdp?.metadata.length !== 4)
      throw new UnsupportedError('the kernel put nothing in front of a packet');
  });
  await withProgram(readsMetadata(), async () => undefined);
  return undefined;
}

async function recordArrives(): Promise<undefined> {
  const map = createMap(smallest('ringBuffer'), { cpus: 1 });
  try {
    await withProgram(
      sendsRecord(),
      async (program) => {
        using ring = openRingBuffer(map, () => undefined);
        await program.testRun({ packet });
        if (ring.read(1, () => undefined) !== 1) throw new UnsupportedError('a record that a program sent did not arrive');
      },
      new Map([['ring', map]]),
    );
  } finally {
    map.close();
  }
  return undefined;
}

async function withProgram(
  spec: ProgramSpec,
  body: (program: KernelProgram) => Promise<void>,
  maps: ReadonlyMap<string, KernelMap> = new Map(),
): Promise<void> {
  const program = await loadProgram(spec, maps);
  try {
    await body(program);
  } finally {
    program.close();
  }
}

function assembled(name: string, type: ProgramType, source: string): ProgramSpec {
  const { instructions, mapReferences } = assemble(source);
  const functions = [{ pc: 0, name }];
  return { name, type, frags: false, license: 'Dual MIT/GPL', instructions, mapReferences, functions, lines: [] };
}

function pass(type: keyof typeof verdict): ProgramSpec {
  return assembled('probe.pass', type, `r0 = ${type === 'xdp' ? 2 : -1}\nexit`);
}

const writesMetadata = () =>
  assembled(
    'probe.writes',
    'xdp',
    `
    r6 = r1
    r2 = -4
    call bpf_xdp_adjust_meta
    if r0 != 0x0 goto fail
    r2 = *(u32 *)(r6 +8)    ; data_meta
    r3 = *(u32 *)(r6 +0)    ; data
    r4 = r2
    r4 += 4
    if r4 > r3 goto fail
    *(u32 *)(r2 +0) = 1
    r0 = 2
    exit
  fail:
    r0 = 1
    exit
  `,
  );

const readsMetadata = () =>
  assembled(
    'probe.reads',
    'schedCls',
    `
    r2 = *(u32 *)(r1 +140)  ; data_meta
    r3 = *(u32 *)(r1 +76)   ; data
    r4 = r2
    r4 += 4
    if r4 > r3 goto out
    r4 = *(u32 *)(r2 +0)
  out:
    r0 = -1
    exit
  `,
  );

const sendsRecord = () =>
  assembled(
    'probe.sends',
    'xdp',
    `
    *(u64 *)(r10 -8) = 1
    r1 = map[ring]
    r2 = r10
    r2 += -8
    r3 = 8
    r4 = 0
    call bpf_ringbuf_output
    r0 = 2
    exit
  `,
  );

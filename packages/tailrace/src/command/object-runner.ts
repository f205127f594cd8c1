/** Packets of a capture through a program of an object file: as batches in userspace, or by test runs of the kernel. */
import type { BatchResult, LoadedProgram, ProgramType } from '@tailrace/bpf';
import { hookVerdicts } from '@tailrace/compiler';
import { hookTitle } from '@tailrace/pipeline';
import type { ReplayOptions } from './arguments.ts';
import { chooseProgram } from './object-file.ts';
import { loadObjectProgram } from './object-load.ts';
import { engineOf, type Outcome, type PacketRunner } from './packet-runner.ts';
import { drawRows } from './stats-table.ts';

/** What TC does other than to let a packet through, which is what TC_ACT_OK, TC_ACT_UNSPEC and unknown numbers come to. */
const TC_ACTIONS = { drop: 2, stolen: 4, redirect: 7, trap: 8 } as const;

/** Reads an object file and loads a program of it. Throws what that throws. */
export async function objectRunner(bytes: Uint8Array, options: ReplayOptions): Promise<PacketRunner> {
  const { file, engine, direction, section: wanted, json } = options;
  const { object, program, title } = chooseProgram(bytes, file, engine === 'kernel' ? 'kernel' : 'userspace', wanted);
  const { section } = program;
  const { type } = program.spec();
  const hook = type === 'socketFilter' ? undefined : (program.hook ?? (direction === 'ingress' ? 'tcIngress' : 'tcEgress'));
  await using resources = new AsyncDisposableStack();
  const instance = resources.use(await engineOf(engine).open());
  const live = await loadObjectProgram(instance, object, program);
  const row = { hook: hook === undefined ? 'socket' : hookTitle[hook], stage: section };
  const verdicts = new Map<string, bigint>();
  let [packets, bytesIn] = [0n, 0n];
  const outcome = (frame: Uint8Array, { returnValue, packet, redirect }: BatchResult): Outcome => {
    const verdict = verdictOf(type, returnValue);
    packets++;
    bytesIn += BigInt(frame.length);
    verdicts.set(verdict, (verdicts.get(verdict) ?? 0n) + 1n);
    return {
      verdict,
      // a socket filter says how much of the packet the socket gets
      packet: type === 'socketFilter' ? packet.subarray(0, returnValue) : packet,
      path: [{ ...(hook === undefined ? {} : { hook }), stage: section, verdict }],
      ...(redirect ? { redirect } : {}),
    };
  };
  const kept = resources.move();
  return {
    title,
    isOneByOne: json || live.runBatch === undefined,
    async *run(frames) {
      for (const group of json || live.runBatch === undefined ? frames.map((frame) => [frame]) : [frames]) {
        const results = await resultsOf(live, group);
        yield results.map((result, at) => outcome(group[at] as Uint8Array, result));
      }
    },
    table: () => drawRows([{ ...row, packets, bytes: bytesIn, ways: [...verdicts] }]),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Runs packets at once where the engine can. */
async function resultsOf(program: LoadedProgram, packets: readonly Uint8Array[]): Promise<readonly BatchResult[]> {
  if (program.runBatch) return program.runBatch(packets.map((packet) => ({ packet })));
  const results: BatchResult[] = [];
  for (const packet of packets) results.push(await program.testRun({ packet }));
  return results;
}

/** What the kernel takes a return value for: XDP aborts on those that it does not know, TC passes. */
function verdictOf(type: ProgramType, returnValue: number): string {
  if (type === 'socketFilter') return returnValue === 0 ? 'drop' : 'pass';
  // SK_DROP and SK_PASS
  if (type === 'skSkb' || type === 'skMsg') return returnValue === 1 ? 'pass' : 'drop';
  const known: Readonly<Record<string, number>> = type === 'xdp' ? hookVerdicts.xdp : TC_ACTIONS;
  const name = Object.keys(known).find((verdict) => known[verdict] === returnValue);
  return name ?? (type === 'xdp' ? 'abort' : 'pass');
}

/** One engine as fuzzing runs it: fresh maps for each program, packets one after the other, and all that they left as text. */
import {
  CALL_OPCODE,
  CallPseudo,
  type EngineInstance,
  type FunctionInfo,
  type Instruction,
  type LoadedMap,
  type MapSpec,
  type ProgramSpec,
  slotsOf,
  TailraceError,
  type TestRunResult,
  WIDE_OPCODE,
  WidePseudo,
} from '@tailrace/bpf';

/** What a program is run on. */
export interface FuzzRun {
  readonly spec: ProgramSpec;
  readonly maps: Readonly<Record<string, MapSpec>>;
  readonly packets: readonly Uint8Array[];
}

/** What came of it: a line for each packet and each map that has something in it; or why it was refused. */
export interface FuzzOutcome {
  readonly refused: TailraceError | undefined;
  readonly lines: readonly string[];
}

/**
 * Runs a program on an engine. What the engine refuses, and what stops a program, is part of the outcome; an error that is
 * none of ours is thrown on.
 */
export async function fuzzOutcome(engine: EngineInstance, { spec, maps, packets }: FuzzRun): Promise<FuzzOutcome> {
  await using undo = new AsyncDisposableStack();
  const made = new Map(
    Object.entries(maps).map(([name, map]) => {
      const loaded = engine.createMap(map);
      undo.defer(() => loaded.close());
      return [name, loaded];
    }),
  );
  const lines: string[] = [];
  try {
    const program = await engine.loadProgram(spec, made);
    undo.defer(() => program.close());
    for (const packet of packets) {
      const line = await program.testRun({ packet }).then(resultLine, errorLine);
      lines.push(line);
    }
  } catch (error) {
    if (error instanceof TailraceError) return { refused: error, lines: [errorLine(error)] };
    throw error;
  }
  for (const [name, map] of made) lines.push(...contents(name, map, engine));
  return { refused: undefined, lines };
}

function resultLine({ returnValue, packet, xdp, skb }: TestRunResult): string {
  const fields = skb ? ` mark ${skb.mark} priority ${skb.priority} cb ${hex(skb.cb)}` : '';
  return `returned ${returnValue}, packet ${hex(packet)}${xdp ? ` behind ${hex(xdp.metadata)}` : ''}${fields}`;
}

function errorLine(error: unknown): string {
  if (error instanceof TailraceError) return `${error.code}: ${error.message}`;
  throw error;
}

/** Entries in the order of their keys; queues and rings are read to their ends. */
function contents(name: string, map: LoadedMap, engine: EngineInstance): string[] {
  const { type, keySize } = map.spec;
  const found: string[] = [];
  if (type === 'ringBuffer') {
    using ring = engine.openRing(map, () => {});
    ring.read(1000, (view, offset, length) => found.push(hex(new Uint8Array(view.buffer, view.byteOffset + offset, length))));
  } else if (keySize === 0) {
    for (let value = map.pop(); value !== undefined; value = map.pop()) found.push(hex(value));
  } else {
    const { count, keys, values } = map.readAll();
    const part = (bytes: Uint8Array, size: number, at: number): string => hex(bytes.subarray(at * size, (at + 1) * size));
    for (let at = 0; at < count; at++) found.push(`${part(keys, keySize, at)} = ${part(values, map.valueStride, at)}`);
    found.sort();
  }
  return found.map((line) => `${name}: ${line}`);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** The entry point and every function that is called or named: the kernel wants to be told of all. */
export function functionsOf(instructions: readonly Instruction[]): readonly FunctionInfo[] {
  const starts = new Set([0]);
  let pc = 0;
  for (const instruction of instructions) {
    const { opcode, src, imm } = instruction;
    const isNamed = (opcode === CALL_OPCODE && src === CallPseudo.subprogram) || (opcode === WIDE_OPCODE && src === WidePseudo.func);
    if (isNamed) starts.add(pc + 1 + imm);
    pc += slotsOf(instruction);
  }
  return [...starts].sort((a, b) => a - b).map((start) => ({ pc: start, name: `f${start}` }));
}

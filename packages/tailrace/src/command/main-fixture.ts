/** For tests: command lines run in this process, what they wrote, and small captures and objects for them. */
import { type Instruction, insn, type ProgramSpec, writeElf } from '@tailrace/bpf';
import { packet } from '@tailrace/testing';
import { CaptureWriter, readPackets } from '@tailrace/userspace';
import { main } from './main.ts';
import type { Output } from './output.ts';

/** What a command line comes to. */
export interface Called {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a command line that reads nothing. */
export function called(...args: readonly string[]): Promise<Called> {
  return calledWith('', ...args);
}

/** Runs a command line with that as its standard input. */
export async function calledWith(input: string | Uint8Array, ...args: readonly string[]): Promise<Called> {
  const [out, err] = [new Written(), new Written()];
  const code = await main(args, { output: out, errors: err }, () => chunks(Buffer.from(input)));
  return { code, out: out.text, err: err.text };
}

/** An output that keeps what is written; `closeAfter`: its reader goes away after so many writes; `live`: a terminal. */
export class Written implements Output {
  readonly color = false;
  readonly live: boolean;
  readonly size = undefined;
  readonly #listeners = new Set<() => void>();
  #left: number;
  text = '';

  constructor(closeAfter = Number.POSITIVE_INFINITY, live = false) {
    this.#left = closeAfter;
    this.live = live;
  }

  write(text: string): void {
    if (this.#left-- <= 0) return;
    this.text += text;
    if (this.#left <= 0) for (const listener of this.#listeners) listener();
  }

  ready(): undefined {}

  onClosed(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

async function* chunks(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  const middle = bytes.length >> 1;
  yield bytes.subarray(0, middle);
  yield bytes.subarray(middle);
}

/** Frames of UDP with so many bytes of payload each; 42 bytes are headers. */
export function frames(...payloads: readonly number[]): readonly Uint8Array[] {
  return payloads.map((bytes) => packet().ipv4({ saddr: '10.0.0.1' }).udp().payload(new Uint8Array(bytes)).bytes());
}

/** Writes a capture, a microsecond between two packets. */
export async function writeCapture(path: string, packets: readonly Uint8Array[]): Promise<string> {
  await using writer = await CaptureWriter.open(path);
  for (const [index, bytes] of packets.entries()) await writer.write(bytes, timeOf(index));
  return path;
}

/** The time of a packet of `writeCapture`. */
export function timeOf(index: number): bigint {
  return 1_700_000_000_000_000_000n + BigInt(index) * 1_000n;
}

/** The lengths and times of the packets in a capture. */
export async function packetsIn(
  path: string,
): Promise<readonly { readonly bytes: number; readonly time: bigint; readonly onWire: number }[]> {
  const list: { bytes: number; time: bigint; onWire: number }[] = [];
  for await (const { bytes, timestampNs, originalLength } of readPackets(path))
    list.push({ bytes: bytes.length, time: timestampNs, onWire: originalLength });
  return list;
}

/** A program of an object, without maps unless said. */
export function programOf(name: string, instructions: readonly Instruction[], rest: Partial<ProgramSpec> = {}): ProgramSpec {
  const functions = [{ pc: 0, name }];
  return { name, type: 'xdp', frags: false, license: 'Dual MIT/GPL', instructions, mapReferences: [], functions, lines: [], ...rest };
}

/**
 * An object of four programs: `gate` (xdp) drops packets under 100 bytes and tail-calls `count` (xdp) with others, which
 * counts and lets them out again; `either` (tc) returns TC_ACT_OK; `keep` (socket) keeps 20 bytes.
 */
export function sampleObject(): Uint8Array {
  const table = { name: 'table', type: 'programArray', keySize: 4, valueSize: 4, maxEntries: 2, flags: 0 } as const;
  const counts = { name: '.data.counts', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 } as const;
  const gate = programOf(
    'gate',
    [
      insn.load(4, 2, 1, 0),
      insn.load(4, 3, 1, 4),
      insn.alu64('sub', 3, { register: 2 }),
      insn.jump('lt', 3, 100, 5),
      insn.wideMap(2),
      insn.mov(3, 1),
      insn.call(12),
      insn.ja(0),
      insn.mov(0, 1),
      insn.exit(),
    ],
    { mapReferences: [{ pc: 4, map: 'table' }] },
  );
  const count = programOf(
    'count',
    [insn.wideMapValue(1, 0), insn.load(8, 2, 1, 0), insn.alu64('add', 2, 1), insn.store(8, 1, 0, 2), insn.mov(0, 3), insn.exit()],
    {
      mapReferences: [{ pc: 0, map: '.data.counts', valueOffset: 0 }],
    },
  );
  const constant = (value: number) => [insn.mov(0, value), insn.exit()];
  return writeElf(
    [gate, count, programOf('either', constant(0), { type: 'schedCls' }), programOf('keep', constant(20), { type: 'socketFilter' })],
    [
      { spec: table, contents: [], programs: [{ slot: 1, program: 'count' }], maps: [], pinByName: false },
      { spec: counts, contents: [{ key: new Uint8Array(4), value: new Uint8Array(8).fill(1) }], programs: [], maps: [], pinByName: false },
    ],
  );
}

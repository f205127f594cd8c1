/**
 * `tailrace vm`: one raw program, as a plugin of the public bpf_conformance suite runs it. Bytes come in as hex and r0 goes
 * out as hex.
 */
import { ArgumentError } from '@tailrace/bpf';
import { kernel } from '@tailrace/kernel';
import { runProgram } from '@tailrace/userspace';
import { ExitCode, type VmCommandOptions } from './arguments.ts';
import { bytesOfHex } from './hex.ts';
import { runInKernel } from './kernel-vm.ts';
import type { Input, Output } from './output.ts';

/** Reads, runs, and prints r0. Returns the exit code; throws what the engine has against the program. */
export async function vm({ memory, program, engine }: VmCommandOptions, output: Output, input: Input): Promise<number> {
  const block = bytesOfHex('memory', memory);
  const bytes = bytesOfHex('program', program ?? (await textOf(input())));
  if (bytes.length === 0) throw new ArgumentError('program is empty, expected bytes in hex on standard input');
  output.write(`${(await result(engine, bytes, block)).toString(16)}\n`);
  return ExitCode.fine;
}

async function result(engine: VmCommandOptions['engine'], bytes: Uint8Array, memory: Uint8Array): Promise<bigint> {
  if (engine !== 'kernel') return runProgram(bytes, memory, { mode: engine }).value;
  await using instance = await kernel({ interfaces: [] }).open();
  return await runInKernel(instance, bytes, memory);
}

async function textOf(input: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of input) chunks.push(chunk);
  return Buffer.concat(chunks).toString('latin1');
}

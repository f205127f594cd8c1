/** `tailrace graph`: a pipeline as a picture, in the terminal or as SVG. Nothing is loaded. */
import { writeFileSync } from 'node:fs';
import { ArgumentError } from '@tailrace/bpf';
import { drawPipeline, drawSvg } from '@tailrace/pipeline';
import { ExitCode, type GraphOptions } from './arguments.ts';
import type { Output } from './output.ts';
import { importPipeline } from './pipeline-module.ts';

/** Imports and draws. Returns the exit code. */
export async function graph({ file, svg, json }: GraphOptions, output: Output): Promise<number> {
  const { pipeline } = await importPipeline(file);
  const description = pipeline.describe();
  if (svg === '-') output.write(drawSvg(description));
  else if (svg !== undefined) save(svg, drawSvg(description));
  if (json) output.write(`${JSON.stringify(description, undefined, 2)}\n`);
  else if (svg === undefined) output.write(`${drawPipeline(description, { color: output.color })}\n`);
  return ExitCode.fine;
}

function save(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause)) throw cause;
    throw new ArgumentError(`${path} cannot be written: ${cause.code}`, { cause });
  }
}

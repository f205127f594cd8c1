/** `tailrace pins`, `stop` and `forget`: pipelines that outlive their processes. */
import { kernel } from '@tailrace/kernel';
import { forgetKept, type KeptPipeline, keptPipelines, stopKept } from '@tailrace/pipeline';
import { ExitCode, type ForgetOptions, type PinsOptions, type StopOptions } from './arguments.ts';
import { type Output, type Palette, palette } from './output.ts';

/** Prints what is pinned. */
export async function pins({ json }: PinsOptions, output: Output): Promise<number> {
  await using engine = await kernel({ interfaces: [] }).open();
  const kept = keptPipelines(engine);
  output.write(json ? `${JSON.stringify(kept, undefined, 2)}\n` : `${drawKept(kept, palette(output.color))}\n`);
  return ExitCode.fine;
}

/** Removes a pipeline that no process runs. */
export async function stop({ pipeline }: StopOptions, output: Output): Promise<number> {
  await using engine = await kernel({ interfaces: [] }).open();
  await stopKept(engine, pipeline);
  output.write(`removed ${pipeline}\n`);
  return ExitCode.fine;
}

/** Deletes a map of a pipeline that no process runs. */
export async function forget({ pipeline, map }: ForgetOptions, output: Output): Promise<number> {
  await using engine = await kernel({ interfaces: [] }).open();
  forgetKept(engine, pipeline, map);
  output.write(`deleted ${map} of ${pipeline}\n`);
  return ExitCode.fine;
}

/** Pipelines as lines, without a trailing newline. */
export function drawKept(kept: readonly KeptPipeline[], { bold, dim }: Palette): string {
  if (kept.length === 0) return 'No pipeline is pinned.';
  const sections = kept.map(({ name, owner, links, hooks, maps }) => {
    const who = owner === undefined ? 'no process has it' : `process ${owner} has it`;
    const where = hooks.map((hook) => {
      const names = links.filter((link) => link.hook === hook).map((link) => link.interface);
      return `  ${hook} on ${names.length > 0 ? names.join(', ') : 'no interface'}`;
    });
    const what = maps.map(({ name, type, entries, maxEntries, used }) => {
      const full = entries === undefined ? ` of ${maxEntries}` : `, ${entries} of ${maxEntries}`;
      return `  ${name} ${dim(`${type}${full}${used ? '' : ', unused'}`)}`;
    });
    return [`${bold(name)}: ${hooks.length > 0 ? who : `${who}, half made`}`, ...where, ...what].join('\n');
  });
  return sections.join('\n\n');
}

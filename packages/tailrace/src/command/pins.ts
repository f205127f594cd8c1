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
export function drawKept(kept: readonly KeptPipeline[], { bold, dim }: Palette, now = new Date()): string {
  if (kept.length === 0) return 'No pipeline is pinned.';
  const sections = kept.map(({ name, owner, problem, age, links, hooks, maps }) => {
    const who = owner === undefined ? 'no process has it' : `process ${owner} has it`;
    const where = hooks.map((hook) => {
      const names = links.filter((link) => link.hook === hook).map((link) => link.interface);
      return `  ${hook} on ${names.length > 0 ? names.join(', ') : 'no interface'}`;
    });
    const what = maps.map(({ name, type, entries, maxEntries, used }) => {
      const full = entries === undefined ? ` of ${maxEntries}` : `, ${entries} of ${maxEntries}`;
      return `  ${name} ${dim(`${type}${full}${used ? '' : ', unused'}`)}`;
    });
    const since = age
      ? `generation ${age.generation} for ${spanOf(age.changed, now)}, begun ${spanOf(age.began, now)} ago`
      : (problem ?? 'half made');
    return [`${bold(name)}: ${who}, ${since}`, ...where, ...what].join('\n');
  });
  return sections.join('\n\n');
}

const units = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
] as const;

/** The time between two moments in whole units of the largest that fits; a clock that was set back in between makes it 0. */
function spanOf(from: Date, to: Date): string {
  const seconds = Math.max(0, Math.floor((to.getTime() - from.getTime()) / 1000));
  const [unit, size] = units.find(([, size]) => seconds >= size) ?? ['s', 1];
  return `${Math.floor(seconds / size)} ${unit}`;
}

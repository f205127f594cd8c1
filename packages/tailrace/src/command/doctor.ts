/** `tailrace doctor`: what this machine can do, as the kernel package's probe tells it. */
import { type Check, type InterfaceReport, type KernelReport, probeKernel } from '@tailrace/kernel';
import { type DoctorOptions, ExitCode } from './arguments.ts';
import { type Output, type Palette, palette } from './output.ts';

/** Looks, and prints what it found. Returns the exit code: failed where something needed is missing. */
export async function doctor({ interfaces, netns, json }: DoctorOptions, output: Output): Promise<number> {
  const report = await probeKernel({ ...(interfaces.length > 0 ? { interfaces } : {}), ...(netns === undefined ? {} : { netns }) });
  output.write(json ? `${JSON.stringify(report, undefined, 2)}\n` : `${drawReport(report, palette(output.color))}\n`);
  return report.ready ? ExitCode.fine : ExitCode.failed;
}

/** The report as lines, without a trailing newline. */
export function drawReport(report: KernelReport, colors: Palette): string {
  const { bold } = colors;
  const sections: readonly (readonly [string, readonly Check[]])[] = [
    ['machine', report.machine],
    ['capabilities', report.capabilities],
    ['programs', report.hooks],
    ['maps', report.maps],
  ];
  const interfaces = report.interfaces.map((info) => ({ ...info, heading: headingOf(info) }));
  const all = [...sections.flatMap(([, checks]) => checks), ...interfaces.flatMap(({ checks }) => checks)];
  const width = Math.max(0, ...all.filter(({ state, detail }) => state === 'no' || detail !== undefined).map(({ title }) => title.length));
  const lines = (checks: readonly Check[]): readonly string[] => checks.map((check) => drawCheck(check, width, colors));
  return [
    ...sections.flatMap(([heading, checks]) => (checks.length === 0 ? [] : [bold(heading), ...lines(checks), ''])),
    ...interfaces.flatMap((info) => [bold(info.heading), ...lines(info.checks), ...factsOf(info, colors), '']),
    verdictOf(all, colors),
  ].join('\n');
}

/** The one line to read. What is missing is named; what cannot be told only where nothing is known to be missing. */
function verdictOf(checks: readonly Check[], { green, red, yellow }: Palette): string {
  const titles = (state: Check['state']) => checks.filter((check) => check.needed && check.state === state).map(({ title }) => title);
  const [missing, untold] = [titles('no'), titles('unknown')];
  if (missing.length > 0) return red(`Pipelines cannot run here: ${missing.join(', ')} missing.`);
  return untold.length > 0
    ? yellow(`Whether pipelines can run here cannot be told: ${untold.join(', ')}.`)
    : green('Pipelines can run here.');
}

function drawCheck({ title, state, needed, detail, remedy }: Check, width: number, { dim, green, red, yellow }: Palette): string {
  const marks = { yes: green('✓'), no: needed ? red('✗') : yellow('✗'), unknown: yellow('?') } as const;
  const about = [...(detail === undefined ? [] : [dim(detail)]), ...(remedy === undefined ? [] : [`→ ${remedy}`])];
  return `  ${marks[state]} ${about.length === 0 ? title : `${title.padEnd(width)}  ${about.join('  ')}`}`;
}

function headingOf({ name, kind, index }: InterfaceReport): string {
  return `interface ${name}${kind === undefined ? '' : `, ${kind}`} (index ${index})`;
}

/** What is neither right nor wrong. */
function factsOf({ offloads, programs }: InterfaceReport, { dim }: Palette): readonly string[] {
  const [on, off] = [true, false].map((wanted) => Object.entries(offloads).flatMap(([name, is]) => (is === wanted ? [name] : [])));
  return [
    ...(on?.length ? [`    ${dim('offloads on')}   ${on.join(', ')}`] : []),
    ...(off?.length ? [`    ${dim('offloads off')}  ${off.join(', ')}`] : []),
    ...programs.map(
      ({ hook, by, programId, name }) => `    ${dim('program')}       ${hook}, ${by}: ${name || 'no name'} (id ${programId})`,
    ),
  ];
}

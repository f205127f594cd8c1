/** What the command line asks for: its commands and options, their help, and the exit codes. */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { ArgumentError } from '@tailrace/bpf';

/** How a command ends; 128 and the signal's number where a signal stopped it. */
export const ExitCode = { fine: 0, failed: 1, wrongUse: 2 } as const;

/** The command line is wrong. */
export class UsageError extends ArgumentError {}

/** `tailrace doctor` */
export interface DoctorOptions {
  readonly command: 'doctor';
  /** Empty: all Ethernet ones. */
  readonly interfaces: readonly string[];
  readonly netns?: string;
  readonly json: boolean;
}

/** `tailrace run` */
export interface RunCommandOptions {
  readonly command: 'run';
  readonly file: string;
  readonly interfaces: readonly string[];
  readonly netns?: string;
  readonly tc: 'auto' | 'tcx' | 'clsact';
  readonly xdp: 'auto' | 'native' | 'generic';
  readonly json: boolean;
  readonly intervalMs: number;
  /** Unless given, until a signal comes. */
  readonly forMs?: number;
}

/** `tailrace graph` */
export interface GraphOptions {
  readonly command: 'graph';
  readonly file: string;
  /** Where the SVG goes. */
  readonly svg?: string;
  readonly json: boolean;
}

/** `tailrace build` */
export interface BuildOptions {
  readonly command: 'build';
  readonly file: string;
  readonly stage?: string;
  readonly json: boolean;
}

/** What is asked for. */
export type Invocation =
  | DoctorOptions
  | RunCommandOptions
  | GraphOptions
  | BuildOptions
  | { readonly command: 'help'; readonly text: string }
  | { readonly command: 'version' };

type Name = 'doctor' | 'run' | 'graph' | 'build';

/** Longest time that a timer can wait (2^31 - 1 ms). */
const longestMs = 0x7fff_ffff;

/** Reads the command line, without the program's own name. Throws UsageError. */
export function parseCommand(args: readonly string[]): Invocation {
  const [name, ...rest] = args;
  if (name === undefined) throw new UsageError('no command, expected doctor, run, graph or build', { hint: 'tailrace --help lists them' });
  if (name === '--version' || name === '-v') return { command: 'version' };
  if (name === '--help' || name === '-h') return { command: 'help', text: overview };
  if (name === 'help') return { command: 'help', text: rest[0] === undefined ? overview : helpOf(rest[0]) };
  if (!isName(name)) throw unknown(name);
  if (rest.includes('--help') || rest.includes('-h')) return { command: 'help', text: helpOf(name) };
  return readers[name](rest);
}

const readers: { readonly [N in Name]: (args: readonly string[]) => Invocation } = {
  doctor(args) {
    const { values, positionals } = parsed('doctor', args, { interface: several, netns: text, json: flag });
    noMore('doctor', positionals);
    return { command: 'doctor', interfaces: named('doctor', values.interface), ...netnsOf(values.netns), json: values.json === true };
  },
  run(args) {
    const { values, positionals } = parsed('run', args, {
      interface: several,
      netns: text,
      tc: text,
      xdp: text,
      json: flag,
      interval: text,
      for: text,
    });
    const file = fileOf('run', positionals);
    const interfaces = named('run', values.interface);
    if (interfaces.length === 0) throw wrong('run', 'no interface, expected --interface NAME');
    const forSeconds = values.for === undefined ? undefined : number('run', '--for', values.for, longestMs / 1000);
    return {
      command: 'run',
      file,
      interfaces,
      ...netnsOf(values.netns),
      tc: choice('run', '--tc', values.tc, ['auto', 'tcx', 'clsact']),
      xdp: choice('run', '--xdp', values.xdp, ['auto', 'native', 'generic']),
      json: values.json === true,
      intervalMs: values.interval === undefined ? 1_000 : number('run', '--interval', values.interval, longestMs),
      ...(forSeconds === undefined ? {} : { forMs: forSeconds * 1_000 }),
    };
  },
  graph(args) {
    const { values, positionals } = parsed('graph', args, { svg: text, json: flag });
    if (values.svg === '') throw wrong('graph', '--svg is empty, expected a file');
    const svg = values.svg === undefined ? {} : { svg: values.svg };
    return { command: 'graph', file: fileOf('graph', positionals), ...svg, json: values.json === true };
  },
  build(args) {
    const { values, positionals } = parsed('build', args, { stage: text, json: flag });
    const stage = values.stage === undefined ? {} : { stage: values.stage };
    return { command: 'build', file: fileOf('build', positionals), ...stage, json: values.json === true };
  },
};

const text = { type: 'string' } as const;
const several = { type: 'string', multiple: true, short: 'i' } as const;
const flag = { type: 'boolean' } as const;

function parsed<const O extends ParseArgsOptionsConfig>(command: Name, args: readonly string[], options: O) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    // ERR_PARSE_ARGS_*: a sentence, and sometimes one more with advice.
    if (!(error instanceof TypeError)) throw error;
    const [sentence = ''] = error.message.split(/\. |\n/);
    throw wrong(command, `${sentence.charAt(0).toLowerCase()}${sentence.slice(1)}`);
  }
}

function isName(name: string): name is Name {
  return Object.hasOwn(help, name);
}

function helpOf(name: string): string {
  if (!isName(name)) throw unknown(name);
  return help[name];
}

function unknown(name: string): UsageError {
  return new UsageError(`there is no command '${name}', expected doctor, run, graph or build`, { hint: 'tailrace --help lists them' });
}

function wrong(command: Name, message: string): UsageError {
  return new UsageError(`${command}: ${message}`, { hint: `tailrace ${command} --help says more` });
}

function named(command: Name, interfaces: readonly string[] = []): readonly string[] {
  const twice = interfaces.find((name, at) => interfaces.indexOf(name) !== at);
  if (twice !== undefined) throw wrong(command, `interface ${twice} is listed twice`);
  return interfaces;
}

function netnsOf(netns: string | undefined): { readonly netns?: string } {
  return netns === undefined ? {} : { netns };
}

function fileOf(command: Name, positionals: readonly string[]): string {
  const [file, ...more] = positionals;
  if (file === undefined) throw wrong(command, 'no file, expected a module that exports a pipeline');
  noMore(command, more);
  return file;
}

function noMore(command: Name, positionals: readonly string[]): void {
  if (positionals[0] !== undefined) throw wrong(command, `'${positionals[0]}' is one argument too many`);
}

function choice<const C extends string>(command: Name, option: string, value: string | undefined, choices: readonly [C, ...C[]]): C {
  if (value === undefined) return choices[0];
  const chosen = choices.find((one) => one === value);
  if (chosen === undefined) throw wrong(command, `${option} is '${value}', expected ${choices.join(', ')}`);
  return chosen;
}

function number(command: Name, option: string, value: string, most: number): number {
  const read = /^\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN;
  if (!(read > 0 && read <= most)) throw wrong(command, `${option} is '${value}', expected a number above 0, at most ${Math.floor(most)}`);
  return read;
}

const overview = `Network functions in eBPF, written in TypeScript.

  tailrace doctor                              what this machine can do, and what to do about the rest
  tailrace run FILE --interface NAME           runs a pipeline on an interface, with live counters
  tailrace graph FILE                          draws a pipeline, in the terminal or as SVG
  tailrace build FILE                          shows the compiled programs beside their source

  tailrace COMMAND --help                      options of a command
  tailrace --version

FILE is a TypeScript or JavaScript module whose default export, or only export of that kind, is a pipeline.
Output has colour on a terminal only, and none where NO_COLOR is set.
Exit codes: 0 fine, 1 failed, 2 wrong use; 128 and the signal's number where a signal stopped it.
`;

const help: Readonly<Record<Name, string>> = {
  doctor: `tailrace doctor [--interface NAME …] [--netns NAME] [--json]

Says what this machine can do, a line each: ✓ there, ✗ not there and what to do, ? cannot be told and why.
It tries everything on objects of its own and attaches nothing.

  -i, --interface NAME   an interface to look at, several times for several; default all Ethernet ones
      --netns NAME       their network namespace: a name that \`ip netns add\` gave, or a path
      --json             the report as JSON

Exit code 1 where something is missing, or cannot be told, that nothing runs without.
`,
  run: `tailrace run FILE --interface NAME [--interface NAME …] [options]

Runs the pipeline that FILE exports until it is stopped by SIGINT, SIGTERM or SIGHUP, and takes it off cleanly.
On a terminal its picture is redrawn with live counters; elsewhere a table is printed at the end.
An export \`services\` replaces services: [override(TOKEN, value), …].

  -i, --interface NAME   an interface to attach to, several times for several
      --netns NAME       their network namespace: a name that \`ip netns add\` gave, or a path
      --tc KIND          auto (default: tcx where the kernel has it), tcx, clsact
      --xdp MODE         auto (default: native where the driver has it), native, generic
      --interval MS      time between two pictures or lines; default 1000
      --for SECONDS      stops by itself after that time
      --json             one line of JSON an interval; 64-bit counters are strings

Exit codes: 0 after --for, 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP, 1 where it could not run.
`,
  graph: `tailrace graph FILE [--svg FILE] [--json]

Draws the pipeline that FILE exports. Nothing is loaded; no privileges are needed.

      --svg FILE         writes an SVG, for light and dark pages; - is the standard output
      --json             stages and edges as JSON
`,
  build: `tailrace build FILE [--stage NAME] [--json]

Compiles the pipeline that FILE exports and shows each program: size, stack, maps, and its instructions below the source
lines that they come from. Nothing is loaded; no privileges are needed.

      --stage NAME       that stage's programs only
      --json             the same as JSON
`,
};

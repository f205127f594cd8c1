/** What the command line asks for: its commands and options, and the exit codes. */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { ArgumentError } from '@tailrace/bpf';
import { type CommandName, help, overview } from './help.ts';

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

/** Which way packets go. */
export type Direction = 'ingress' | 'egress';

/** `--canary`: a module whose pipeline gets some packets. */
export interface CanaryFileOptions {
  readonly file: string;
  /** Of all flows, above 0 and at most 1; absent: those that the module picks. */
  readonly share?: number;
  /** It is promoted by itself after that time. */
  readonly promoteMs?: number;
}

/** `tailrace run --interface` */
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
  /** Tells the ways of one packet in so many. */
  readonly trace?: number;
  /** Tells of dropped packets. */
  readonly drops: boolean;
  readonly canary?: CanaryFileOptions;
  /** Leaves the pipeline when the command ends. */
  readonly persist: boolean;
  /** Of an object file. */
  readonly section?: string;
  readonly direction?: Direction;
}

/** `tailrace run --pcap` */
export interface ReplayOptions {
  readonly command: 'replay';
  readonly file: string;
  /** `-` is the standard input. */
  readonly pcap: string;
  readonly engine: 'userspace' | 'interpreter' | 'kernel';
  readonly direction: Direction;
  /** Of an object file. */
  readonly section?: string;
  /** `-` is the standard output. */
  readonly out?: string;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** `tailrace vm` */
export interface VmCommandOptions {
  readonly command: 'vm';
  /** Bytes in hex. */
  readonly memory: string;
  /** Bytes in hex; absent: they come from the standard input. */
  readonly program?: string;
  readonly engine: 'wasm' | 'interpreter' | 'kernel';
}

/** `tailrace graph` */
export interface GraphOptions {
  readonly command: 'graph';
  readonly file: string;
  /** Where the SVG goes. */
  readonly svg?: string;
  /** What it costs, chained and fused, in place of the picture. */
  readonly cost: boolean;
  /** With `cost`: a capture to measure by, and where; `-` is the standard input. */
  readonly measure?: { readonly pcap: string; readonly engine: 'userspace' | 'kernel' };
  readonly json: boolean;
}

/** `tailrace build` */
export interface BuildOptions {
  readonly command: 'build';
  readonly file: string;
  readonly stage?: string;
  readonly json: boolean;
}

/** `tailrace pins` */
export interface PinsOptions {
  readonly command: 'pins';
  readonly json: boolean;
}

/** `tailrace stop` */
export interface StopOptions {
  readonly command: 'stop';
  readonly pipeline: string;
}

/** `tailrace forget` */
export interface ForgetOptions {
  readonly command: 'forget';
  readonly pipeline: string;
  readonly map: string;
}

/** What is asked for. */
export type Invocation =
  | PinsOptions
  | StopOptions
  | ForgetOptions
  | DoctorOptions
  | RunCommandOptions
  | ReplayOptions
  | GraphOptions
  | BuildOptions
  | VmCommandOptions
  | { readonly command: 'help'; readonly text: string }
  | { readonly command: 'version' };

const commands = 'doctor, run, graph, build, vm, pins, stop or forget';
/** Longest time that a timer can wait (2^31 - 1 ms). */
const longestMs = 0x7fff_ffff;

/** Reads the command line, without the program's own name. Throws UsageError. */
export function parseCommand(args: readonly string[]): Invocation {
  const [name, ...rest] = args;
  if (name === undefined) throw new UsageError(`no command, expected ${commands}`, { hint: 'tailrace --help lists them' });
  if (name === '--version' || name === '-v') return { command: 'version' };
  if (name === '--help' || name === '-h') return { command: 'help', text: overview };
  if (name === 'help') return { command: 'help', text: rest[0] === undefined ? overview : helpOf(rest[0]) };
  if (!isName(name)) throw unknown(name);
  if (rest.includes('--help') || rest.includes('-h')) return { command: 'help', text: helpOf(name) };
  return readers[name](rest);
}

const readers: { readonly [N in CommandName]: (args: readonly string[]) => Invocation } = {
  doctor(args) {
    const { values, positionals } = parsed('doctor', args, { interface: several, netns: text, json: flag });
    noMore('doctor', positionals);
    return { command: 'doctor', interfaces: named('doctor', values.interface), ...netnsOf(values.netns), json: values.json === true };
  },
  run(args) {
    const { values, positionals } = parsed('run', args, runOptions);
    const file = fileOf('run', positionals, 'expected a module that exports a pipeline, or an object file');
    return values.pcap === undefined ? attaching(file, values) : replaying(file, values, values.pcap);
  },
  graph(args) {
    const { values, positionals } = parsed('graph', args, { svg: text, cost: flag, pcap: text, engine: text, json: flag });
    const { svg, pcap, cost = false } = values;
    if (svg === '') throw wrong('graph', '--svg is empty, expected a file');
    if (cost && svg !== undefined) throw wrong('graph', '--svg draws and --cost counts, expected one of them');
    if (pcap !== undefined && !cost) throw wrong('graph', '--pcap is what --cost measures by');
    if (values.engine !== undefined && pcap === undefined) throw wrong('graph', '--engine needs a capture: --pcap FILE');
    const engine = choice('graph', '--engine', values.engine, ['userspace', 'kernel']);
    const options = { ...(svg === undefined ? {} : { svg }), ...(pcap === undefined ? {} : { measure: { pcap, engine } }) };
    return { command: 'graph', file: fileOf('graph', positionals), ...options, cost, json: values.json === true };
  },
  build(args) {
    const { values, positionals } = parsed('build', args, { stage: text, json: flag });
    const stage = values.stage === undefined ? {} : { stage: values.stage };
    return { command: 'build', file: fileOf('build', positionals), ...stage, json: values.json === true };
  },
  pins(args) {
    const { values, positionals } = parsed('pins', args, { json: flag });
    noMore('pins', positionals);
    return { command: 'pins', json: values.json === true };
  },
  stop(args) {
    const [pipeline, ...more] = parsed('stop', args, {}).positionals;
    if (pipeline === undefined) throw wrong('stop', 'no pipeline, expected the name of one that is pinned');
    noMore('stop', more);
    return { command: 'stop', pipeline };
  },
  forget(args) {
    const [pipeline, map, ...more] = parsed('forget', args, {}).positionals;
    if (pipeline === undefined || map === undefined) throw wrong('forget', 'expected the names of a pinned pipeline and of a map of it');
    noMore('forget', more);
    return { command: 'forget', pipeline, map };
  },
  vm(args) {
    const { values, positionals } = parsed('vm', args, { engine: text, program: text });
    const [memory = '', ...more] = positionals;
    noMore('vm', more);
    const program = values.program === undefined ? {} : { program: values.program };
    return { command: 'vm', memory, ...program, engine: choice('vm', '--engine', values.engine, ['wasm', 'interpreter', 'kernel']) };
  },
};

const text = { type: 'string' } as const;
const several = { type: 'string', multiple: true, short: 'i' } as const;
const flag = { type: 'boolean' } as const;
const runOptions = {
  interface: several,
  netns: text,
  tc: text,
  xdp: text,
  interval: text,
  for: text,
  trace: text,
  drops: flag,
  canary: text,
  share: text,
  promote: text,
  persist: flag,
  pcap: text,
  engine: text,
  out: text,
  quiet: flag,
  section: text,
  direction: text,
  json: flag,
} as const;
type RunValues = ReturnType<typeof parsed<typeof runOptions>>['values'];

/** What only makes sense for packets of interfaces, and what only for those of a capture. */
const attachOnly = ['netns', 'tc', 'xdp', 'interval', 'for', 'trace', 'drops', 'persist', 'canary', 'share', 'promote'] as const;
const replayOnly = ['out', 'quiet'] as const;
const engines = ['userspace', 'interpreter', 'kernel'] as const;

function attaching(file: string, values: RunValues): RunCommandOptions {
  const engine = choice('run', '--engine', values.engine, engines);
  if (values.engine !== undefined && engine !== 'kernel')
    throw wrong('run', `--engine ${engine} has no packets of its own, expected a capture: --pcap FILE`);
  const interfaces = named('run', values.interface);
  if (interfaces.length === 0) throw wrong('run', 'no packets, expected --interface NAME or --pcap FILE');
  for (const name of replayOnly) if (values[name] !== undefined) throw wrong('run', `--${name} goes with --pcap, not with --interface`);
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
    ...(values.trace === undefined ? {} : { trace: whole('run', '--trace', values.trace, 0xffff_ffff) }),
    drops: values.drops === true,
    ...canaryOf(values),
    persist: values.persist === true,
    ...sectionOf(values),
    ...(values.direction === undefined ? {} : { direction: directionOf(values) }),
  };
}

function canaryOf({ canary: file, share, promote }: RunValues): { readonly canary?: CanaryFileOptions } {
  if (file === undefined) {
    const [alone] = Object.entries({ share, promote }).filter(([, value]) => value !== undefined);
    if (alone) throw wrong('run', `--${alone[0]} goes with --canary NEXT_FILE`);
    return {};
  }
  if (file === '') throw wrong('run', '--canary is empty, expected a module that exports the next pipeline');
  return {
    canary: {
      file,
      ...(share === undefined ? {} : { share: number('run', '--share', share, 100) / 100 }),
      ...(promote === undefined ? {} : { promoteMs: number('run', '--promote', promote, longestMs / 1000) * 1_000 }),
    },
  };
}

function replaying(file: string, values: RunValues, pcap: string): ReplayOptions {
  if (pcap === '') throw wrong('run', '--pcap is empty, expected a file, or - for the standard input');
  if (values.interface !== undefined) throw wrong('run', '--interface and --pcap both give packets, expected one of them');
  for (const name of attachOnly) if (values[name] !== undefined) throw wrong('run', `--${name} goes with --interface, not with --pcap`);
  const json = values.json === true;
  if (values.out === '') throw wrong('run', '--out is empty, expected a file, or - for the standard output');
  if (values.out === '-' && json) throw wrong('run', '--out - and --json both write to the standard output, expected one of them');
  return {
    command: 'replay',
    file,
    pcap,
    engine: choice('run', '--engine', values.engine, engines),
    direction: directionOf(values),
    ...sectionOf(values),
    ...(values.out === undefined ? {} : { out: values.out }),
    json,
    quiet: values.quiet === true,
  };
}

function directionOf({ direction }: RunValues): Direction {
  return choice('run', '--direction', direction, ['ingress', 'egress']);
}

function sectionOf({ section }: RunValues): { readonly section?: string } {
  if (section === '') throw wrong('run', '--section is empty, expected the name of a section or program');
  return section === undefined ? {} : { section };
}

function parsed<const O extends ParseArgsOptionsConfig>(command: CommandName, args: readonly string[], options: O) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    // ERR_PARSE_ARGS_*: a sentence, and sometimes one more with advice.
    if (!(error instanceof TypeError)) throw error;
    const [sentence = ''] = error.message.split(/\. |\n/);
    throw wrong(command, `${sentence.charAt(0).toLowerCase()}${sentence.slice(1)}`);
  }
}

function isName(name: string): name is CommandName {
  return Object.hasOwn(help, name);
}

function helpOf(name: string): string {
  if (!isName(name)) throw unknown(name);
  return help[name];
}

function unknown(name: string): UsageError {
  return new UsageError(`there is no command '${name}', expected ${commands}`, { hint: 'tailrace --help lists them' });
}

function wrong(command: CommandName, message: string): UsageError {
  return new UsageError(`${command}: ${message}`, { hint: `tailrace ${command} --help says more` });
}

function named(command: CommandName, interfaces: readonly string[] = []): readonly string[] {
  const twice = interfaces.find((name, at) => interfaces.indexOf(name) !== at);
  if (twice !== undefined) throw wrong(command, `interface ${twice} is listed twice`);
  return interfaces;
}

function netnsOf(netns: string | undefined): { readonly netns?: string } {
  return netns === undefined ? {} : { netns };
}

function fileOf(command: CommandName, positionals: readonly string[], expected = 'expected a module that exports a pipeline'): string {
  const [file, ...more] = positionals;
  if (file === undefined) throw wrong(command, `no file, ${expected}`);
  noMore(command, more);
  return file;
}

function noMore(command: CommandName, positionals: readonly string[]): void {
  if (positionals[0] !== undefined) throw wrong(command, `'${positionals[0]}' is one argument too many`);
}

function choice<const C extends string>(command: CommandName, option: string, value: string | undefined, choices: readonly [C, ...C[]]): C {
  if (value === undefined) return choices[0];
  const chosen = choices.find((one) => one === value);
  if (chosen === undefined) throw wrong(command, `${option} is '${value}', expected ${choices.join(', ')}`);
  return chosen;
}

function number(command: CommandName, option: string, value: string, most: number): number {
  const read = /^\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN;
  if (!(read > 0 && read <= most)) throw wrong(command, `${option} is '${value}', expected a number above 0, at most ${Math.floor(most)}`);
  return read;
}

function whole(command: CommandName, option: string, value: string, most: number): number {
  const read = number(command, option, value, most);
  if (!Number.isInteger(read)) throw wrong(command, `${option} is '${value}', expected a whole number`);
  return read;
}

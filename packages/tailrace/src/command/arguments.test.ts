import { expect, test } from 'vitest';
import { type Invocation, parseCommand, UsageError } from './arguments.ts';

const run = {
  command: 'run',
  file: 'edge.ts',
  interfaces: ['eth0'],
  tc: 'auto',
  xdp: 'auto',
  json: false,
  intervalMs: 1000,
  drops: false,
  persist: false,
} as const;
const replay = {
  command: 'replay',
  file: 'edge.ts',
  pcap: 'in.pcap',
  engine: 'userspace',
  direction: 'ingress',
  json: false,
  quiet: false,
} as const;

test.each<[string, Invocation]>([
  ['doctor', { command: 'doctor', interfaces: [], json: false }],
  ['doctor --interface eth0 -i eth1 --json', { command: 'doctor', interfaces: ['eth0', 'eth1'], json: true }],
  ['pins --json', { command: 'pins', json: true }],
  ['stop edge', { command: 'stop', pipeline: 'edge' }],
  ['forget edge edge/hits', { command: 'forget', pipeline: 'edge', map: 'edge/hits' }],
  ['doctor --netns blue', { command: 'doctor', interfaces: [], netns: 'blue', json: false }],
  ['run edge.ts --interface eth0', run],
  ['run edge.ts -i eth0 --trace 1000 --drops', { ...run, trace: 1000, drops: true }],
  ['run edge.ts -i eth0 --canary next.ts', { ...run, canary: { file: 'next.ts' } }],
  [
    'run edge.ts -i eth0 --canary next.ts --share 12.5 --promote 60',
    { ...run, canary: { file: 'next.ts', share: 0.125, promoteMs: 60_000 } },
  ],
  ['run edge.ts -i eth0 --persist', { ...run, persist: true }],
  ['run edge.ts -i eth0 --persist --drops --canary next.ts', { ...run, persist: true, drops: true, canary: { file: 'next.ts' } }],
  ['run --interface=eth0 --for 1.5 edge.ts', { ...run, forMs: 1500 }],
  [
    'run edge.ts -i eth0 --netns blue --tc clsact --xdp generic --json --interval 250',
    {
      ...run,
      netns: 'blue',
      tc: 'clsact',
      xdp: 'generic',
      json: true,
      intervalMs: 250,
    },
  ],
  ['run drop.o -i eth0 --engine kernel --section xdp --direction egress', { ...run, file: 'drop.o', section: 'xdp', direction: 'egress' }],
  ['run edge.ts --pcap in.pcap', replay],
  [
    'run drop.o --pcap - --engine kernel --section xdp --out out.pcap --json --quiet --direction egress',
    {
      ...replay,
      file: 'drop.o',
      pcap: '-',
      engine: 'kernel',
      section: 'xdp',
      out: 'out.pcap',
      json: true,
      quiet: true,
      direction: 'egress',
    },
  ],
  ['vm', { command: 'vm', memory: '', engine: 'wasm' }],
  ['vm --engine kernel aabb --program 9500', { command: 'vm', memory: 'aabb', program: '9500', engine: 'kernel' }],
  ['graph edge.ts', { command: 'graph', file: 'edge.ts', cost: false, json: false }],
  [
    'graph edge.ts --cost --pcap a.pcap --engine kernel',
    { command: 'graph', file: 'edge.ts', cost: true, measure: { pcap: 'a.pcap', engine: 'kernel' }, json: false },
  ],
  ['graph edge.ts --svg - --json', { command: 'graph', file: 'edge.ts', svg: '-', cost: false, json: true }],
  ['build edge.ts --stage l4lb.encap', { command: 'build', file: 'edge.ts', stage: 'l4lb.encap', json: false }],
  ['build --json -- --odd.ts', { command: 'build', file: '--odd.ts', json: true }],
  ['--version', { command: 'version' }],
])('%s', (line, expected) => {
  expect(parseCommand(line.split(' '))).toEqual(expected);
});

test.each([
  ['', 'no command, expected doctor, run, graph, build, vm, pins, stop or forget'],
  ['fly', "there is no command 'fly', expected doctor, run, graph, build, vm, pins, stop or forget"],
  ['help fly', "there is no command 'fly', expected doctor, run, graph, build, vm, pins, stop or forget"],
  ['toString', "there is no command 'toString', expected doctor, run, graph, build, vm, pins, stop or forget"],
  ['stop', 'stop: no pipeline, expected the name of one that is pinned'],
  ['stop edge core', "stop: 'core' is one argument too many"],
  ['forget edge', 'forget: expected the names of a pinned pipeline and of a map of it'],
  ['doctor eth0', "doctor: 'eth0' is one argument too many"],
  ['doctor --what', "doctor: unknown option '--what'"],
  ['doctor -i eth0 -i eth0', 'doctor: interface eth0 is listed twice'],
  ['doctor --json=yes', "doctor: option '--json' does not take an argument"],
  ['run --interface eth0', 'run: no file, expected a module that exports a pipeline, or an object file'],
  ['run edge.ts', 'run: no packets, expected --interface NAME or --pcap FILE'],
  ['run edge.ts --engine kernel', 'run: no packets, expected --interface NAME or --pcap FILE'],
  ['run edge.ts --engine userspace', 'run: --engine userspace has no packets of its own, expected a capture: --pcap FILE'],
  ['run edge.ts -i eth0 --engine interpreter', 'run: --engine interpreter has no packets of its own, expected a capture: --pcap FILE'],
  ['run edge.ts -i eth0 --trace 0', "run: --trace is '0', expected a number above 0, at most 4294967295"],
  ['run edge.ts -i eth0 --trace 1.5', "run: --trace is '1.5', expected a whole number"],
  ['run edge.ts -i eth0 --share 10', 'run: --share goes with --canary NEXT_FILE'],
  ['run edge.ts -i eth0 --promote 10', 'run: --promote goes with --canary NEXT_FILE'],
  ['run edge.ts -i eth0 --canary=', 'run: --canary is empty, expected a module that exports the next pipeline'],
  ['run edge.ts -i eth0 --canary next.ts --share 0', "run: --share is '0', expected a number above 0, at most 100"],
  ['run edge.ts -i eth0 --canary next.ts --share 101', "run: --share is '101', expected a number above 0, at most 100"],
  ['run edge.ts --pcap a.pcap --canary next.ts', 'run: --canary goes with --interface, not with --pcap'],
  ['run edge.ts --pcap a.pcap --drops', 'run: --drops goes with --interface, not with --pcap'],
  ['run edge.ts -i eth0 --out a.pcap', 'run: --out goes with --pcap, not with --interface'],
  ['run edge.ts -i eth0 --quiet', 'run: --quiet goes with --pcap, not with --interface'],
  ['run edge.ts -i eth0 --pcap a.pcap', 'run: --interface and --pcap both give packets, expected one of them'],
  ['run edge.ts --pcap a.pcap --for 3', 'run: --for goes with --interface, not with --pcap'],
  ['run edge.ts --pcap a.pcap --engine jit', "run: --engine is 'jit', expected userspace, interpreter, kernel"],
  ['run edge.ts --pcap a.pcap --direction up', "run: --direction is 'up', expected ingress, egress"],
  ['run edge.ts --pcap a.pcap --out - --json', 'run: --out - and --json both write to the standard output, expected one of them'],
  ['run edge.ts --pcap=', 'run: --pcap is empty, expected a file, or - for the standard input'],
  ['run edge.ts --pcap a.pcap --out=', 'run: --out is empty, expected a file, or - for the standard output'],
  ['run edge.ts --pcap a.pcap --section=', 'run: --section is empty, expected the name of a section or program'],
  ['vm 00 11', "vm: '11' is one argument too many"],
  ['run a.ts b.ts -i eth0', "run: 'b.ts' is one argument too many"],
  ['run edge.ts --interface', "run: option '-i, --interface <value>' argument missing"],
  ['run edge.ts -i eth0 --tc xdp', "run: --tc is 'xdp', expected auto, tcx, clsact"],
  ['run edge.ts -i eth0 --xdp fast', "run: --xdp is 'fast', expected auto, native, generic"],
  ['run edge.ts -i eth0 --interval 0', "run: --interval is '0', expected a number above 0, at most 2147483647"],
  ['run edge.ts -i eth0 --interval 1e3', "run: --interval is '1e3', expected a number above 0, at most 2147483647"],
  ['run edge.ts -i eth0 --for soon', "run: --for is 'soon', expected a number above 0, at most 2147483"],
  ['run edge.ts -i eth0 --for 2147484', "run: --for is '2147484', expected a number above 0, at most 2147483"],
  ['graph', 'graph: no file, expected a module that exports a pipeline'],
  ['graph edge.ts --svg=', 'graph: --svg is empty, expected a file'],
  ['graph edge.ts --svg - --cost', 'graph: --svg draws and --cost counts, expected one of them'],
  ['graph edge.ts --pcap a', 'graph: --pcap is what --cost measures by'],
  ['graph edge.ts --cost --engine kernel', 'graph: --engine needs a capture: --pcap FILE'],
])('wrong use: %s', (line, message) => {
  const act = (): Invocation => parseCommand(line === '' ? [] : line.split(' '));
  expect(act).toThrow(UsageError);
  expect(act).toThrow(expect.objectContaining({ message, hint: expect.stringContaining('--help') }));
});

test.each(['doctor', 'run', 'graph', 'build', 'vm', 'pins', 'stop', 'forget'])('help of %s, however it is asked for', (name) => {
  const asked = [
    ['help', name],
    [name, '--help'],
    [name, '-h'],
    [name, 'x.ts', '--help'],
  ].map(parseCommand);
  const [first] = asked;
  expect(first).toMatchObject({ command: 'help', text: expect.stringMatching(new RegExp(`^tailrace ${name} `)) });
  for (const other of asked) expect(other).toEqual(first);
});

test('the overview names every command', () => {
  const { text } = parseCommand(['--help']) as Extract<Invocation, { command: 'help' }>;
  for (const name of ['doctor', 'run', 'graph', 'build', 'vm', 'pins', 'stop', 'forget']) expect(text).toContain(`tailrace ${name}`);
  expect(parseCommand(['help'])).toEqual({ command: 'help', text });
});

import { expect, test } from 'vitest';
import { type Invocation, parseCommand, UsageError } from './arguments.ts';

const run = { command: 'run', file: 'edge.ts', interfaces: ['eth0'], tc: 'auto', xdp: 'auto', json: false, intervalMs: 1000 } as const;

test.each<[string, Invocation]>([
  ['doctor', { command: 'doctor', interfaces: [], json: false }],
  ['doctor --interface eth0 -i eth1 --json', { command: 'doctor', interfaces: ['eth0', 'eth1'], json: true }],
  ['doctor --netns blue', { command: 'doctor', interfaces: [], netns: 'blue', json: false }],
  ['run edge.ts --interface eth0', run],
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
  ['graph edge.ts', { command: 'graph', file: 'edge.ts', json: false }],
  ['graph edge.ts --svg - --json', { command: 'graph', file: 'edge.ts', svg: '-', json: true }],
  ['build edge.ts --stage l4lb.encap', { command: 'build', file: 'edge.ts', stage: 'l4lb.encap', json: false }],
  ['build --json -- --odd.ts', { command: 'build', file: '--odd.ts', json: true }],
  ['--version', { command: 'version' }],
])('%s', (line, expected) => {
  expect(parseCommand(line.split(' '))).toEqual(expected);
});

test.each([
  ['', 'no command, expected doctor, run, graph or build'],
  ['fly', "there is no command 'fly', expected doctor, run, graph or build"],
  ['help fly', "there is no command 'fly', expected doctor, run, graph or build"],
  ['toString', "there is no command 'toString', expected doctor, run, graph or build"],
  ['doctor eth0', "doctor: 'eth0' is one argument too many"],
  ['doctor --what', "doctor: unknown option '--what'"],
  ['doctor -i eth0 -i eth0', 'doctor: interface eth0 is listed twice'],
  ['doctor --json=yes', "doctor: option '--json' does not take an argument"],
  ['run --interface eth0', 'run: no file, expected a module that exports a pipeline'],
  ['run edge.ts', 'run: no interface, expected --interface NAME'],
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
])('wrong use: %s', (line, message) => {
  const act = (): Invocation => parseCommand(line === '' ? [] : line.split(' '));
  expect(act).toThrow(UsageError);
  expect(act).toThrow(expect.objectContaining({ message, hint: expect.stringContaining('--help') }));
});

test.each(['doctor', 'run', 'graph', 'build'])('help of %s, however it is asked for', (name) => {
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
  for (const name of ['doctor', 'run', 'graph', 'build']) expect(text).toContain(`tailrace ${name}`);
  expect(parseCommand(['help'])).toEqual({ command: 'help', text });
});

/** Runs one command line: what it asks for goes to standard output, what goes wrong to standard error. */
import { readFileSync } from 'node:fs';
import { ExitCode, parseCommand } from './arguments.ts';
import { build } from './build.ts';
import { cost } from './cost.ts';
import { doctor } from './doctor.ts';
import { reportFailure, reportLine } from './failure.ts';
import { graph } from './graph.ts';
import { type Input, type Outputs, outputOn } from './output.ts';
import { forget, pins, stop } from './pins.ts';
import { replay } from './replay.ts';
import { run } from './run.ts';
import { vm } from './vm.ts';

/** Runs the command that the arguments ask for and returns its exit code. Throws nothing. */
export async function main(
  args: readonly string[],
  outputs: Outputs = standardOutputs(),
  input: Input = () => process.stdin,
): Promise<number> {
  const { output, errors } = outputs;
  try {
    const asked = parseCommand(args);
    switch (asked.command) {
      case 'help':
        output.write(asked.text);
        return ExitCode.fine;
      case 'version':
        output.write(`${version()}\n`);
        return ExitCode.fine;
      case 'doctor':
        return await doctor(asked, output);
      case 'run':
        return await run(asked, outputs);
      case 'graph':
        return await (asked.cost ? cost(asked, output, input) : graph(asked, output));
      case 'build':
        return await build(asked, output);
      case 'replay':
        return await replay(asked, outputs, input);
      case 'pins':
        return await pins(asked, output);
      case 'stop':
        return await stop(asked, output);
      case 'forget':
        return await forget(asked, output);
      case 'vm':
        return await vm(asked, output, input);
    }
  } catch (error) {
    return args[0] === 'vm' ? reportLine(error, errors) : reportFailure(error, errors);
  }
}

function standardOutputs(): Outputs {
  const { stdout, stderr, env } = process;
  return { output: outputOn(stdout, env), errors: outputOn(stderr, env) };
}

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { readonly version: string };
  return manifest.version;
}

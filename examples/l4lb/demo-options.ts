/** What the demo's command line asks for, and the engine that it gets. */
import { release } from 'node:os';
import { parseArgs } from 'node:util';
import { ArgumentError, requireBpf, requireCapabilities, requireKernel, TailraceError } from 'tailrace';

/** The command line is wrong. */
export class UsageError extends ArgumentError {}

/** What is asked for. */
export interface DemoOptions {
  /** Default: the kernel where that can be. */
  readonly engine?: 'kernel' | 'userspace';
  /** Where the packets that left go, of the userspace engine. */
  readonly out?: string;
}

/** The engine that runs, with the reason in words. */
export interface EngineChoice {
  readonly engine: 'kernel' | 'userspace';
  readonly why: string;
}

const usage = 'usage: demo [--engine kernel|userspace] [--out FILE]';

/** Reads the command line, without the program's own name. Throws UsageError. */
export function parseDemoOptions(args: readonly string[]): DemoOptions {
  const { engine, out } = parsed(args);
  if (engine !== undefined && engine !== 'kernel' && engine !== 'userspace')
    throw wrong(`--engine is '${engine}', expected kernel or userspace`);
  if (out === '') throw wrong('--out is empty, expected a file');
  if (out !== undefined && engine === 'kernel') throw wrong('--out is for the userspace engine, the kernel sends packets on');
  return { ...(engine === undefined ? {} : { engine }), ...(out === undefined ? {} : { out }) };
}

/**
 * Chooses the engine: the kernel where it may be used. `check` throws where it may not, and attaches nothing. Throws what `check`
 * throws where the kernel was asked for.
 */
export function chooseEngine({ engine, out }: DemoOptions, check: () => void = requireKernelEngine): EngineChoice {
  if (engine === 'userspace') return { engine, why: 'as --engine says' };
  if (out !== undefined) return { engine: 'userspace', why: 'since --out wants a capture' };
  try {
    check();
  } catch (error) {
    if (engine === 'kernel' || !(error instanceof TailraceError)) throw error;
    return { engine: 'userspace', why: `since ${error.message}` };
  }
  const [version = ''] = release().split('-');
  return { engine: 'kernel', why: engine === undefined ? `since this process may load eBPF into Linux ${version}` : 'as --engine says' };
}

/** Throws UnsupportedError, PrivilegeError and SyscallError where the demo cannot run in the kernel. */
function requireKernelEngine(): void {
  requireKernel();
  requireCapabilities(true);
  requireBpf();
}

function parsed(args: readonly string[]): { readonly engine?: string | undefined; readonly out?: string | undefined } {
  try {
    return parseArgs({ args: [...args], options: { engine: { type: 'string' }, out: { type: 'string' } }, strict: true }).values;
  } catch (error) {
    // ERR_PARSE_ARGS_*: a sentence, and sometimes one more with advice
    if (!(error instanceof TypeError)) throw error;
    const [sentence = ''] = error.message.split(/\. |\n/);
    throw wrong(`${sentence.charAt(0).toLowerCase()}${sentence.slice(1)}`);
  }
}

function wrong(message: string): UsageError {
  return new UsageError(message, { hint: usage });
}

/**
 * Runs stages with mistakes in them in plain Node, where users run theirs, and tells on stdout what came of each: the
 * message and its long form. Started by mistakes.kernel.test.ts.
 */
import { writeSync } from 'node:fs';
import type { Instruction } from '@tailrace/bpf';
import { compileFused, compileRoot, compileStage, outcomesOf } from '@tailrace/compiler';
import {
  type AnyStage,
  CompileError,
  Compiler,
  formatDiagnostic,
  formatVerifierError,
  kernel,
  override,
  pipeline,
  type RunOptions,
  stage,
  VerifierError,
} from 'tailrace';

/** What is told of one stage. */
export interface Told {
  readonly name: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly place: { readonly file: string; readonly line: number; readonly column: number } | undefined;
  /** As it is shown to people. */
  readonly shown: string;
  /** With the verifier's log, where there is one. */
  readonly full: string;
}

const outer = 7;
const greedy = stage({
  name: 'greedy',
  hook: 'xdp',
  program: (ctx) => (ctx.length > outer ? ctx.drop() : ctx.next()),
});

const expired = stage({
  name: 'expired',
  hook: 'xdp',
  program(ctx) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    return ip.ttl < 2 ? ctx.drop() : ctx.next();
  },
});

/** A compiler that reads the TTL, 22 bytes into the packet, far behind what was checked. */
const careless = {
  compileFused,
  compileRoot,
  outcomesOf,
  compileStage(...args: Parameters<typeof compileStage>) {
    const { program, ...rest } = compileStage(...args);
    const far = (instruction: Instruction): Instruction => (instruction.offset === 22 ? { ...instruction, offset: 2_000 } : instruction);
    return { ...rest, program: { ...program, instructions: program.instructions.map(far) } };
  },
};

async function told(wrong: AnyStage, options: RunOptions = {}): Promise<Told> {
  try {
    const members: AnyStage[] = [wrong];
    await using running = await pipeline('edge', { xdp: members }).run(kernel({ interfaces: [] }), options);
    return { name: 'none', message: running.name, hint: undefined, place: undefined, shown: '', full: '' };
  } catch (error) {
    if (error instanceof CompileError) {
      const { name, message, hint, diagnostic } = error;
      const shown = formatDiagnostic(diagnostic);
      return { name, message, hint, place: diagnostic.place, shown, full: shown };
    }
    if (!(error instanceof VerifierError)) throw error;
    const { name, message, hint, source } = error;
    return { name, message, hint, place: source, shown: formatVerifierError(error), full: formatVerifierError(error, { log: true }) };
  }
}

if (import.meta.main) writeSync(1, JSON.stringify([await told(greedy), await told(expired, { services: [override(Compiler, careless)] })]));

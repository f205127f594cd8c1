/**
 * Text to instructions: exactly what `disassemble` prints, with labels besides. A line holds `label:`, an instruction or
 * nothing; `;` and `//` start comments; a leading `pc:` is checked. Grammar of operands: instruction-parser.ts.
 */
import { EncodingError } from './errors.ts';
import { checkInstruction } from './form.ts';
import { type Instruction, slotsOf } from './instruction.ts';
import { type ParsedInstruction, parseInstruction } from './instruction-parser.ts';
import type { MapReference } from './program.ts';
import { Scanner } from './scanner.ts';

/** What a text assembles to. */
export interface Assembly {
  readonly instructions: readonly Instruction[];
  /** Maps that the text names: `r1 = map[conns]`. */
  readonly mapReferences: readonly MapReference[];
  /** Instruction slots by label. */
  readonly labels: ReadonlyMap<string, number>;
}

/** Assembles a program. Throws AssemblyError with line, column and a caret. */
export function assemble(source: string): Assembly {
  const labels = new Map<string, number>();
  const placed: { readonly pc: number; readonly scanner: Scanner; readonly parsed: ParsedInstruction }[] = [];
  let pc = 0;
  for (const [index, text] of source.split('\n').entries()) {
    const scanner = new Scanner(text.trimEnd(), index + 1);
    takeLabels(scanner, labels, pc);
    if (scanner.done) continue;
    const parsed = guarded(scanner, scanner.column, () => {
      const parsed = parseInstruction(scanner);
      checkInstruction(parsed.instruction);
      return parsed;
    });
    if (!scanner.done) scanner.fail('expected the end of the line');
    placed.push({ pc, scanner, parsed });
    pc += slotsOf(parsed.instruction);
  }
  const instructions = placed.map(({ pc, scanner, parsed }) => link(parsed, pc, labels, scanner));
  const mapReferences = placed.flatMap(({ pc, parsed }) => (parsed.map ? [{ pc, ...parsed.map }] : []));
  return { instructions, mapReferences, labels };
}

/** `name:` defines a label, `12:` must be the slot the line is at. */
function takeLabels(scanner: Scanner, labels: Map<string, number>, pc: number): void {
  for (;;) {
    const column = scanner.column;
    const match = scanner.take(/([A-Za-z_$][\w.$/-]*|\d+):/y);
    const label = match?.[1];
    if (label === undefined) return;
    if (/^\d/.test(label)) {
      if (Number(label) !== pc) scanner.fail(`this line is at pc ${pc}`, column);
    } else if (labels.has(label)) scanner.fail(`label ${label} is defined twice`, column);
    else labels.set(label, pc);
  }
}

/** Fills in the distance to a label. */
function link({ instruction, target }: ParsedInstruction, pc: number, labels: ReadonlyMap<string, number>, scanner: Scanner): Instruction {
  if (!target) return instruction;
  const to = labels.get(target.label);
  if (to === undefined) return scanner.fail(`unknown label ${target.label}`, target.column);
  return guarded(scanner, target.column, () => target.link(to - pc - 1));
}

/** Gives a field out of range the place in the text. */
function guarded<Result>(scanner: Scanner, column: number, make: () => Result): Result {
  try {
    return make();
  } catch (error) {
    if (error instanceof EncodingError && error.field !== 'text') return scanner.fail(error.message, column);
    throw error;
  }
}

/** Control flow of any shape: as WebAssembly it goes the way that the interpreter goes, turn by turn. */
import { assemble, type Instruction, insn, reg } from '@tailrace/bpf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { codeOf } from './code.ts';
import { graphsOf } from './control-flow.ts';
import { runProgram, type VmOptions } from './vm.ts';

const MEMORY = new Uint8Array(8);

function ended(program: readonly Instruction[], options: VmOptions): string {
  try {
    return `r0 = ${runProgram(program, MEMORY, options).value}`;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Runs a program both ways; fails where they differ. */
function agree(program: readonly Instruction[], turnLimit?: number): string {
  const limit = turnLimit === undefined ? {} : { turnLimit };
  const reference = ended(program, { mode: 'interpreter', ...limit });
  expect(ended(program, { mode: 'wasm', ...limit })).toBe(reference);
  return reference;
}

const isReducible = (instructions: readonly Instruction[]): boolean =>
  graphsOf(codeOf({ name: 'sample', instructions, mapReferences: [] })).every((graph) => graph.isReducible);

/** A block that mixes its number into r0 and counts r6 down, and what it does then. */
interface RandomBlock {
  readonly kind: 'next' | 'jump' | 'branch' | 'exit';
  /** Where it goes, as a share of all blocks. */
  readonly to: number;
  readonly condition: 'eq' | 'ne' | 'gt' | 'slt' | 'set';
  readonly operand: number;
}

/** Blocks of one size, four slots each, behind two that start r0 and r6. Jumps go anywhere, also backwards and into loops. */
function programOf(blocks: readonly RandomBlock[]): Instruction[] {
  const size = 4;
  const instructions = [insn.mov(0, 1), insn.mov(6, 0)];
  for (const [index, { kind, to, condition, operand }] of blocks.entries()) {
    const distance = (Math.min(blocks.length - 1, Math.floor(to * blocks.length)) - index) * size - size;
    instructions.push(insn.alu64('mul', 0, 31), insn.alu64('add', 0, index), insn.alu32('xor', 6, reg(0)));
    if (kind === 'exit' || index === blocks.length - 1) instructions.push(insn.exit());
    else if (kind === 'next') instructions.push(insn.alu64('rsh', 6, 1));
    else if (kind === 'jump') instructions.push(insn.ja(distance));
    else instructions.push(insn.jump(condition, 6, operand, distance));
  }
  return instructions;
}

const block = fc.record<RandomBlock>({
  kind: fc.constantFrom('next', 'jump', 'branch', 'branch', 'branch', 'branch', 'exit'),
  to: fc.nat(999).map((thousandths) => thousandths / 1000),
  condition: fc.constantFrom('eq', 'ne', 'gt', 'slt', 'set'),
  operand: fc.integer({ min: -4, max: 0x7fff }),
});

test('any graph, and the limit of turns at the same one', () => {
  let irreducible = 0;
  fc.assert(
    fc.property(fc.array(block, { minLength: 4, maxLength: 24, size: 'max' }), fc.integer({ min: 1, max: 60 }), (blocks, turnLimit) => {
      const program = programOf(blocks);
      if (!isReducible(program)) irreducible++;
      agree(program, turnLimit);
    }),
    { numRuns: 120 },
  );
  // so the dispatcher has its share
  expect(irreducible).toBeGreaterThan(10);
});

test('graphs of hundreds of blocks', () => {
  fc.assert(
    fc.property(fc.array(block, { minLength: 200, maxLength: 400 }), (blocks) => {
      agree(programOf(blocks), 5000);
    }),
    { numRuns: 6 },
  );
});

/** Structured code, so reducible: sequences, conditions, loops with a way out in the middle. */
type Statement =
  | { readonly kind: 'mix'; readonly number: number }
  | { readonly kind: 'both' | 'if' | 'loop'; readonly bit: number; readonly a: Statement; readonly b: Statement };

const statement = fc.letrec<{ node: Statement }>((tie) => ({
  node: fc.oneof(
    { depthSize: 'medium' },
    fc.record({ kind: fc.constant('mix' as const), number: fc.nat(99) }),
    fc.record({ kind: fc.constantFrom('both' as const, 'if' as const, 'loop' as const), bit: fc.nat(7), a: tie('node'), b: tie('node') }),
  ),
})).node;

function textOf(root: Statement): string {
  let labels = 0;
  const write = (node: Statement): string => {
    if (node.kind === 'mix') return `r0 *= 3\n r0 += ${node.number}`;
    const [a, b] = [write(node.a), write(node.b)];
    if (node.kind === 'both') return `${a}\n ${b}`;
    const [start, end] = [`l${labels++}`, `l${labels++}`];
    const bit = 1 << node.bit;
    if (node.kind === 'if') return `if r0 & ${bit} goto ${start}\n ${a}\n goto ${end}\n ${start}: ${b}\n ${end}: r0 += 1`;
    return `${start}: ${a}\n r6 += -1\n if r6 s<= 0 goto ${end}\n if r0 & ${bit} goto ${end}\n ${b}\n goto ${start}\n ${end}: r0 ^= r6`;
  };
  return `r0 = 1\n r6 = 200\n ${write(root)}\n exit`;
}

test('conditions and loops in each other', () => {
  fc.assert(
    fc.property(statement, fc.integer({ min: 1, max: 300 }), (root, turnLimit) => {
      const { instructions } = assemble(textOf(root));
      expect(isReducible(instructions)).toBe(true);
      agree(instructions, turnLimit);
    }),
    { numRuns: 60 },
  );
});

describe('shapes', () => {
  const shapes: readonly (readonly [name: string, text: string, end: string])[] = [
    ['a loop of one block', 'r0 = 0\n again: r0 += 1\n if r0 < 10 goto again\n exit', 'r0 = 10'],
    ['a jump to the next instruction', 'r0 = 3\n if r0 == 3 goto +0\n goto +0\n exit', 'r0 = 3'],
    ['a loop that starts where the program does', 'w0 += 1\n if w0 < 10 goto -2\n exit', 'r0 = 10'],
    [
      'a loop with two ways in',
      'r0 = 0\n r1 = 1\n if r1 == 1 goto middle\n again: r0 += 1\n middle: r0 += 10\n if r0 < 50 goto again\n exit',
      'r0 = 54',
    ],
    ['two loops that cross', 'r0 = 0\n a: r0 += 1\n b: r0 += 10\n if r0 < 40 goto a\n r0 += 100\n if r0 < 400 goto b\n exit', 'r0 = 474'],
    [
      'a way out of three loops',
      'r0 = 0\n a: r1 = 0\n b: r2 = 0\n c: r0 += 1\n if r0 == 77 goto out\n r2 += 1\n if r2 < 5 goto c\n r1 += 1\n if r1 < 5 goto b\n goto a\n out: exit',
      'r0 = 77',
    ],
    ['code that nothing reaches', 'r0 = 1\n goto end\n dead: r0 = 2\n if r0 == 2 goto dead\n exit\n end: exit', 'r0 = 1'],
    ['a function that nothing calls', 'start: r0 = 1\n exit\n call never\n exit\n never: call start\n exit', 'r0 = 1'],
    [
      'functions that share their end',
      'call a\n r6 = r0\n call b\n r0 += r6\n exit\n a: r0 = 1\n goto both\n b: r0 = 20\n both: r0 += 100\n exit',
      'r0 = 221',
    ],
    [
      'a loop of a function that comes in by its middle',
      'call b\n r6 = r0\n call a\n r0 += r6\n exit\n a: r0 = 1\n goto a2\n b: r0 = 5\n again: r0 += 1\n a2: r0 += 10\n if r0 < 40 goto again\n exit',
      'r0 = 93',
    ],
    ['no end', 'r0 = 0\n again: goto again', 'program program, pc 1: too many turns of loops, expected the program to end'],
    ['no end, far away', 'r0 = 0\n again: gotol again', 'program program, pc 1: too many turns of loops, expected the program to end'],
  ];
  test.each(shapes)('%s', (_name, text, end) => {
    expect(agree(assemble(text).instructions, 1000)).toBe(end);
  });

  test('the limit is a number of turns', () => {
    const { instructions } = assemble('r0 = 0\n again: r0 += 1\n if r0 < 10 goto again\n exit');
    expect(agree(instructions, 10)).toBe('r0 = 10');
    expect(agree(instructions, 9)).toBe('program program, pc 2: too many turns of loops, expected the program to end');
    const { instructions: twice } = assemble('call f\n call f\n exit\n f: r0 = 0\n again: r0 += 1\n if r0 < 10 goto again\n exit');
    expect(agree(twice, 19)).toBe('r0 = 10');
    expect(agree(twice, 18)).toBe('program program, pc 5: too many turns of loops, expected the program to end');
  });
});

describe('size', () => {
  const many = (count: number, write: (index: number) => string): string =>
    Array.from({ length: count }, (_, index) => write(index)).join('\n');
  const sizes: readonly (readonly [name: string, text: string, end: string])[] = [
    ['conditions in a row', `r0 = 0\n r1 = 7\n ${many(5000, (i) => `if r1 == ${i} goto +1\n r0 += 1`)}\n exit`, 'r0 = 4999'],
    ['conditions in each other', `r0 = 0\n r1 = -1\n ${many(5000, (i) => `if r1 == ${i} goto end`)}\n r0 = 9\n end: exit`, 'r0 = 9'],
    [
      'ways in and out in each other',
      `r0 = 0\n r1 = -1\n ${many(3000, (i) => `if r1 == ${i} goto a${i}`)}\n r0 = 2\n ${many(3000, (i) => `a${2999 - i}: r0 += 1`)}\n exit`,
      'r0 = 3002',
    ],
    ['loops in a row', `r0 = 0\n ${many(1500, () => 'r0 += 1\n r2 = r0\n r2 &= 1\n if r2 == 1 goto -4')}\n exit`, 'r0 = 3000'],
    [
      'loops in each other',
      `r0 = 0\n ${many(2000, (i) => `a${i}: r0 += 1`)}\n r6 = r0\n ${many(2000, (i) => `r6 += -1\n if r6 == 500 goto a${1999 - i}`)}\n exit`,
      'r0 = 3500',
    ],
    [
      'a dispatcher',
      `r0 = 0\n r1 = 7\n if r1 == 3 goto mid\n head: r0 += 1\n mid: r0 += 2\n if r0 < 10 goto head\n ${many(3000, (i) => `if r1 == ${i} goto +1\n r0 += 1`)}\n exit`,
      'r0 = 3011',
    ],
  ];
  test.each(sizes)('%s', (_name, text, end) => {
    expect(agree(assemble(text).instructions)).toBe(end);
  });

  test('calls to the last frame, and none behind it', () => {
    const chain = (depth: number): string =>
      `r1 = 5\n call f1\n exit\n ${many(depth - 1, (i) => `f${i + 1}: r1 += 1\n call f${i + 2}\n r0 += 1\n exit`)}\n f${depth}: r0 = r1\n exit`;
    expect(agree(assemble(chain(7)).instructions)).toBe('r0 = 17');
    expect(agree(assemble(chain(8)).instructions)).toBe('pc 1: calls nest more than 8 deep');
  });

  test('many calls of functions that call many', () => {
    const functions = many(6, (i) => `f${i}: ${many(400, () => (i === 5 ? 'r0 += 1' : `call f${i + 1}`))}\n exit`);
    expect(agree(assemble(`call f0\n exit\n ${functions.replaceAll('call f1\n', '')}`).instructions)).toBe('r0 = 0');
  });

  test('a function that calls itself', () => {
    expect(agree(assemble('r0 = 0\n call f\n exit\n f: call g\n exit\n g: if r1 == 0 goto +1\n call f\n exit').instructions)).toBe(
      'pc 6: a function calls itself',
    );
  });
});

/** Statements. Loops are run at compile time, step by step, so their bound must follow from constants. */
import type {
  Expression,
  ForOfStatement,
  ForStatement,
  LabeledStatement,
  Pattern,
  Statement,
  SwitchStatement,
  Node as SyntaxNode,
  VariableDeclaration,
} from 'acorn';
import { noVerdict } from './argument.ts';
import { condition } from './condition.ts';
import { readMember } from './member.ts';
import { member, present, readPlace } from './memory.ts';
import { describe, type Operand, UNDEFINED, type Variable } from './operand.ts';
import type { Join } from './path.ts';
import { functionScope, type LoopTargets, type Program } from './program.ts';

/** Steps of one loop. */
const MAX_STEPS = 256;

export function statements(
  program: Program,
  body: readonly SyntaxNode[],
  leave: (node: SyntaxNode, value: Expression | undefined) => void,
): void {
  for (const node of body) {
    if (!program.lowering.block) return;
    statement(program, node as Statement, leave);
  }
}

type Leave = (node: SyntaxNode, value: Expression | undefined) => void;

function statement(program: Program, node: Statement, leave: Leave, label?: string): void {
  const { lowering } = program;
  lowering.at(node);
  switch (node.type) {
    case 'VariableDeclaration':
      return declaration(program, node);
    case 'ExpressionStatement':
      return program.effect(node.expression);
    case 'ReturnStatement':
      return leave(node, node.argument ?? undefined);
    case 'BlockStatement':
      return scoped(program, () => statements(program, node.body, leave));
    case 'EmptyStatement':
      return;
    case 'IfStatement': {
      const [then, otherwise, done] = [lowering.newJoin(), lowering.newJoin(), lowering.newJoin()];
      condition(program, node.test, then, otherwise);
      lowering.enter(then);
      if (lowering.block) scoped(program, () => statement(program, node.consequent, leave));
      lowering.jump(done);
      lowering.enter(otherwise);
      if (lowering.block && node.alternate) scoped(program, () => statement(program, node.alternate as Statement, leave));
      lowering.jump(done);
      lowering.enter(done);
      return;
    }
    case 'ForStatement':
      return scoped(program, () => loop(program, node, label, leave));
    case 'WhileStatement':
      return loop(program, { ...node, type: 'ForStatement', init: null, update: null } as ForStatement, label, leave);
    case 'ForOfStatement':
      return forOf(program, node, label, leave);
    case 'SwitchStatement':
      return scoped(program, () => switchStatement(program, node, leave));
    case 'LabeledStatement':
      return labelled(program, node, leave);
    case 'BreakStatement': {
      const target = program.loops.findLast((l) => (node.label ? l.label === node.label.name : !l.onlyByLabel));
      return target ? lowering.jump(target.done) : lowering.fail(node, 'syntax', 'there is nothing to break out of');
    }
    case 'ContinueStatement': {
      const target = program.loops.findLast((l) => l.next && (node.label ? l.label === node.label.name : true));
      return target?.next ? lowering.jump(target.next) : lowering.fail(node, 'syntax', 'there is no loop to continue');
    }
    case 'FunctionDeclaration':
      return lowering.fail(node, 'syntax', 'a program cannot make functions', 'declare it with fn() and pass it through uses');
    case 'TryStatement':
    case 'ThrowStatement':
      return lowering.fail(node, 'syntax', 'programs have no exceptions', 'return a verdict');
    case 'DoWhileStatement':
    case 'ForInStatement':
      return lowering.fail(
        node,
        'syntax',
        `${node.type === 'ForInStatement' ? 'for … in' : 'do … while'} is not part of the language`,
        'write a for loop with a constant bound',
      );
    default:
      return lowering.fail(
        node,
        'syntax',
        `${node.type.replace(/(Statement|Declaration)$/, '').toLowerCase()} is not part of the language`,
      );
  }
}

/** A label on a loop is the loop's; on anything else only `break` uses it. */
function labelled(program: Program, node: LabeledStatement, leave: Leave): void {
  const { lowering } = program;
  const { body, label } = node;
  if (body.type === 'ForStatement' || body.type === 'ForOfStatement' || body.type === 'WhileStatement')
    return statement(program, body, leave, label.name);
  const done = lowering.newJoin();
  program.loops.push({ label: label.name, done, next: undefined, onlyByLabel: true });
  statement(program, body, leave);
  program.loops.pop();
  lowering.jump(done);
  lowering.enter(done);
}

function scoped(program: Program, body: () => void): void {
  const outer = program.scope;
  const scope = { names: new Map<string, Variable>(), parent: outer };
  program.scope = scope;
  body();
  program.scope = outer;
  // nothing is kept for names that are out of reach
  for (const variable of scope.names.values()) program.lowering.environment.values.delete(variable);
}

function declaration(program: Program, node: VariableDeclaration): void {
  const { lowering } = program;
  if (node.kind === 'using' || node.kind === 'await using')
    lowering.fail(node, 'syntax', `${node.kind} is not part of the language`, 'write const');
  for (const { id, init } of node.declarations) {
    const value = init ? program.expression(init) : UNDEFINED;
    noVerdict(lowering, init ?? node, value);
    if (init || node.kind !== 'var') bind(program, id, value, node.kind, init ?? id);
    // `var x;` leaves what x has
    else if (id.type !== 'Identifier' || !functionScope(program.scope).names.has(id.name)) bind(program, id, value, node.kind, id);
  }
}

/** Binds a name or an object pattern; messages say that the value is `of`. */
export function bind(program: Program, pattern: Pattern, value: Operand, kind: VariableDeclaration['kind'], of: SyntaxNode): void {
  const { lowering } = program;
  if (pattern.type === 'Identifier') {
    program.declare(pattern.name, value, kind);
    return;
  }
  if (pattern.type !== 'ObjectPattern') return lowering.fail(pattern, 'syntax', 'only names and object patterns can be declared');
  for (const property of pattern.properties) {
    if (property.type !== 'Property' || property.computed || property.key.type !== 'Identifier')
      return lowering.fail(property, 'syntax', 'object patterns take plain names');
    bind(program, property.value, readMember(program, property.key, of, value, property.key.name), kind, property);
  }
}

function loop(program: Program, node: ForStatement, label: string | undefined, leave: Leave): void {
  const { lowering } = program;
  if (node.init) {
    if (node.init.type === 'VariableDeclaration') declaration(program, node.init);
    else program.effect(node.init);
  }
  const done = lowering.newJoin();
  for (let step = 0; lowering.block; step++) {
    if (step > MAX_STEPS)
      lowering.fail(node, 'loop', `the loop may run more than ${MAX_STEPS} times`, 'give it a constant bound: for (let i = 0; i < 8; i++)');
    const body = lowering.newJoin();
    if (node.test) condition(program, node.test, body, done);
    else lowering.jump(body);
    lowering.enter(body);
    if (!lowering.block) break;
    iterate(program, done, label, () => statement(program, node.body, leave));
    if (lowering.block && node.update) program.effect(node.update);
  }
  lowering.enter(done);
}

/** One step of a loop; goes on after `continue` and at the end of the body. */
function iterate(program: Program, done: Join, label: string | undefined, body: () => void): void {
  const next = program.lowering.newJoin();
  const targets: LoopTargets = { label, done, next };
  program.loops.push(targets);
  scoped(program, body);
  program.loops.pop();
  program.lowering.jump(next);
  program.lowering.enter(next);
}

function forOf(program: Program, node: ForOfStatement, label: string | undefined, leave: Leave): void {
  const { lowering } = program;
  const list = program.expression(node.right);
  const items = itemsOf(program, node.right, list);
  const { left } = node;
  if (left.type !== 'VariableDeclaration') return lowering.fail(left, 'syntax', 'declare the loop variable: for (const x of …)');
  const done = lowering.newJoin();
  for (const item of items) {
    if (!lowering.block) break;
    iterate(program, done, label, () => {
      bind(program, left.declarations[0]?.id as Pattern, item(), left.kind, node.right);
      statement(program, node.body, leave);
    });
  }
  lowering.jump(done);
  lowering.enter(done);
}

function itemsOf(program: Program, node: Expression, list: Operand): readonly (() => Operand)[] {
  const { lowering } = program;
  if (list.kind === 'list') return list.items.map((item) => () => item);
  if (list.kind === 'ref' && list.layout.kind === 'array') {
    const { item, length } = list.layout;
    if (length > MAX_STEPS) lowering.fail(node, 'loop', `the array has ${length} elements, at most ${MAX_STEPS} can be gone through`);
    return Array.from({ length }, (_, i) => () => readPlace(lowering, member(present(lowering, node, list), item, i * item.size)));
  }
  return lowering.fail(node, 'type', `${describe(list)} cannot be gone through`, 'for … of takes a constant array or an array in memory');
}

function switchStatement(program: Program, node: SwitchStatement, leave: Leave): void {
  const { lowering } = program;
  const done = lowering.newJoin();
  const value = program.declare(`(switch ${node.start})`, program.expression(node.discriminant), 'const');
  const bodies = node.cases.map(() => lowering.newJoin());
  node.cases.forEach(({ test }, i) => {
    if (!test || !lowering.block) return;
    const next = lowering.newJoin();
    const comparison = {
      type: 'BinaryExpression',
      operator: '===',
      left: { type: 'Identifier', name: value.name, start: node.discriminant.start, end: node.discriminant.end },
      right: test,
      start: test.start,
      end: test.end,
    };
    condition(program, comparison as unknown as Expression, bodies[i] as Join, next);
    lowering.enter(next);
  });
  const fallback = node.cases.findIndex((c) => !c.test);
  lowering.jump(fallback < 0 ? done : (bodies[fallback] as Join));
  program.loops.push({ label: undefined, done, next: undefined });
  node.cases.forEach(({ consequent }, i) => {
    // falls through from the case before
    lowering.jump(bodies[i] as Join);
    lowering.enter(bodies[i] as Join);
    if (lowering.block) statements(program, consequent, leave);
  });
  program.loops.pop();
  lowering.jump(done);
  lowering.enter(done);
}

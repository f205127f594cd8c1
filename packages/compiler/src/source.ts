/**
 * A function's source: captured from the live value, parsed, and freed of what tools inject (names that bundlers keep,
 * coverage counters, `(0, f)()`, `void 0`, `!0`). Places lead back to the user's own file through locate.ts.
 */
import { type Expression, type Node, type Function as ParsedFunction, parseExpressionAt } from 'acorn';
import { CompileError } from './diagnostic.ts';
import type { Place } from './ir.ts';
import { type Located, locate } from './locate.ts';

export interface Source {
  readonly stage: string;
  readonly text: string;
  readonly node: ParsedFunction;
  /** The user's file, line and column of a node. */
  place(node: Node): Place;
  /** The text of a node. */
  textOf(node: Node): string;
}

const cache = new WeakMap<object, Source>();

/** Captures and parses a function. Throws CompileError ('source') where it has no readable source. */
export function readSource(fn: (...args: never[]) => unknown, stage: string): Source {
  const known = cache.get(fn);
  if (known) return known.stage === stage ? known : { ...known, stage };
  const text = Function.prototype.toString.call(fn);
  const refuse = (message: string, hint?: string): never => {
    throw new CompileError({ id: 'source', stage, message, hint, length: 1 });
  };
  if (/\{\s*\[native code\]\s*\}$/.test(text)) refuse('the program is a native or bound function', 'pass the function itself');
  const parsed = parse(text);
  if (!parsed) return refuse('the source of the program cannot be parsed', 'write it as a function, an arrow or a method');
  const { node, shift } = parsed;
  let located: Located | undefined;
  const source: Source = {
    stage,
    text,
    node,
    textOf: (n) => text.slice(n.start - shift, n.end - shift),
    place(n) {
      located ??= locate(fn, text);
      return located.place(n.start - shift);
    },
  };
  if (node.async || node.generator) {
    const message = `the program is ${node.async ? 'async' : 'a generator'}`;
    const length = text.split('\n')[0]?.length ?? 1;
    throw new CompileError({
      id: 'source',
      stage,
      message,
      hint: 'a program runs to its verdict in one go',
      place: locate(fn, text).place(0),
      length,
    });
  }
  cache.set(fn, source);
  return source;
}

/** A function expression or an arrow stands alone; a method needs an object around it. */
function parse(text: string): { node: ParsedFunction; shift: number } | undefined {
  for (const [before, after] of [
    ['(', ')'],
    ['({', '})'],
    ['({get ', '})'],
  ] as const) {
    try {
      let node: Expression = parseExpressionAt(before + text + after, 0, { ecmaVersion: 'latest', preserveParens: false });
      if (node.type === 'ObjectExpression') {
        const [property] = node.properties;
        if (node.properties.length !== 1 || property?.type !== 'Property') continue;
        node = property.value;
      }
      if (node.type === 'FunctionExpression' || node.type === 'ArrowFunctionExpression') {
        return { node: normalise(node) as unknown as ParsedFunction, shift: before.length };
      }
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  return undefined;
}

type Loose = { type: string; start: number; end: number } & Record<string, unknown>;
const isNode = (value: unknown): value is Loose => typeof value === 'object' && value !== null && typeof (value as Loose).type === 'string';

/** Rewrites the tree in place, bottom up. */
function normalise(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((n) => !isInjectedStatement(n)).map(normalise);
  if (!isNode(value)) return value;
  const node = value;
  for (const key of Object.keys(node)) {
    const child = node[key];
    if (typeof child === 'object' && child !== null && !(child instanceof RegExp)) node[key] = normalise(child);
  }
  const as = (fields: object): Loose => ({ start: node.start, end: node.end, ...fields }) as Loose;
  if (node.type === 'SequenceExpression') {
    const all = node.expressions as Loose[];
    const kept = all.filter((e, i) => !isCounter(e) && !(i < all.length - 1 && e.type === 'Literal'));
    if (kept.length === 1) return kept[0];
    node.expressions = kept;
  }
  if (node.type === 'CallExpression' && isKeepName(node)) return (node.arguments as Loose[])[0];
  if (node.type === 'UnaryExpression') {
    const argument = node.argument as Loose;
    if (node.operator === 'void' && argument.type === 'Literal') return as({ type: 'Identifier', name: 'undefined' });
    if (node.operator === '!' && argument.type === 'Literal')
      return as({ type: 'Literal', value: !argument.value, raw: String(!argument.value) });
  }
  return node;
}

/** `cov_1abc().s[3]++`, as istanbul writes it. */
function isCounter(node: Loose): boolean {
  if (node.type !== 'UpdateExpression') return false;
  let object = node.argument as Loose;
  while (object.type === 'MemberExpression') object = object.object as Loose;
  const callee = object.type === 'CallExpression' ? (object.callee as Loose) : undefined;
  return callee?.type === 'Identifier' && /^cov_/.test(String(callee.name));
}

/** `__name(f, 'f')`, as esbuild's keepNames writes it. */
function isKeepName(node: Loose): boolean {
  return node.type === 'CallExpression' && (node.callee as Loose).name === '__name';
}

function isInjectedStatement(node: unknown): boolean {
  if (!isNode(node) || node.type !== 'ExpressionStatement') return false;
  const expression = node.expression as Loose;
  return isCounter(expression) || isKeepName(expression);
}

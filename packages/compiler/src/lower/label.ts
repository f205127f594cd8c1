/** The labels that a program leaves through and the reasons that it gives, read off its syntax. */
import type { CallExpression, Node as SyntaxNode } from 'acorn';
import type { Source } from '../source.ts';

/** Labels as far as the syntax shows them. */
export interface Labels {
  /** Every literal that is handed to the way out. */
  readonly labels: ReadonlySet<string>;
  /** False where a label may be more than a literal: one among constants, or the way out taken from ctx under another name. */
  readonly complete: boolean;
}

/** Reads the labels of a way out that takes one off a program. */
export function labelsOf(source: Source, wayOut: 'exit' | 'drop' | 'abort'): Labels {
  const labels = new Set<string>();
  let unread = 0;
  visit(source.node, (node) => {
    const { type, name, value, callee } = node as Loose;
    if ((type === 'Identifier' && name === wayOut) || (type === 'Literal' && value === wayOut)) unread++;
    if (type !== 'CallExpression' || callee?.type !== 'MemberExpression' || callee.property?.name !== wayOut) return;
    const [label] = (node as CallExpression).arguments;
    const found = label === undefined ? [] : literals(label);
    for (const label of found ?? []) labels.add(label);
    if (found) unread--;
  });
  return { labels, complete: unread === 0 };
}

type Loose = { type: string; name?: string; value?: unknown; callee?: { type: string; property?: { name?: string } } };

/** Undefined for what is no literal. */
function literals(node: CallExpression['arguments'][number] | undefined): readonly string[] | undefined {
  if (node?.type === 'Literal' && typeof node.value === 'string') return [node.value];
  if (node?.type === 'TemplateLiteral' && node.expressions.length === 0) return [node.quasis[0]?.value.cooked ?? ''];
  if (node?.type !== 'ConditionalExpression') return undefined;
  const [then, otherwise] = [literals(node.consequent), literals(node.alternate)];
  return then && otherwise && [...then, ...otherwise];
}

function visit(value: unknown, on: (node: SyntaxNode) => void): void {
  if (Array.isArray(value)) for (const item of value) visit(item, on);
  else if (typeof value === 'object' && value !== null && 'type' in value) {
    on(value as unknown as SyntaxNode);
    for (const child of Object.values(value)) if (typeof child === 'object') visit(child, on);
  }
}

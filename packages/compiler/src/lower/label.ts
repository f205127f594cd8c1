/** The labels that a program leaves through, read off its syntax. */
import type { Expression, Node as SyntaxNode } from 'acorn';
import type { Source } from '../source.ts';

/** Every literal that is handed to `exit()`, sorted. Anything else there is refused when the program is lowered. */
export function exitLabels(source: Source): readonly string[] {
  const labels = new Set<string>();
  visit(source.node, (node) => {
    const call = node as Partial<{ type: string; callee: { property?: { name?: string } }; arguments: Expression[] }>;
    if (call.type !== 'CallExpression' || call.callee?.property?.name !== 'exit') return;
    for (const literal of literals(call.arguments?.[0])) labels.add(literal);
  });
  return [...labels].sort();
}

function literals(node: Expression | undefined): readonly string[] {
  if (node?.type === 'Literal' && typeof node.value === 'string') return [node.value];
  if (node?.type === 'TemplateLiteral' && node.expressions.length === 0) return [node.quasis[0]?.value.cooked ?? ''];
  if (node?.type === 'ConditionalExpression') return [...literals(node.consequent), ...literals(node.alternate)];
  return [];
}

function visit(value: unknown, on: (node: SyntaxNode) => void): void {
  if (Array.isArray(value)) for (const item of value) visit(item, on);
  else if (typeof value === 'object' && value !== null && 'type' in value) {
    on(value as unknown as SyntaxNode);
    for (const child of Object.values(value)) if (typeof child === 'object') visit(child, on);
  }
}

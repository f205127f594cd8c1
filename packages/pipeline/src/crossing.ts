/** How metadata get from XDP to TC ingress: which bytes of the one's state go to which of the other's `cb`. */
import type { Crossing } from '@tailrace/compiler';
import { describeLayout } from '@tailrace/stage';
import type { StateLayout } from './state.ts';

/** Whose metadata cross: packets of one version never get those of another. */
export interface CrossingOwner {
  readonly pipeline: string;
  /** 0 or 1: each change of what crosses takes the other. */
  readonly version: number;
}

/** The crossing of a pipeline; `undefined` where TC ingress asks for nothing. */
export function crossingOf(
  { pipeline, version }: CrossingOwner,
  fields: readonly string[],
  xdp?: StateLayout,
  ingress?: StateLayout,
): Crossing | undefined {
  const moved = fields.flatMap((name) => {
    const [from, to] = [xdp?.fields.get(name), ingress?.fields.get(name)];
    return from && to ? [{ name, from: from.offset, to: to.offset, size: from.layout.size, text: describeLayout(from.layout) }] : [];
  });
  if (moved.length === 0) return undefined;
  const words = Math.ceil(Math.max(...moved.map(({ to, size }) => to + size)) / 4);
  const tag = fnv1a(`${pipeline} ${version} ${moved.map(({ name, to, text }) => `${to} ${name}: ${text}`).join(', ')}`);
  return { tag, words, fields: moved.map(({ name, from, to, size }) => ({ name, from, to, size })) };
}

/** FNV-1a, 32 bits (RFC 9923): tells this pipeline's metadata from those of others. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

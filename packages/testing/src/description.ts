/**
 * Reads a frame's layers as a person would want to see them: fields by name, checksums judged, what is wrong said.
 * It reads as far as the bytes allow and never throws. What the compiler's accessors accept is simulation.ts's matter.
 */
import { opaque, type ParsedLayer, type Read, readLayer, type Step } from './layer-reader.ts';
import { frameBytes, type Packet } from './packet.ts';

export type { LayerKind, ParsedLayer } from './layer-reader.ts';

/** The layers of a frame, outermost first. */
export function parse(frame: Packet | Uint8Array): ParsedLayer[] {
  const bytes = frameBytes(frame);
  const layers: ParsedLayer[] = [];
  let step: Step | undefined = { kind: 'ethernet', offset: 0, end: bytes.length };
  while (step !== undefined) {
    const { layer, next }: Read = readLayer(bytes, step);
    layers.push(layer);
    step = next;
  }
  const end = layers.reduce((furthest, layer) => Math.max(furthest, layer.offset + layer.length), 0);
  if (end < bytes.length) layers.push(opaque('padding', bytes, { offset: end, end: bytes.length }));
  return layers;
}

/** One line a layer, with lengths, fields and what is wrong; for failure messages. */
export function describe(frame: Packet | Uint8Array): string {
  return parse(frame).map(describeLayer).join('\n');
}

/** One layer as one line; of its flags those that are set. */
export function describeLayer({ kind, length, fields, checksum: judged, problems }: ParsedLayer): string {
  const shown = Object.entries(fields).flatMap(([name, value]) => {
    if (value === 'false') return [];
    if (value === 'true') return [name];
    return [`${name}=${value}${name === 'checksum' && judged !== 'none' ? ` (${judged})` : ''}`];
  });
  return [`${kind} ${length} bytes:`, ...shown, ...problems.map((problem) => `[${problem}]`)].join(' ');
}

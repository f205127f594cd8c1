/** Where two packets differ, by layer and field. */
import { describe, type ParsedLayer, parse } from './description.ts';
import { frameBytes, type Packet } from './packet.ts';

/** One place in which two packets differ. */
export interface PacketDifference {
  /** `ipv4.ttl`, `ipv4[2].ttl` for the second of two, `layers`, `byte 60`. */
  readonly place: string;
  readonly expected: string;
  readonly actual: string;
}

/** All fields that differ; where no field does and bytes do, the first byte. Empty for equal packets. */
export function packetDifferences(expected: Packet | Uint8Array, actual: Packet | Uint8Array): PacketDifference[] {
  const [wanted, got] = [frameBytes(expected), frameBytes(actual)];
  const at = firstDifference(wanted, got);
  if (at === undefined) return [];
  const [ours, theirs] = [parse(wanted), parse(got)];
  const kinds = [ours, theirs].map((layers) => layers.map((layer) => layer.kind).join(' > '));
  if (kinds[0] !== kinds[1]) return [{ place: 'layers', expected: kinds[0] ?? '', actual: kinds[1] ?? '' }];
  const fields = ours.flatMap((layer, index) => layerDifferences(placeOf(ours, index), layer, theirs[index] ?? layer));
  // Descriptions cut long payloads short, and a layer's own length says more than its bytes.
  return fields.length > 0 ? fields : [byteDifference(wanted, got, at)];
}

/** The differences, one a line, and below them both packets; the text of a failed `toEqualPacket`. */
export function describeDifferences(expected: Packet | Uint8Array, actual: Packet | Uint8Array): string {
  const lines = packetDifferences(expected, actual).map((one) => `  ${one.place}: expected ${one.expected}, got ${one.actual}`);
  return ['packets differ:', ...lines, '', 'expected:', describe(expected), '', 'got:', describe(actual)].join('\n');
}

function layerDifferences(place: string, ours: ParsedLayer, theirs: ParsedLayer): PacketDifference[] {
  const names = [...new Set([...Object.keys(ours.fields), ...Object.keys(theirs.fields)])];
  const fields = names.flatMap((name) => {
    const [wanted, got] = [ours.fields[name], theirs.fields[name]];
    return wanted === got ? [] : [{ place: `${place}.${name}`, expected: shown(name, wanted, ours), actual: shown(name, got, theirs) }];
  });
  if (ours.length === theirs.length) return fields;
  return [...fields, { place: `${place} length`, expected: `${ours.length} bytes`, actual: `${theirs.length} bytes` }];
}

function shown(name: string, value: string | undefined, layer: ParsedLayer): string {
  if (value === undefined) return 'none';
  return name === 'checksum' && layer.checksum !== 'none' ? `${value} (${layer.checksum})` : value;
}

function placeOf(layers: readonly ParsedLayer[], index: number): string {
  const kind = layers[index]?.kind ?? '';
  const before = layers.slice(0, index).filter((layer) => layer.kind === kind).length;
  return before === 0 ? kind : `${kind}[${before + 1}]`;
}

function byteDifference(wanted: Uint8Array, got: Uint8Array, at: number): PacketDifference {
  const text = (byte: number | undefined): string => (byte === undefined ? 'none' : `0x${byte.toString(16).padStart(2, '0')}`);
  return { place: `byte ${at}`, expected: text(wanted[at]), actual: text(got[at]) };
}

function firstDifference(wanted: Uint8Array, got: Uint8Array): number | undefined {
  const length = Math.max(wanted.length, got.length);
  for (let at = 0; at < length; at++) if (wanted[at] !== got[at]) return at;
  return undefined;
}

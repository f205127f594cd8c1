/**
 * The contexts as programs see them: struct xdp_md, __sk_buff, sk_msg_md and bpf_sock_ops (include/uapi/linux/bpf.h), field by
 * field, with what the kernel's verifier lets each type of program do to them (net/core/filter.c at v6.18).
 */
import { EncodingError, type ProgramSpec, type ProgramType } from '@tailrace/bpf';
import { EVENT_FAMILY, EVENT_OPERATION, MESSAGE_BYTES, MESSAGE_FAMILY, SKB_FAMILY } from './layout.ts';

/** What a load of a field gives: a pointer into the packet, or a number. */
export type ContextFieldKind = 'data' | 'dataEnd' | 'dataMeta' | 'scalar';

/** A field of a context. */
export interface ContextField {
  /** The kernel's name. */
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  readonly kind: ContextFieldKind;
  /**
   * Which accesses fit: `whole` the field and nothing else, `narrow` loads of an aligned part of it too, `any` loads and
   * stores of whatever is aligned and inside.
   */
  readonly width: 'whole' | 'narrow' | 'any';
  /** Bytes that a store keeps, from the lowest; fewer than `size` where the kernel's own field is shorter. */
  readonly holds: number;
  readonly readers: readonly ProgramType[];
  readonly writers: readonly ProgramType[];
}

/** sizeof(struct xdp_md) and sizeof(struct __sk_buff). */
export const XDP_CONTEXT_BYTES = 24;
export const SKB_CONTEXT_BYTES = 192;

const XDP = ['xdp'] as const;
const TC = ['schedCls'] as const;
const SKB = ['schedCls', 'socketFilter', 'skSkb'] as const;
/** Programs that see a packet, and no socket's data. */
const FRAMES = ['schedCls', 'socketFilter'] as const;
const DATA = ['schedCls', 'skSkb'] as const;
const SOCKET_DATA = ['skSkb'] as const;
const MESSAGES = ['skMsg'] as const;
const EVENTS = ['sockOps'] as const;
const NONE = [] as const;

function field(name: string, offset: number, readers: readonly ProgramType[], rest: Partial<ContextField> = {}): ContextField {
  const size = rest.size ?? 4;
  return { name, offset, size, kind: 'scalar', width: 'narrow', holds: size, readers, writers: NONE, ...rest };
}

/** `egress_ifindex` is not there: only programs of device maps have it. */
const XDP_FIELDS: readonly ContextField[] = [
  field('data', 0, XDP, { kind: 'data', width: 'whole' }),
  field('data_end', 4, XDP, { kind: 'dataEnd', width: 'whole' }),
  field('data_meta', 8, XDP, { kind: 'dataMeta', width: 'whole' }),
  field('ingress_ifindex', 12, XDP, { width: 'whole' }),
  field('rx_queue_index', 16, XDP, { width: 'whole' }),
];

/** The ends of a socket's connection: addresses, by whole words, and the remote port in network order. */
function connection(family: number, readers: readonly ProgramType[], width: ContextField['width']): readonly ContextField[] {
  const addresses = ['remote_ip4', 'local_ip4', ...addressWords('remote_ip6'), ...addressWords('local_ip6')];
  return ['family', ...addresses, 'remote_port', 'local_port'].map((name, index) =>
    field(name, family + 4 * index, readers, { width: addresses.includes(name) ? 'whole' : width }),
  );
}

function addressWords(name: string): readonly string[] {
  return [0, 1, 2, 3].map((word) => `${name}[${word}]`);
}

/** `flow_keys` are other programs'. `sk` is null: there are no sockets of the kernel. */
const SKB_FIELDS: readonly ContextField[] = [
  field('len', 0, SKB),
  field('pkt_type', 4, SKB),
  field('mark', 8, FRAMES, { writers: TC }),
  field('queue_mapping', 12, SKB, { writers: TC, holds: 2 }),
  field('protocol', 16, SKB),
  field('vlan_present', 20, SKB),
  field('vlan_tci', 24, SKB),
  field('vlan_proto', 28, SKB),
  field('priority', 32, SKB, { writers: DATA }),
  field('ingress_ifindex', 36, SKB),
  field('ifindex', 40, SKB),
  field('tc_index', 44, SKB, { writers: DATA, holds: 2 }),
  field('cb', 48, SKB, { size: 20, width: 'any', writers: FRAMES }),
  field('hash', 68, SKB),
  field('tc_classid', 72, TC, { writers: TC, holds: 2 }),
  field('data', 76, DATA, { kind: 'data', width: 'whole' }),
  field('data_end', 80, DATA, { kind: 'dataEnd', width: 'whole' }),
  field('napi_id', 84, SKB),
  ...connection(SKB_FAMILY, SOCKET_DATA, 'narrow'),
  field('data_meta', 140, TC, { kind: 'dataMeta', width: 'whole' }),
  field('tstamp', 152, TC, { size: 8, width: 'whole', writers: TC }),
  field('wire_len', 160, TC),
  field('gso_segs', 164, SKB),
  field('sk', 168, SKB, { size: 8, width: 'whole' }),
  field('gso_size', 176, SKB),
  field('tstamp_type', 180, TC, { size: 1, width: 'whole' }),
  field('hwtstamp', 184, TC, { size: 8, width: 'whole' }),
];

/** `sk` is not there: there are no sockets of the kernel. */
const MESSAGE_FIELDS: readonly ContextField[] = [
  field('data', 0, MESSAGES, { size: 8, kind: 'data', width: 'whole' }),
  field('data_end', 8, MESSAGES, { size: 8, kind: 'dataEnd', width: 'whole' }),
  ...connection(MESSAGE_FAMILY, MESSAGES, 'whole'),
  field('size', MESSAGE_BYTES, MESSAGES, { width: 'whole' }),
];

/** What TCP knows of the connection is not there: it is told by events of the kernel's own sockets. */
const EVENT_FIELDS: readonly ContextField[] = [
  field('op', EVENT_OPERATION, EVENTS, { width: 'whole' }),
  ...connection(EVENT_FAMILY, EVENTS, 'whole'),
];

const FIELDS: Readonly<Record<ProgramType, readonly ContextField[]>> = {
  xdp: XDP_FIELDS,
  schedCls: SKB_FIELDS,
  socketFilter: SKB_FIELDS,
  skSkb: SKB_FIELDS,
  skMsg: MESSAGE_FIELDS,
  sockOps: EVENT_FIELDS,
};

/** The fields that programs of a type may read, in their order. */
export function contextFields(type: ProgramType): readonly ContextField[] {
  return FIELDS[type].filter(({ readers }) => readers.includes(type));
}

/** Fields by the bytes that they take. */
const BY_OFFSET: Readonly<Record<ProgramType, ReadonlyMap<number, ContextField>>> = {
  xdp: byOffset('xdp'),
  schedCls: byOffset('schedCls'),
  socketFilter: byOffset('socketFilter'),
  sockOps: byOffset('sockOps'),
  skSkb: byOffset('skSkb'),
  skMsg: byOffset('skMsg'),
};

function byOffset(type: ProgramType): ReadonlyMap<number, ContextField> {
  return new Map(
    contextFields(type).flatMap((known) => Array.from({ length: known.size }, (_, at) => [known.offset + at, known] as const)),
  );
}

/** The field that an access of so many bytes meets; undefined where programs of that type may not make it. */
export function contextFieldAt(type: ProgramType, offset: number, bytes: number, isWrite: boolean): ContextField | undefined {
  const met = BY_OFFSET[type].get(offset);
  if (met === undefined || (isWrite && !met.writers.includes(type))) return undefined;
  if (offset % bytes !== 0 || offset + bytes > met.offset + met.size) return undefined;
  const isWhole = bytes === met.size && offset === met.offset;
  return isWhole || met.width === 'any' || (met.width === 'narrow' && !isWrite) ? met : undefined;
}

/** What a load gives; undefined where it is none that programs of that type may make. */
export function contextFieldKind(type: ProgramType, offset: number, bytes: number): ContextFieldKind | undefined {
  return contextFieldAt(type, offset, bytes, false)?.kind;
}

/** The field that an access meets. Throws EncodingError (field `context`) where the program may not make it. */
export function contextAccess(
  { name, type }: Pick<ProgramSpec, 'name' | 'type'>,
  offset: number,
  bytes: number,
  isWrite: boolean,
  pc: number,
): ContextField {
  const met = contextFieldAt(type, offset, bytes, isWrite);
  if (met) return met;
  const known = BY_OFFSET[type].get(offset)?.name;
  const place = known === undefined ? `byte ${offset} of the context` : `byte ${offset} of the context (${known})`;
  throw new EncodingError(
    'context',
    `program ${name}, pc ${pc}: ${isWrite ? 'writes' : 'reads'} ${bytes} bytes at ${place}, which programs of type ${type} may not`,
    { pc },
  );
}

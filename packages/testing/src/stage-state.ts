/**
 * The state of a chain of one stage: counters, by which the outcome of a packet is told, and metadata, which lie beside
 * the counters at XDP and in the packet's control block at TC; stages on sockets have none.
 */
import { ArgumentError, TailraceError } from '@tailrace/bpf';
import { CB_BYTES, counterNames, exitsOf, outcomeNamed, type Placement, type ProgramHook, reasonsOf } from '@tailrace/compiler';
import {
  type AnyMap,
  type AnyStage,
  array,
  decode,
  decodeFrom,
  encodeInto,
  type Hook,
  type Layout,
  perCpuArray,
  type Schema,
  struct,
  u64,
} from '@tailrace/stage';
import type { Outcome } from './outcome.ts';

/** What the program calls its state map; names of other maps are made of identifiers and dots. */
export const STATE = '(state)';

type Meta = Readonly<Record<string, unknown>>;
type Fields = Readonly<Record<string, { readonly layout: Layout; readonly offset: number }>>;

/** Lays the state out and reads it. */
export class StageState {
  readonly kind: ProgramHook;
  readonly map: AnyMap;
  readonly placement: Placement;
  readonly #names: readonly string[];
  readonly #schema: Schema<unknown>;
  readonly #stride: number;
  readonly #fields: Fields;

  /** Throws CompileError where the stage is refused. */
  constructor(stage: AnyStage) {
    const [labels, reasons] = [exitsOf(stage), reasonsOf(stage)];
    const fields: Readonly<Record<string, Schema<unknown>>> = { ...stage.reads, ...stage.writes };
    this.kind = kindOf(stage.hook);
    this.#names = counterNames(this.kind, labels, reasons);
    const counters = array(u64, this.#names.length);
    const hasFields = Object.keys(fields).length > 0;
    const inState = this.kind === 'xdp' && hasFields;
    this.#schema = inState ? struct({ counters, meta: struct(fields) }) : struct({ counters });
    this.#stride = Math.ceil(this.#schema.layout.size / 8) * 8;
    this.#fields = hasFields ? placed(inState ? this.#schema.layout : struct({ meta: struct(fields) }).layout) : {};
    this.map = perCpuArray({ name: 'state', value: this.#schema, maxEntries: 1 });
    this.placement = {
      array: '(none)',
      next: { verdict: 'pass' },
      exits: Object.fromEntries(labels.map((label) => [label, { verdict: 'pass' as const }])),
      reasons,
      state: { map: STATE, counters: 0 },
      metadata: this.#fields,
    };
  }

  /** The state map's value before a packet, the same for every CPU: counters at zero, and at XDP the metadata `meta`. */
  initial(meta: Meta, cpus: number): Uint8Array {
    const one = new Uint8Array(this.#stride);
    if (this.kind === 'xdp') this.#write(meta, one);
    const all = new Uint8Array(this.#stride * cpus);
    for (let cpu = 0; cpu < cpus; cpu++) all.set(one, cpu * this.#stride);
    return all;
  }

  /** The control block before a packet at TC. */
  controlBlock(meta: Meta): Uint8Array {
    const cb = new Uint8Array(CB_BYTES);
    this.#write(meta, cb);
    return cb;
  }

  /**
   * What the CPU that ran the program counted, and the metadata that it left. `segments` is what a packet counts for, `cb`
   * the control block after it at TC.
   */
  read(bytes: Uint8Array, cpus: number, segments: number, cb?: Uint8Array): { readonly outcome: Outcome; readonly meta: Meta } {
    for (let cpu = 0; cpu < cpus; cpu++) {
      const value = bytes.subarray(cpu * this.#stride);
      const { counters } = decode(this.#schema, value) as { counters: readonly bigint[] };
      const counted = this.#names.filter((name, index) => name !== 'bytes' && counters[index] !== 0n);
      const [name] = counted;
      if (counted.length !== 1 || name === undefined) continue;
      const count = counters[this.#names.indexOf(name)];
      if (count !== BigInt(segments))
        throw new TailraceError('compile', `the program counted ${name} ${count} times, expected ${segments}`);
      return { outcome: outcomeNamed(name), meta: this.#read(cb ?? value) };
    }
    throw new TailraceError('compile', 'the program counted no outcome, or several');
  }

  #write(meta: Meta, bytes: Uint8Array): void {
    for (const [name, value] of Object.entries(meta)) {
      const field = this.#fields[name];
      if (field === undefined) throw new ArgumentError(`metadata '${name}' is not declared by the stage`);
      encodeInto(field.layout, value, new DataView(bytes.buffer), field.offset, name);
    }
  }

  #read(bytes: Uint8Array): Meta {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return Object.fromEntries(Object.entries(this.#fields).map(([name, { layout, offset }]) => [name, decodeFrom(layout, view, offset)]));
  }
}

function kindOf(hook: Hook): ProgramHook {
  return hook === 'tc' || hook === 'tcIngress' || hook === 'tcEgress' ? 'tc' : hook;
}

/** The metadata fields with their offsets in the whole value. */
function placed(layout: Layout): Fields {
  const meta = layout.kind === 'struct' ? layout.fields.meta : undefined;
  if (meta?.layout.kind !== 'struct') return {};
  return Object.fromEntries(
    Object.entries(meta.layout.fields).map(([name, field]) => [name, { layout: field.layout, offset: meta.offset + field.offset }]),
  );
}

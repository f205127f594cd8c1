/**
 * What the program of an object uses: maps that are bound to declarations, those that stay its own, and values of its constants.
 * Own maps are declarations over raw bytes; what they hold from the start comes along.
 */
import {
  ArgumentError,
  type ElfObject,
  isMapOfMaps,
  type MapDefinition,
  type MapSpec,
  type ProgramSpec,
  readBtf,
  UnsupportedError,
} from '@tailrace/bpf';
import { ConflictError, type Difference } from './binding.ts';
import { type AnyMap, declareMap } from './map-decl.ts';
import { toMapSpec } from './map-spec.ts';
import { asUse } from './reach.ts';
import { array, type Schema, struct, u8, u32 } from './schema.ts';

/** What may be said of a program's uses: maps, and values of constants. */
export type UsesOfObject = Readonly<Record<string, AnyMap | number | bigint | boolean>>;

/** A variable of an object that programs only read. */
interface ConstantPlace {
  /** The map that holds it. */
  readonly map: string;
  readonly offset: number;
  readonly size: number;
}

/** The declarations of an object's own maps: stages of one object share them. */
const declared = new WeakMap<ElfObject, Map<string, AnyMap>>();

/** The uses of one program. */
export class ObjectUses {
  readonly #object: ElfObject;
  /** Maps that the program names. */
  readonly #names: ReadonlySet<string>;
  /** First part of the names of sections of variables. */
  readonly #prefix: string;
  /** Everything that was declared here, other values of constants among it. */
  readonly #own = new WeakSet<AnyMap>();

  constructor(object: ElfObject, { mapReferences }: ProgramSpec, prefix: string) {
    this.#object = object;
    this.#names = new Set(mapReferences.map(({ map }) => map));
    this.#prefix = prefix;
  }

  /** See `StageObject`. */
  complete(owner: string, given: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
    const uses: Record<string, unknown> = {};
    const values = new Map<string, Map<string, unknown>>();
    for (const [name, value] of Object.entries(given)) {
      const use = asUse(value);
      if (use?.kind === 'map' && this.#own.has(use)) continue;
      if (use?.kind === 'map') this.#checkBound(owner, name, use);
      else {
        const { map } = this.#constant(owner, name, value);
        values.set(map, (values.get(map) ?? new Map()).set(name, value));
      }
      uses[name] = value;
    }
    for (const name of this.#names) if (!Object.hasOwn(uses, name)) uses[name] = this.#ownMap(owner, name, values.get(name));
    return uses;
  }

  #checkBound(owner: string, name: string, map: AnyMap): void {
    const known = this.#object.maps.get(name);
    if (!known && !this.#names.has(name)) throw this.#unknown(owner, name);
    // the object declares it and leaves it to others
    if (!known) return;
    const { spec, contents, programs, maps } = known.definition();
    const differences = specDifferences(toMapSpec(map, name), spec);
    if (differences.length > 0) throw new ConflictError(`${owner}: uses.${name} and map ${name} of its object`, differences);
    if (contents.length + programs.length + maps.length > 0)
      throw new UnsupportedError(`${owner}: map ${name} of its object holds something from the start, expected one that does not`, {
        hint: 'a map that is bound starts empty; variables without a value are in .bss',
      });
  }

  #ownMap(owner: string, name: string, values: ReadonlyMap<string, unknown> | undefined): AnyMap {
    const known = this.#object.maps.get(name);
    if (!known)
      throw new ArgumentError(`${owner}: its object only declares map ${name}, expected a map for it in uses`, {
        hint: `uses: { ${name}: … }`,
      });
    const shared = declared.get(this.#object) ?? new Map<string, AnyMap>();
    declared.set(this.#object, shared);
    const same = values ? undefined : shared.get(name);
    const map = same ?? this.#declare(owner, name, known.definition(), values);
    if (!values) shared.set(name, map);
    this.#own.add(map);
    return map;
  }

  #declare(owner: string, name: string, definition: MapDefinition, values: ReadonlyMap<string, unknown> | undefined): AnyMap {
    const { spec, contents, programs, maps, pinByName } = definition;
    const refuse = (what: string, hint: string) => new UnsupportedError(`${owner}: map ${name} of its object ${what}`, { hint });
    if (programs.length > 0) throw refuse('holds programs from the start', 'return a value, and wire it as an exit');
    if (maps.length > 0) throw refuse('holds maps from the start', 'put them in through its handle');
    if (pinByName) throw refuse('asks for a pin', 'bind a declaration to it');
    const filled = contents.map(({ key, value }) => ({ key, value: this.#patched(owner, value, values) }));
    // variables of two objects may be in one function, where names must differ
    const prefixed = name.startsWith('.') ? this.#prefix + name : name;
    return declare(prefixed, spec, filled);
  }

  /** The bytes of a section of constants with those that were given. */
  #patched(owner: string, bytes: Uint8Array, values: ReadonlyMap<string, unknown> | undefined): Uint8Array {
    if (!values) return bytes;
    const patched = bytes.slice();
    for (const [name, value] of values) {
      const { offset, size } = this.#constant(owner, name, value);
      const number = BigInt(value as number | bigint | boolean);
      const bits = BigInt(size * 8);
      for (let at = 0n; at < bits; at += 8n) patched[offset + Number(at / 8n)] = Number((number >> at) & 0xffn);
    }
    return patched;
  }

  /** Where a constant lies. Throws ArgumentError for what is none, and for a value that it cannot hold. */
  #constant(owner: string, name: string, value: unknown): ConstantPlace {
    const place = this.#constants().get(name);
    if (!place) throw this.#unknown(owner, name);
    const path = `${owner}: uses.${name}`;
    if (![1, 2, 4, 8].includes(place.size))
      throw new ArgumentError(`${path} has ${place.size} bytes in its object, expected a constant of 1, 2, 4 or 8`);
    const isInteger = typeof value === 'bigint' || typeof value === 'boolean' || (typeof value === 'number' && Number.isSafeInteger(value));
    const number = isInteger ? BigInt(value as number) : 0n;
    const bits = BigInt(place.size * 8);
    if (!isInteger || number < -(1n << (bits - 1n)) || number >= 1n << bits)
      throw new ArgumentError(`${path} is ${String(value)}, expected an integer of ${bits} bits`);
    return place;
  }

  #constants(): ReadonlyMap<string, ConstantPlace> {
    const places = new Map<string, ConstantPlace>();
    for (const [map, { section, definition }] of this.#object.maps) {
      if (!section.startsWith('.rodata')) continue;
      const { btf } = definition().spec;
      const types = btf && readBtf(btf.blob);
      const list = types?.type(btf?.valueTypeId ?? 0);
      if (!types || list?.kind !== 'datasec') continue;
      for (const { type, offset, size } of list.variables) {
        const variable = types.type(type);
        if (variable.kind === 'var') places.set(variable.name, { map, offset, size });
      }
    }
    return places;
  }

  #unknown(owner: string, name: string): ArgumentError {
    const names = [...new Set([...this.#object.maps.keys(), ...this.#names, ...this.#constants().keys()])];
    return new ArgumentError(`${owner}: uses.${name} is neither a map nor a constant of its object`, {
      hint: names.length > 0 ? `it has ${names.join(', ')}` : 'it has none',
    });
  }
}

/** A declaration for a map of which only bytes are known. */
function declare(name: string, spec: MapSpec, contents: MapDefinition['contents'] = []): AnyMap {
  const { type, keySize, valueSize, maxEntries, flags, inner, extra } = spec;
  return declareMap(
    type,
    { name: name.replaceAll(/[^\w.-]/g, '_').slice(0, 64), maxEntries },
    {
      ...(keySize === 0 ? {} : { key: keySchema(spec) }),
      // rings hold records of whatever size
      value: type === 'ringBuffer' || type === 'perfEventArray' ? u8 : valueSize === 4 && isDescriptor(type) ? u32 : array(u8, valueSize),
      flags,
      ...(inner ? { inner: declare(inner.name, inner) } : {}),
      hashes: extra,
      origin: { spec, contents },
    },
  );
}

function keySchema({ type, keySize }: MapSpec): Schema<unknown> {
  if (type === 'lpmTrie') return struct({ prefixLen: u32, data: array(u8, keySize - 4) });
  const isIndex = keySize === 4 && (type === 'array' || type === 'perCpuArray' || isDescriptor(type));
  return isIndex ? u32 : array(u8, keySize);
}

/** Kinds whose values stand for something that the kernel knows by a number. */
function isDescriptor(type: MapSpec['type']): boolean {
  return (
    isMapOfMaps(type) ||
    ['programArray', 'perfEventArray', 'devmap', 'devmapHash', 'cpumap', 'xskmap', 'sockmap', 'sockhash'].includes(type)
  );
}

/** Where two specs differ in what programs or the kernel see of them. */
function specDifferences(ours: MapSpec, theirs: MapSpec, path = ''): readonly Difference[] {
  const fields = ['type', 'keySize', 'valueSize', 'maxEntries', 'flags', 'extra'] as const;
  const own = fields.flatMap((field): Difference[] =>
    ours[field] === theirs[field]
      ? []
      : [{ field: path + field, ours: String(ours[field] ?? 'absent'), theirs: String(theirs[field] ?? 'absent') }],
  );
  return ours.inner && theirs.inner ? [...own, ...specDifferences(ours.inner, theirs.inner, `${path}inner.`)] : own;
}

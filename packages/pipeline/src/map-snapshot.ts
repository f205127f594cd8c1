/** A map's entries to a file and back. Whether a file is one for the map is seen before an entry is written. */
import { ArgumentError, type Batch, isPerCpu, type LoadedMap } from '@tailrace/bpf';
import {
  type AnyMap,
  ConflictError,
  type Difference,
  describeLayout,
  type Layout,
  type RestoreOptions,
  type Schema,
  sumValues,
} from '@tailrace/stage';
import { codec, perCpuCodec, viewOf } from './map-entries.ts';
import { type SnapshotHeader, SnapshotReader, writeSnapshot } from './snapshot-file.ts';

/** What `WatchedHandle.save` does. */
export function saveMap(map: AnyMap, loaded: LoadedMap, path: string): Promise<number> {
  return writeSnapshot(path, headerOf(map, loaded), loaded.readParts());
}

/** What `WatchedHandle.restore` does. */
export async function restoreMap(map: AnyMap, loaded: LoadedMap, path: string, { cpus = 'same' }: RestoreOptions = {}): Promise<number> {
  await using file = await SnapshotReader.open(path);
  const [ours, theirs] = [headerOf(map, loaded), file.header];
  const differences = differencesBetween(ours, theirs, cpus === 'sum' && isPerCpu(map.type));
  if (differences.length > 0) {
    const isCpus = differences.every(({ field }) => field === 'cpus');
    throw new ConflictError(
      `map '${map.name}' and ${path}`,
      differences,
      isCpus ? "cpus: 'sum' adds the values of all CPUs up" : undefined,
    );
  }
  const convert = ours.cpus === theirs.cpus ? (part: Batch) => part : summing(map.value, loaded, theirs);
  let entries = 0;
  for await (const part of file.parts()) entries += convert(part).count;
  const { maxEntries } = loaded.spec;
  if (entries > maxEntries) throw new ArgumentError(`map '${map.name}' has room for ${maxEntries} entries, ${path} has ${entries}`);
  for await (const part of file.parts()) loaded.updateBatch(convert(part));
  return entries;
}

function headerOf({ type, key, value }: AnyMap, { spec, valueStride }: LoadedMap): SnapshotHeader {
  const cpus = isPerCpu(type) ? valueStride / (Math.ceil(spec.valueSize / 8) * 8) : 1;
  const fields = Object.fromEntries([...fieldsOf('key', key?.layout), ...fieldsOf('value', value.layout)]);
  return { type, cpus, keySize: spec.keySize, stride: valueStride, fields };
}

function* fieldsOf(path: string, layout: Layout | undefined, offset = 0): Generator<readonly [string, string]> {
  if (layout === undefined) return;
  if (layout.kind !== 'struct') return void (yield [path, `${describeLayout(layout)} at byte ${offset}`]);
  for (const [name, field] of Object.entries(layout.fields)) yield* fieldsOf(`${path}.${name}`, field.layout, offset + field.offset);
}

function differencesBetween(ours: SnapshotHeader, theirs: SnapshotHeader, mayDiffer: boolean): readonly Difference[] {
  const described = ({ type, cpus, keySize, stride, fields }: SnapshotHeader): ReadonlyMap<string, string> =>
    new Map([
      ['type', type],
      ...(mayDiffer ? [] : [['cpus', String(cpus)] as const]),
      ['keySize', String(keySize)],
      ['valueSize', String(stride / cpus)],
      ...Object.entries(fields),
    ]);
  const [a, b] = [described(ours), described(theirs)];
  return [...new Set([...a.keys(), ...b.keys()])].flatMap((field) => {
    const [mine, other] = [a.get(field) ?? 'missing', b.get(field) ?? 'missing'];
    return mine === other ? [] : [{ field, ours: mine, theirs: other }];
  });
}

/** Parts with the sum of all CPUs as the value of the first, and zeros as those of the others. */
function summing(value: Schema<unknown>, loaded: LoadedMap, { stride }: SnapshotHeader): (part: Batch) => Batch {
  const each = perCpuCodec(value, { valueStride: stride, spec: loaded.spec });
  const one = codec(value, `sum of '${loaded.spec.name}'`);
  return ({ count, keys, values }) => {
    const summed = new Uint8Array(count * loaded.valueStride);
    const [from, to] = [viewOf(values), viewOf(summed)];
    for (let i = 0; i < count; i++) one.write(sumValues(value, each.read(from, i * stride)), to, i * loaded.valueStride);
    return { count, keys, values: summed };
  };
}

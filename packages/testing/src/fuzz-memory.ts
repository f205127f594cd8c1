/** Statements of random programs about the stack and about maps: each a text, by a writer, for a function. */
import { COMPARE, type FuzzWriter, MAIN, type Scope, SIZES } from './fuzz-writer.ts';

/** An access to the buffer, at a place that is known or not. */
export function stack(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const room = random.pick([scope.bytes, 16, 9]);
  const place = 8 * random.below(Math.floor((scope.bytes - room) / 8) + 1);
  if (random.chance(70)) return `r1 = r10\nr1 += -${scope.buffer - place}\n${writer.access(scope, room, 'aligned')}`;
  // a place that is not known before
  const mask = scope.bytes / 2 - 1;
  return `r3 = ${writer.variable(scope)}\nr3 &= ${mask}\nr1 = r10\nr1 += -${scope.buffer}\nr1 += r3\nr2 = *(u8 *)(r1 +${random.below(mask)})\n${writer.variable(scope)} = r2`;
}

/** Accesses of all sizes to the same few bytes, by r10 itself or a copy. */
export function slots(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const from = scope.buffer - 8 * random.below(scope.bytes / 8 - 1);
  const base = random.chance(70) ? 'r10' : 'r3';
  const lines = Array.from({ length: random.between(3, 9) }, () => {
    const bits = random.pick(SIZES);
    const place = `(${base} -${from - random.below(128 / bits) * (bits / 8)})`;
    return random.pick([
      `*(u${bits} *)${place} = ${random.pick([0, 0, random.immediate()])}`,
      `*(u${bits} *)${place} = r${random.between(1, 2)}`,
      `*(u${bits} *)${place} = r${random.between(1, 2)}`,
      `r${random.between(1, 2)} = *(u${bits} *)${place}`,
      `r${random.between(1, 2)} = *(${bits === 64 ? 'u' : 's'}${bits} *)${place}`,
      `r1 ^= r2`,
      `if r1 ${random.pick(COMPARE)} r2 goto +1`,
    ]);
  });
  // what a jump may pass over is there all the same
  return [
    `r1 = ${writer.variable(scope)}`,
    `r2 = ${writer.variable(scope)}`,
    'r3 = r10',
    ...lines,
    'r1 ^= r2',
    `${writer.variable(scope)} = r1`,
  ].join('\n');
}

/** A key that comes by and by, as compilers write structures, and is looked up, written or deleted. */
export function gathered(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const [map, keyBytes] = random.pick([
    ['flows', 8],
    ['tuples', 16],
    ['tuples', 16],
    ['names', 13],
    ['recent', 4],
  ] as const);
  const at = scope.buffer - random.pick([0, 4, 8]);
  const zeros = Array.from({ length: 4 }, (_, index) => `*(u32 *)(r10 -${at - 4 * index}) = 0`);
  const parts = Array.from({ length: random.between(1, 4) }, () => {
    const bits = random.pick([8, 16, 32]);
    const start = random.below(keyBytes / (bits / 8)) * (bits / 8);
    // few keys, so that some meet
    return `r1 = ${writer.variable(scope)}\nr1 &= 3\n*(u${bits} *)(r10 -${at - (start > keyBytes - bits / 8 ? 0 : start)}) = r1`;
  });
  const end = writer.label();
  const skips = random.chance(30) ? [`r1 = ${writer.variable(scope)}`, `if r1 & 1 goto ${end}a`, ...parts, `${end}a:`] : parts;
  const place = [`r1 = map[${map}]`, 'r2 = r10', `r2 += -${at}`];
  const lookup = [...place, 'call bpf_map_lookup_elem', `if r0 == 0 goto ${end}`, 'r1 = r0', writer.access(scope, 8, 'atomic'), `${end}:`];
  const value = `r3 = r10\nr3 += -${scope.buffer}\nr4 = ${random.below(3)}`;
  const update = [...place, value, 'call bpf_map_update_elem', `${writer.variable(scope)} = r0`];
  const remove = [...place, 'call bpf_map_delete_elem', `${writer.variable(scope)} = r0`];
  const calls = random.pick([lookup, update, [...lookup, ...update], [...update, ...lookup], remove]);
  return [...(random.chance(80) ? zeros : []), ...skips, ...calls].join('\n');
}

/** An index, perhaps one too many, and what is there. */
export function table(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const end = writer.label();
  const moved = random.chance(40) ? `r3 = ${writer.variable(scope)}\nr3 &= 15\nr1 += r3` : '';
  const spilled = random.chance(30) && scope === MAIN ? '*(u64 *)(r10 -144) = r1\nr1 = 0\nr1 = *(u64 *)(r10 -144)' : '';
  return [
    `r1 = ${writer.variable(scope)}`,
    'r1 &= 7',
    `*(u32 *)(r10 -${scope.buffer}) = r1`,
    'r1 = map[table]',
    'r2 = r10',
    `r2 += -${scope.buffer}`,
    'call bpf_map_lookup_elem',
    `if r0 == 0 goto ${end}`,
    'r1 = r0',
    spilled,
    moved,
    writer.access(scope, moved === '' ? 40 : 24, moved === '' ? 'atomic' : 'any'),
    `${end}:`,
  ].join('\n');
}

/** Looks up, writes or deletes in maps by key. */
export function keyed(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const [map, keyBytes] = random.pick([
    ['flows', 8],
    ['recent', 4],
    ['prefixes', 8],
  ] as const);
  const at = scope.buffer;
  const key = [`r1 = ${writer.variable(scope)}`];
  if (map === 'prefixes') key.push('r2 = r1', 'r1 &= 31', `*(u32 *)(r10 -${at}) = r1`, `*(u32 *)(r10 -${at - 4}) = r2`);
  else key.push(`r1 &= ${random.pick([3, 7])}`, `*(u${keyBytes * 8} *)(r10 -${at}) = r1`);
  key.push(`r1 = map[${map}]`, 'r2 = r10', `r2 += -${at}`);
  const kind = random.below(3);
  const end = writer.label();
  if (kind === 0)
    return [
      ...key,
      'call bpf_map_lookup_elem',
      `if r0 == 0 goto ${end}`,
      'r1 = r0',
      writer.access(scope, map === 'flows' ? 24 : 8, 'atomic'),
      `${end}:`,
    ].join('\n');
  if (kind === 1)
    return [
      ...key,
      'r3 = r10',
      `r3 += -${at - (scope.bytes - 24)}`,
      `r4 = ${random.below(3)}`,
      'call bpf_map_update_elem',
      `${writer.variable(scope)} = r0`,
    ].join('\n');
  return [...key, 'call bpf_map_delete_elem', `${writer.variable(scope)} = r0`].join('\n');
}

/** The address of a value. */
export function direct(writer: FuzzWriter, scope: Scope): string {
  return `r1 = map[out][0]+${writer.random.below(5) * 8}\n${writer.access(scope, 64, 'atomic')}`;
}

/** A checksum of parts of the buffer. */
export function sum(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const side = (pointer: number, size: number): string =>
    random.chance(25)
      ? `r${pointer} = 0\nr${size} = 0`
      : `r${pointer} = r10\nr${pointer} += -${scope.buffer}\nr${size} = ${random.between(1, scope.bytes / 4) * 4}`;
  return `r5 = ${writer.variable(scope)}\nw5 = w5\n${side(1, 2)}\n${side(3, 4)}\ncall bpf_csum_diff\n${writer.variable(scope)} = r0`;
}

/** A word put into the queue, taken out or looked at. */
export function queue(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const place = `r1 = map[jobs]\nr2 = r10\nr2 += -${scope.buffer}`;
  const call = random.pick([`r3 = ${random.pick([0, 2])}\ncall bpf_map_push_elem`, 'call bpf_map_pop_elem', 'call bpf_map_peek_elem']);
  return `${place}\n${call}\n${writer.variable(scope)} = r0`;
}

/** Something for the ring. */
export function record(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const end = writer.label();
  if (random.chance(30)) return `r1 = map[ring]\nr2 = ${random.below(4)}\ncall bpf_ringbuf_query\n${writer.variable(scope)} = r0`;
  if (random.chance(40))
    return `r1 = map[ring]\nr2 = r10\nr2 += -${scope.buffer}\nr3 = ${random.between(1, scope.bytes)}\nr4 = 0\ncall bpf_ringbuf_output\n${writer.variable(scope)} = r0`;
  const bytes = random.pick([8, 20, 64]);
  const stores = Array.from({ length: random.between(0, 2) }, () => {
    const bits = random.pick(SIZES);
    return `r2 = ${writer.variable(scope)}\n*(u${bits} *)(r1 +${random.below(bytes - bits / 8 + 1)}) = r2`;
  });
  return [
    `r1 = map[ring]\nr2 = ${bytes}\nr3 = 0\ncall bpf_ringbuf_reserve`,
    `if r0 == 0 goto ${end}`,
    'r1 = r0',
    ...stores,
    `r2 = 0\ncall bpf_ringbuf_${random.pick(['submit', 'discard'])}`,
    `${end}:`,
  ].join('\n');
}

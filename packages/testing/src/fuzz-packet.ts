/** Statements of random programs about the packet: each a text, by a writer, for a function that has one. */
import type { FuzzWriter, Scope } from './fuzz-writer.ts';

/** A place of the packet, known or not, compared with the end, and an access there. */
export function packetAccess(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const end = writer.label();
  const room = random.pick([1, 4, 14, 20, 40]);
  const from = random.pick([0, 0, 2, 12, 14, 40]);
  const index = random.chance(40) ? `r3 = ${writer.variable(scope)}\nr3 &= ${random.pick([7, 31, 0xff])}\nr1 += r3` : '';
  const compare = random.pick([
    `if r2 > r8 goto ${end}`,
    `if r8 < r2 goto ${end}`,
    `if r2 <= r8 goto +1\ngoto ${end}`,
    `if r8 >= r2 goto +1\ngoto ${end}`,
  ]);
  const second = random.chance(30) ? writer.access(scope, room, 'any') : '';
  const spilled = random.chance(20) ? '*(u64 *)(r10 -152) = r1\nr1 = 0\nr1 = *(u64 *)(r10 -152)' : '';
  return [
    `r1 = r7`,
    `r1 += ${from}`,
    index,
    'r2 = r1',
    `r2 += ${room}`,
    compare,
    spilled,
    writer.access(scope, room, 'any'),
    second,
    `${end}:`,
  ].join('\n');
}

/** Bytes of the packet brought into the buffer, or the other way. */
export function bytes(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const family = writer.type === 'xdp' ? 'xdp' : 'skb';
  const isStore = random.chance(40);
  const flags = family === 'skb' && isStore ? 'r5 = 0\n' : '';
  const call = `r1 = r6\nr2 = ${writer.variable(scope)}\nr2 &= 63\nr3 = r10\nr3 += -${scope.buffer}\nr4 = ${random.between(1, scope.bytes)}\n${flags}call bpf_${family}_${isStore ? 'store' : 'load'}_bytes\n${writer.variable(scope)} = r0`;
  return isStore ? `${call}\n${writer.ends()}` : call;
}

/** Moves an end of the packet; bytes that come in front are written, since kernels leave there what was there. */
export function move(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const end = writer.label();
  if (random.chance(50)) {
    const by = random.pick([-20, -4, 3, 8, 100]);
    return `r1 = r6\nr2 = ${by}\ncall bpf_xdp_adjust_tail\n${writer.variable(scope)} = r0\n${writer.ends()}`;
  }
  const by = random.pick([-16, -8, 4, 8, 30]);
  const moved = `r1 = r6\nr2 = ${by}\ncall bpf_xdp_adjust_head\n${writer.variable(scope)} = r0\n*(u64 *)(r10 -152) = r0\n${writer.ends()}`;
  if (by > 0) return moved;
  const writes = Array.from({ length: -by / 8 }, (_, index) => `*(u64 *)(r7 +${8 * index}) = ${random.immediate()}`);
  return [
    moved,
    'r0 = *(u64 *)(r10 -152)',
    `if r0 != 0 goto ${end}`,
    'r1 = r7',
    `r1 += ${-by}`,
    `if r1 > r8 goto ${end}`,
    ...writes,
    `${end}:`,
  ].join('\n');
}

/** Fields of struct __sk_buff. */
export function field(writer: FuzzWriter, scope: Scope): string {
  const random = writer.random;
  const kinds = [
    `r1 = *(u32 *)(r6 +${random.pick([0, 4, 8, 16, 32, 48, 52, 64])})\n${writer.variable(scope)} = r1`,
    `r1 = *(u${random.pick([8, 16])} *)(r6 +${random.pick([8, 10, 32, 34])})\n${writer.variable(scope)} = r1`,
    `r1 = ${writer.variable(scope)}\n*(u32 *)(r6 +${random.pick([8, 32, 48, 52, 56, 60, 64])}) = r1`,
  ];
  return random.pick(kinds);
}

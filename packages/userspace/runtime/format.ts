/**
 * Formatted text, as far as the kernel lets programs format: %d %i %u %x %X with l and ll, %c, %s, %p with its kinds, %pi4,
 * %pI4, %pi6, %pI6, each with flags of `0+- ` and a width. Anything else is an error, found before anything is written.
 */
import { EINVAL } from './errno';
import { region_address } from './region';

const ZERO: u32 = 48;
const MINUS: u32 = 45;
const PLUS: u32 = 43;
const SPACE: u32 = 32;
const PERCENT: u32 = 37;
/** A conversion of one argument: its letter, what stands before it, and where the format goes on (see `parsed`). */
const LEFT: u64 = 1 << 8;
const ZERO_PADDED: u64 = 1 << 9;
const SIGNED: u64 = 1 << 10;
const SPACED: u64 = 1 << 11;
const WIDE: u64 = 1 << 12;
const WIDTH_SHIFT: u64 = 16;
const KIND_SHIFT: u64 = 32;
const NEXT_SHIFT: u64 = 48;
const WIDTH_LIMIT: u32 = 0x7fff;

/**
 * Writes at most `room` bytes at `to`, a zero byte last, and returns how long the whole text is; EINVAL where the format is
 * none. `args` holds `count` values of 8 bytes.
 */
export function formatted(worker: usize, to: usize, room: u32, format: usize, length: u32, args: usize, count: u32): i64 {
  const total = pass(worker, 0, 0, format, length, args, count);
  if (total < 0 || room == 0) return total;
  pass(worker, to, room - 1, format, length, args, count);
  store<u8>(to + min<u32>(<u32>total, room - 1), 0);
  return total;
}

function pass(worker: usize, to: usize, room: u32, format: usize, length: u32, args: usize, count: u32): i64 {
  let done: u32 = 0;
  let used: u32 = 0;
  let at: u32 = 0;
  while (at < length) {
    const character = <u32>load<u8>(format + at);
    if (character == 127 || (character < 32 && (character < 9 || character > 13))) return EINVAL;
    if (character != PERCENT) {
      done = put(to, room, done, character);
      at++;
      continue;
    }
    if (at + 1 < length && load<u8>(format + at, 1) == PERCENT) {
      done = put(to, room, done, PERCENT);
      at += 2;
      continue;
    }
    const conversion = parsed(format, length, at + 1);
    if (conversion == 0 || used >= count) return EINVAL;
    done = converted(worker, to, room, done, conversion, load<u64>(args + used * 8));
    used++;
    at = <u32>(conversion >> NEXT_SHIFT);
  }
  return done;
}

function put(to: usize, room: u32, done: u32, character: u32): u32 {
  if (done < room) store<u8>(to + done, <u8>character);
  return done + 1;
}

function at_or_zero(format: usize, length: u32, at: u32): u32 {
  return at < length ? load<u8>(format + at) : 0;
}

/** Reads a conversion behind its `%`; 0 where it is none. */
function parsed(format: usize, length: u32, from: u32): u64 {
  let at = from;
  let flags: u64 = 0;
  while (true) {
    const character = at_or_zero(format, length, at);
    if (character == ZERO) flags |= ZERO_PADDED;
    else if (character == MINUS) flags |= LEFT;
    else if (character == PLUS) flags |= SIGNED;
    else if (character == SPACE) flags |= SPACED;
    else break;
    at++;
  }
  let width: u32 = 0;
  while (true) {
    const character = at_or_zero(format, length, at);
    if (character < ZERO || character > 57) break;
    width = min<u32>(width * 10 + character - ZERO, WIDTH_LIMIT);
    at++;
  }
  let letter = at_or_zero(format, length, at);
  let kind: u32 = 0;
  if (letter == 112) {
    kind = pointer_kind(format, length, at + 1);
    if (kind == 1) return 0;
    at += kind == 0 ? 1 : is_address(kind) ? 3 : 2;
    return conversion_of(letter, flags, width, kind, at);
  }
  if (letter == 115 || letter == 99) return conversion_of(letter, flags, width, 0, at + 1);
  // %ks and %us
  if ((letter == 107 || letter == 117) && at_or_zero(format, length, at + 1) == 115) return conversion_of(115, flags, width, 0, at + 2);
  if (letter == 108) {
    flags |= WIDE;
    at++;
    letter = at_or_zero(format, length, at);
    if (letter == 108) {
      at++;
      letter = at_or_zero(format, length, at);
    }
  }
  const isNumber = letter == 100 || letter == 105 || letter == 117 || letter == 120 || letter == 88;
  return isNumber ? conversion_of(letter, flags, width, 0, at + 1) : 0;
}

function conversion_of(letter: u32, flags: u64, width: u32, kind: u32, next: u32): u64 {
  return <u64>letter | flags | ((<u64>width) << WIDTH_SHIFT) | ((<u64>kind) << KIND_SHIFT) | ((<u64>next) << NEXT_SHIFT);
}

/** What follows %p: 0 nothing, 1 what cannot, else a letter, with bit 7 set for addresses of IPv6. */
function pointer_kind(format: usize, length: u32, at: u32): u32 {
  const character = at_or_zero(format, length, at);
  if (character == 75 || character == 120 || character == 115 || character == 83 || character == 66) return character;
  if (character == 105 || character == 73) {
    const family = at_or_zero(format, length, at + 1);
    if (family == 52) return character;
    return family == 54 ? character | 0x80 : 1;
  }
  const isAlphanumeric =
    (character >= 48 && character <= 57) || (character >= 65 && character <= 90) || (character >= 97 && character <= 122);
  return isAlphanumeric ? 1 : 0;
}

function is_address(kind: u32): bool {
  return (kind & 0x7f) == 105 || (kind & 0x7f) == 73;
}

function converted(worker: usize, to: usize, room: u32, done: u32, conversion: u64, value: u64): u32 {
  const letter = <u32>conversion & 0xff;
  const width = <u32>(conversion >> WIDTH_SHIFT) & 0xffff;
  const kind = <u32>(conversion >> KIND_SHIFT) & 0xffff;
  if (letter == 99) return text(to, room, done, 0, worker, <u64>(<u8>value), 1, width, conversion);
  if (letter == 115) return text(to, room, done, 1, worker, value, text_length(worker, value), width, conversion);
  if (letter == 112) {
    if (is_address(kind)) return address(worker, to, room, done, kind, value);
    return number(to, room, done, value, 16, 0, 16, ZERO_PADDED | 32);
  }
  const isSigned = letter == 100 || letter == 105;
  const isWide = (conversion & WIDE) != 0;
  const whole: u64 = isWide ? value : isSigned ? <u64>(<i64>(<i32>value)) : <u64>(<u32>value);
  const isNegative = isSigned && <i64>whole < 0;
  const sign: u32 = isNegative ? MINUS : !isSigned ? 0 : conversion & SIGNED ? PLUS : conversion & SPACED ? SPACE : 0;
  const base: u32 = letter == 120 || letter == 88 ? 16 : 10;
  const letterCase: u64 = letter == 88 ? 0 : 32;
  return number(to, room, done, isNegative ? 0 - whole : whole, base, sign, width, (conversion & (LEFT | ZERO_PADDED)) | letterCase);
}

/** Bytes up to the zero byte, or the end of what may be read. */
export function text_length(worker: usize, pointer: u64): u32 {
  let length: u32 = 0;
  while (true) {
    const address = region_address(worker, pointer + length, 1, 0);
    if (!address || !load<u8>(address)) return length;
    length++;
  }
}

/** A text of memory, or one character. */
function text(to: usize, room: u32, done: u32, isMemory: u32, worker: usize, value: u64, length: u32, width: u32, flags: u64): u32 {
  let at = done;
  const pad = width > length ? width - length : 0;
  if (!(flags & LEFT)) for (let i: u32 = 0; i < pad; i++) at = put(to, room, at, SPACE);
  for (let i: u32 = 0; i < length; i++) at = put(to, room, at, isMemory ? byte_at(worker, value + i) : <u32>value);
  if (flags & LEFT) for (let i: u32 = 0; i < pad; i++) at = put(to, room, at, SPACE);
  return at;
}

/** A byte that a pointer means; 0 where it must not be read. */
function byte_at(worker: usize, pointer: u64): u32 {
  const address = region_address(worker, pointer, 1, 0);
  return address ? load<u8>(address) : 0;
}

/** A number; bit 5 of the flags makes its letters small. */
function number(to: usize, room: u32, done: u32, value: u64, base: u32, sign: u32, width: u32, flags: u64): u32 {
  let digits: u32 = 1;
  let unit: u64 = 1;
  while (value / unit >= base) {
    unit *= base;
    digits++;
  }
  const size = digits + (sign ? 1 : 0);
  const pad = width > size ? width - size : 0;
  const isZeroPadded = (flags & ZERO_PADDED) != 0 && !(flags & LEFT);
  let at = done;
  if (!isZeroPadded && !(flags & LEFT)) for (let i: u32 = 0; i < pad; i++) at = put(to, room, at, SPACE);
  if (sign) at = put(to, room, at, sign);
  if (isZeroPadded) for (let i: u32 = 0; i < pad; i++) at = put(to, room, at, ZERO);
  for (let i: u32 = 0; i < digits; i++) {
    const digit = <u32>((value / unit) % base);
    at = put(to, room, at, digit < 10 ? ZERO + digit : (65 | (<u32>flags & 32)) + digit - 10);
    unit /= base;
  }
  if (flags & LEFT) for (let i: u32 = 0; i < pad; i++) at = put(to, room, at, SPACE);
  return at;
}

/** Addresses: %pI4 1.2.3.4, %pi4 001.002.003.004, %pI6 with colons between groups of four digits, %pi6 without. */
function address(worker: usize, to: usize, room: u32, done: u32, kind: u32, pointer: u64): u32 {
  const isLarge = (kind & 0x7f) == 73;
  const isIpv6 = (kind & 0x80) != 0;
  const bytes: u32 = isIpv6 ? 16 : 4;
  let at = done;
  for (let i: u32 = 0; i < bytes; i++) {
    const byte = byte_at(worker, pointer + i);
    if (isIpv6) {
      if (isLarge && i && !(i & 1)) at = put(to, room, at, 58);
      at = number(to, room, at, byte, 16, 0, 2, ZERO_PADDED | 32);
      continue;
    }
    if (i) at = put(to, room, at, 46);
    at = number(to, room, at, byte, 10, 0, isLarge ? 0 : 3, ZERO_PADDED);
  }
  return at;
}

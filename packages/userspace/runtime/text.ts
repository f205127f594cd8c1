/** Helpers for text: comparing it and reading numbers out of it. */
import { EINVAL, ERANGE } from './errno';
import { region_address } from './region';

const BASE: u64 = 0x1f;
const TEXT_LIMIT: u32 = 63;

/** bpf_strncmp. The second text is one that a program cannot change; it ends in a zero byte, or with its region. */
export function strncmp(worker: usize, text: usize, size: u64, other: u64): i64 {
  for (let at: u32 = 0; at < <u32>size; at++) {
    const one = load<u8>(text + at);
    const address = region_address(worker, other + at, 1, 0);
    const two = address ? load<u8>(address) : 0;
    if (one != two) return one < two ? -1 : 1;
    if (!one) return 0;
  }
  return 0;
}

function is_space(character: u32): bool {
  return character == 32 || (character >= 9 && character <= 13) || character == 0xa0;
}

/** The value of a digit; 255 for what is none. */
function digit_of(character: u32): u32 {
  if (character >= 48 && character <= 57) return character - 48;
  const letter = character | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : 255;
}

/** bpf_strtol: the characters that were read, or an error. */
export function strtol(text: usize, size: u64, flags: u64, result: usize): i64 {
  return parse(text, <u32>size, flags, result, true);
}

/** bpf_strtoul. */
export function strtoul(text: usize, size: u64, flags: u64, result: usize): i64 {
  return parse(text, <u32>size, flags, result, false);
}

function parse(text: usize, size: u32, flags: u64, result: usize, isSigned: bool): i64 {
  store<u64>(result, 0);
  let base = <u32>(flags & BASE);
  if (size == 0 || flags & ~BASE || (base != 0 && base != 8 && base != 10 && base != 16)) return EINVAL;
  let at: u32 = 0;
  while (at < size && is_space(load<u8>(text + at))) at++;
  const isNegative = at < size && load<u8>(text + at) == 45;
  if (isNegative) at++;
  if (at >= size) return EINVAL;
  // more than that the kernel does not look at
  const end = size - at > TEXT_LIMIT ? at + TEXT_LIMIT : size;
  const isZero = load<u8>(text + at) == 48;
  const hasMark = isZero && at + 1 < end && (load<u8>(text + at, 1) | 32) == 120;
  if (base == 0) base = hasMark && at + 2 < end && digit_of(load<u8>(text + at, 2)) < 16 ? 16 : isZero ? 8 : 10;
  if (base == 16 && hasMark) at += 2;
  const first = at;
  let value: u64 = 0;
  while (at < end) {
    const digit = digit_of(load<u8>(text + at));
    if (digit >= base) break;
    if (value > (u64.MAX_VALUE - digit) / base) return ERANGE;
    value = value * base + digit;
    at++;
  }
  if (at == first) return EINVAL;
  if (isNegative && !isSigned) return EINVAL;
  if (isSigned) {
    const most: u64 = isNegative ? <u64>i64.MAX_VALUE + 1 : <u64>i64.MAX_VALUE;
    if (value > most) return ERANGE;
    if (isNegative) value = 0 - value;
  }
  store<u64>(result, value);
  return at;
}

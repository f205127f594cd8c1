/** bpf(2): one function for commands made at once, one for commands made on a pool thread, and what every object has. */
import { type Attributes, attributeSize, type BpfCommand, commands, encodeAttributes } from './attribute.ts';
import { SyscallError } from './errno.ts';
import { allocate, type Memory } from './memory.ts';
import { closeFd, trySyscall, trySyscallAsync } from './syscall.ts';

/** What a command returned, an errno negated where it failed, and its attributes as the kernel left them. */
export interface BpfResult {
  readonly result: number;
  readonly attributes: Memory;
  /** The blocks that were handed in: part of the result so that they outlive the call. */
  readonly memory: readonly Memory[];
}

/** Makes a command at once. `memory` names the blocks that the attributes point at. */
export function tryBpf<C extends BpfCommand>(command: C, attributes: Attributes<C>, memory: readonly Memory[] = []): BpfResult {
  const block = encodeAttributes(command, attributes);
  const result = trySyscall('bpf', commands[command].number, block.address, attributeSize(command));
  return { result, attributes: block, memory };
}

/** Makes a command on a pool thread; `memory` is kept alive until it ends. Never for what depends on a namespace. */
export async function tryBpfAsync<C extends BpfCommand>(
  command: C,
  attributes: Attributes<C>,
  memory: readonly Memory[] = [],
): Promise<BpfResult> {
  const block = encodeAttributes(command, attributes);
  const result = await trySyscallAsync('bpf', [commands[command].number, block.address, attributeSize(command)], [block, ...memory]);
  return { result, attributes: block, memory };
}

/** As tryBpf, and throws SyscallError on failure; `about` names the object, e.g. `map l4lb/conns`. */
export function bpf<C extends BpfCommand>(command: C, attributes: Attributes<C>, about: string, memory: readonly Memory[] = []): BpfResult {
  const outcome = tryBpf(command, attributes, memory);
  if (outcome.result < 0) throw bpfError(command, outcome.result, about);
  return outcome;
}

/** The error for a command that returned a negated errno. */
export function bpfError(command: BpfCommand, result: number, about: string, hint?: string): SyscallError {
  return new SyscallError(`bpf(${command})`, -result, about, hint === undefined ? {} : { hint });
}

/** Runs `body` with an fd that was just made; closes it if `body` throws. */
export function closeOnError<T>(fd: number, body: (fd: number) => T): T {
  try {
    return body(fd);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** A kernel object name: at most 15 of the characters letters, digits, `_` and `.`; others become `_`. */
export function objectName(name: string): string {
  return name.replace(/[^A-Za-z0-9_.]/g, '_').slice(0, 15);
}

/** The first `size` bytes of what the kernel tells about the object behind an fd (struct bpf_*_info). */
export function objectInfo(fd: number, size: number, about: string): DataView {
  const info = allocate(size);
  bpf('BPF_OBJ_GET_INFO_BY_FD', { bpf_fd: fd, info_len: size, info: info.address }, about, [info]);
  return info.view;
}

/** The kernel's id of a map or link; a program's lies at the same place in its info. */
export function objectId(fd: number, about: string): number {
  // struct bpf_map_info, bpf_prog_info and bpf_link_info: u32 type, u32 id.
  return objectInfo(fd, 8, about).getUint32(4, true);
}

/** Loads a BTF blob and returns its fd, which the caller closes. `about` names what it is for. */
export function loadBtf(blob: Uint8Array, about: string): number {
  const memory = allocate(blob.length);
  memory.bytes.set(blob);
  const attributes = { btf: memory.address, btf_size: blob.length };
  const first = tryBpf('BPF_BTF_LOAD', attributes, [memory]);
  if (first.result >= 0) return first.result;
  const log = allocate(64 * 1024);
  const logged = { ...attributes, btf_log_buf: log.address, btf_log_size: log.bytes.length, btf_log_level: 1 };
  const second = tryBpf('BPF_BTF_LOAD', logged, [memory, log]);
  if (second.result >= 0) return second.result;
  const reason = cString(log.bytes).trim().split('\n').at(-1);
  throw bpfError('BPF_BTF_LOAD', first.result, about, reason ? `the kernel says of the BTF: ${reason}` : undefined);
}

/** Text up to the first NUL byte. */
export function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

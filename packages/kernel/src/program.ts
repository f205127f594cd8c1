/**
 * Kernel programs: loading, which runs the verifier on a pool thread, and test runs. What the verifier says against a
 * program becomes a VerifierError (verifier.ts).
 */
import {
  ArgumentError,
  encode,
  FUNC_INFO_BYTES,
  LINE_INFO_BYTES,
  type LoadedMap,
  type LoadedProgram,
  type ProgramSpec,
  ProgramType,
  programBtf,
  type TestRunOptions,
  type TestRunResult,
  WIDE_OPCODE,
  WidePseudo,
} from '@tailrace/bpf';
import type { Attributes } from './attribute.ts';
import {
  type BpfResult,
  bpf,
  bpfError,
  closeOnError,
  cString,
  loadBtf,
  objectId,
  objectInfo,
  objectName,
  tryBpf,
  tryBpfAsync,
} from './bpf.ts';
import { Descriptor } from './descriptor.ts';
import { Errno, SyscallError } from './errno.ts';
import { allocate, allocateCopy, type Memory } from './memory.ts';
import { inNamespace, type NetworkNamespace } from './netns.ts';
import { closeFd } from './syscall.ts';
import { testRun } from './test-run.ts';
import { logIsWhole, verifierError } from './verifier.ts';

/** BPF_F_XDP_HAS_FRAGS (include/uapi/linux/bpf.h). */
const BPF_F_XDP_HAS_FRAGS = 1 << 5;
/** Expected attach type BPF_XDP (enum bpf_attach_type). */
const BPF_XDP = 37;
/** BPF_LOG_LEVEL2: the state of registers at every instruction, on all paths. */
const allPaths = 2;
/** BPF_LOG_LEVEL1: instructions on the path that failed. */
const failedPath = 1;
const firstLogBytes = 1 << 24;
/** The kernel's own limit is UINT_MAX >> 2. */
const lastLogBytes = 1 << 27;
/** What a program's map references resolve to: a map of this package, with its fd. */
export interface ReferencedMap extends LoadedMap {
  /** The map's fd. */
  readonly fd: number;
}

/**
 * Loads a program on a pool thread. `maps` resolves `spec.mapReferences`; `namespace` is where test runs happen
 * (undefined: wherever the pool's threads are).
 * Throws VerifierError where the verifier has something to say, else SyscallError, leaving nothing open.
 */
export async function loadProgram(
  spec: ProgramSpec,
  maps: ReadonlyMap<string, ReferencedMap>,
  namespace?: NetworkNamespace,
): Promise<KernelProgram> {
  const about = `program ${spec.name}`;
  const instructions = allocateCopy(relocated(spec, maps));
  const { btf, funcInfo, lineInfo } = programBtf(spec);
  const functions = allocateCopy(funcInfo);
  const lines = allocateCopy(lineInfo);
  const license = allocateCopy(new TextEncoder().encode(`${spec.license}\0`));
  const memory = [instructions, functions, lines, license];
  const btfFd = loadBtf(btf, about);
  try {
    const attributes: Attributes<'BPF_PROG_LOAD'> = {
      prog_type: ProgramType[spec.type],
      insn_cnt: instructions.bytes.length / 8,
      insns: instructions.address,
      license: license.address,
      prog_flags: spec.frags ? BPF_F_XDP_HAS_FRAGS : 0,
      prog_name: objectName(spec.name),
      expected_attach_type: spec.type === 'xdp' ? BPF_XDP : 0,
      prog_btf_fd: btfFd,
      func_info_rec_size: FUNC_INFO_BYTES,
      func_info: functions.address,
      func_info_cnt: funcInfo.length / FUNC_INFO_BYTES,
      ...(lineInfo.length > 0
        ? {
            line_info_rec_size: LINE_INFO_BYTES,
            line_info: lines.address,
            line_info_cnt: lineInfo.length / LINE_INFO_BYTES,
          }
        : {}),
    };
    const fd = await load(spec, attributes, memory);
    return closeOnError(fd, () => new KernelProgram(spec, fd, objectId(fd, about), namespace));
  } finally {
    closeFd(btfFd);
  }
}

/** What the kernel made of a program. */
export interface ProgramInfo {
  readonly id: number;
  /** As bpftool shows it. */
  readonly name: string;
  /** Instruction slots after the verifier's rewriting. */
  readonly translatedSlots: number;
  /** Bytes of machine code. */
  readonly jitedBytes: number;
  /** Instructions that the verifier walked, of its million. */
  readonly verifiedInstructions: number;
}

/** A live kernel program. Using it after `close` throws ArgumentError. */
export class KernelProgram implements LoadedProgram {
  readonly spec: ProgramSpec;
  readonly id: number;
  readonly #descriptor: Descriptor;
  readonly #namespace: NetworkNamespace | undefined;

  /** Takes over `fd`. */
  constructor(spec: ProgramSpec, fd: number, id: number, namespace?: NetworkNamespace) {
    this.spec = spec;
    this.id = id;
    this.#namespace = namespace;
    this.#descriptor = new Descriptor(fd, `program ${spec.name}`);
  }

  /** For this package: the fd to refer to this program by. Throws ArgumentError once closed. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** For this package: keeps the fd open until `work` settles. */
  hold<T>(work: (fd: number) => Promise<T>): Promise<T> {
    return this.#descriptor.hold(work);
  }

  /**
   * Runs the program over a packet (BPF_PROG_TEST_RUN), on a pool thread unless the engine has a namespace of its own.
   * The context's interface is the loopback of that namespace unless given. Throws ArgumentError (packets under 14 bytes,
   * fields that are refused), UnsupportedError, SyscallError (EINVAL for packets that the kernel cannot hold: over about
   * 3,500 bytes without frags).
   */
  async testRun(options: TestRunOptions): Promise<TestRunResult> {
    return this.hold((fd) =>
      testRun(fd, this.spec, options, (attributes, memory) =>
        again(Errno.EINTR, async () =>
          this.#namespace
            ? inNamespace(this.#namespace, () => tryBpf('BPF_PROG_TEST_RUN', attributes, memory))
            : await tryBpfAsync('BPF_PROG_TEST_RUN', attributes, memory),
        ),
      ),
    );
  }

  /** What the kernel made of the program. Throws SyscallError. */
  info(): ProgramInfo {
    return programInfo(this.fd, `program ${this.spec.name}`);
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#descriptor.closed;
  }

  close(): void {
    this.#descriptor.close();
  }
}

/** What the kernel tells about the program behind an fd. */
export function programInfo(fd: number, about: string): ProgramInfo {
  // struct bpf_prog_info: type, id, tag[8], jited_prog_len at 16, xlated_prog_len at 20, name[16] at 64,
  // verified_insns at 216.
  const info = objectInfo(fd, 232, about);
  return {
    id: info.getUint32(4, true),
    name: cString(new Uint8Array(info.buffer, 64, 16)),
    translatedSlots: info.getUint32(20, true) / 8,
    jitedBytes: info.getUint32(16, true),
    verifiedInstructions: info.getUint32(216, true),
  };
}

/** Opens a program by its id and returns its fd, which is the caller's. Throws SyscallError (EPERM without CAP_SYS_ADMIN). */
export function openProgramById(id: number): number {
  return bpf('BPF_PROG_GET_FD_BY_ID', { prog_id: id }, `program ${id}`).result;
}

/** The name of a program by its id; empty where it is gone, or another capability (CAP_SYS_ADMIN) is wanted to ask. */
export function programName(id: number): string {
  const { result: fd } = tryBpf('BPF_PROG_GET_FD_BY_ID', { prog_id: id });
  if (fd < 0) return '';
  try {
    return programInfo(fd, `program ${id}`).name;
  } catch (error) {
    if (error instanceof SyscallError) return '';
    throw error;
  } finally {
    closeFd(fd);
  }
}

/** The encoded program with the fds of its maps filled in. */
function relocated(spec: ProgramSpec, maps: ReadonlyMap<string, ReferencedMap>): Uint8Array {
  const bytes = encode(spec.instructions);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const { pc, map: name, valueOffset } of spec.mapReferences) {
    const map = maps.get(name);
    if (!map) throw new ArgumentError(`program ${spec.name} names the map ${name}, which was not given`);
    const at = pc * 8;
    if (at + 16 > bytes.length || bytes[at] !== WIDE_OPCODE) {
      throw new ArgumentError(`program ${spec.name} has no wide load at pc ${pc} for map ${name}`);
    }
    const pseudo = valueOffset === undefined ? WidePseudo.mapFd : WidePseudo.mapValue;
    view.setUint8(at + 1, ((bytes[at + 1] ?? 0) & 0x0f) | (pseudo << 4));
    view.setInt32(at + 4, map.fd, true);
    view.setUint32(at + 12, valueOffset ?? 0, true);
  }
  return bytes;
}

async function load(spec: ProgramSpec, attributes: Attributes<'BPF_PROG_LOAD'>, memory: readonly Memory[]): Promise<number> {
  // EAGAIN: a signal came while the verifier ran.
  const first = await again(Errno.EAGAIN, () => tryBpfAsync('BPF_PROG_LOAD', attributes, memory));
  if (first.result >= 0) return first.result;
  const failure = bpfError('BPF_PROG_LOAD', first.result, `program ${spec.name}`);
  // E2BIG: over a million instructions walked, of which the states would take a quarter of a minute to print.
  const log_level = first.result === -Errno.E2BIG ? failedPath : allPaths;
  for (let size = firstLogBytes; size <= lastLogBytes; size *= 8) {
    const log = allocate(size);
    const logged = { ...attributes, log_level, log_size: size, log_buf: log.address };
    const { result } = await again(Errno.EAGAIN, () => tryBpfAsync('BPF_PROG_LOAD', logged, [...memory, log]));
    if (result >= 0) return result;
    const text = cString(log.bytes);
    // ENOSPC: longer than the buffer. Since Linux 6.4 the buffer then holds the end of the log, which is what counts.
    if (result === -Errno.ENOSPC && !logIsWhole(text)) continue;
    if (text.trim() === '') break;
    throw verifierError(spec, text, failure);
  }
  throw failure;
}

/** Repeats a call that a signal interrupted, at most five times, as libbpf does. */
async function again(errno: number, call: () => Promise<BpfResult>): Promise<BpfResult> {
  let outcome = await call();
  for (let attempt = 1; outcome.result === -errno && attempt < 5; attempt += 1) outcome = await call();
  return outcome;
}

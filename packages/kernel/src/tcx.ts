/**
 * TCX links (Linux 6.6): the kernel keeps the TC programs of an interface in an order, each link has its place in it, and
 * closing the link takes the program out. All of it depends on the namespace of the thread.
 */
import { type Attributes, readAttribute } from './attribute.ts';
import { bpfError, tryBpf, tryBpfAsync } from './bpf.ts';
import { Errno, SyscallError } from './errno.ts';
import { allocate } from './memory.ts';
import { inNamespace, type NetworkNamespace } from './netns.ts';
import { programName } from './program.ts';
import {
  AlreadyAttachedError,
  type AttachedTc,
  missing,
  type TcHook,
  type TcOrder,
  TcOrderError,
  type TcProgram,
  type TcTarget,
} from './tc-order.ts';

/** BPF_TCX_INGRESS and BPF_TCX_EGRESS (enum bpf_attach_type). */
const attachType = { tcIngress: 46, tcEgress: 47 } as const satisfies Readonly<Record<TcHook, number>>;
/** BPF_F_BEFORE, BPF_F_AFTER and BPF_F_ID (include/uapi/linux/bpf.h): relative_id names a program, 0 the end of the list. */
const before = 1 << 3;
const after = 1 << 4;
const byId = 1 << 5;
/** Programs that one hook of an interface can have (kernel/bpf/mprog.c, BPF_MPROG_MAX). */
const mostPrograms = 64;
const ERANGE = 34;

/** Whether the kernel has TCX. Throws SyscallError where it cannot be told. */
export function hasTcx(): boolean {
  // No interface has the index 2^31 - 1, so a kernel with TCX answers ENODEV, and one without EINVAL.
  const { result } = tryBpf('BPF_PROG_QUERY', { target_ifindex: 0x7fff_ffff, attach_type: attachType.tcIngress });
  if (result === -Errno.ENODEV) return true;
  if (result === -Errno.EINVAL) return false;
  throw bpfError('BPF_PROG_QUERY', result, 'a probe for TCX');
}

/** The TCX programs of an interface, in the order in which they run. Throws SyscallError. */
export function listTcx({ index, name, hook }: TcTarget, namespace?: NetworkNamespace): AttachedTc[] {
  const ids = allocate(mostPrograms * 4);
  const query = () =>
    tryBpf('BPF_PROG_QUERY', { target_ifindex: index, attach_type: attachType[hook], prog_ids: ids.address, count: mostPrograms }, [ids]);
  const { result, attributes } = namespace ? inNamespace(namespace, query) : query();
  if (result < 0) throw bpfError('BPF_PROG_QUERY', result, `${hook} of interface ${name}`);
  return Array.from({ length: readAttribute('BPF_PROG_QUERY', attributes, 'count') }, (_, at) => {
    const programId = ids.view.getUint32(at * 4, true);
    return { programId, name: programName(programId) };
  });
}

/**
 * Makes a link and returns its fd. `namespace` is entered on this thread; undefined: a pool thread makes the call.
 * Throws TcOrderError, AlreadyAttachedError, SyscallError.
 */
export async function createTcxLink(program: TcProgram, target: TcTarget, order: TcOrder, namespace?: NetworkNamespace): Promise<number> {
  const { index, name, hook } = target;
  const attributes: Attributes<'BPF_LINK_CREATE'> = {
    prog_fd: program.fd,
    target_ifindex: index,
    attach_type: attachType[hook],
    ...place(order),
  };
  const { result } = namespace
    ? inNamespace(namespace, () => tryBpf('BPF_LINK_CREATE', attributes))
    : await tryBpfAsync('BPF_LINK_CREATE', attributes);
  if (result >= 0) return result;
  if (result === -Errno.EEXIST) throw new AlreadyAttachedError(program, target);
  const there = () => listTcx(target, namespace);
  if (result === -ERANGE) throw new TcOrderError(target, `has ${mostPrograms} programs, which is all it can have`, there());
  // EINVAL: a program of another type has that id.
  if (typeof order !== 'string' && (result === -Errno.ENOENT || result === -Errno.EINVAL)) {
    throw new TcOrderError(target, missing(order), there());
  }
  throw new SyscallError('bpf(BPF_LINK_CREATE)', -result, `program ${program.name} on ${hook} of interface ${name}`);
}

function place(order: TcOrder): Attributes<'BPF_LINK_CREATE'> {
  if (order === 'first') return { flags: before };
  if (order === 'last') return { flags: after };
  return 'before' in order ? { flags: before | byId, relative_id: order.before } : { flags: after | byId, relative_id: order.after };
}

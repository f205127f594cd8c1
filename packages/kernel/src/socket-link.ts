/**
 * Socket programs where they run: at the sockets of a map, and at those of a cgroup by a link, which is gone with its process. Sockets that
 * are in a map keep its program, and the program the map, until they are closed: whatever waits there is still read.
 */
import { closeSync, openSync } from 'node:fs';
import { ArgumentError, type Detachable, type ProgramType, type SocketPlace } from '@tailrace/bpf';
import { bpf, bpfError, tryBpfAsync } from './bpf.ts';
import { Errno } from './errno.ts';
import { KernelMap } from './map.ts';
import type { KernelProgram } from './program.ts';
import { closeFdAsync } from './syscall.ts';

type SocketHook = SocketPlace['hook'];

/** enum bpf_attach_type: BPF_CGROUP_SOCK_OPS, BPF_SK_SKB_STREAM_PARSER, BPF_SK_SKB_STREAM_VERDICT, BPF_SK_MSG_VERDICT. */
const attachType: Readonly<Record<SocketHook, number>> = { sockOps: 3, skSkbParser: 4, skSkb: 5, skMsg: 7 };
const programType: Readonly<Record<SocketHook, ProgramType>> = { sockOps: 'sockOps', skSkbParser: 'skSkb', skSkb: 'skSkb', skMsg: 'skMsg' };

/** Attaches a program; `cgroup` is the path of that whose events there are. Throws ArgumentError (another type, no socket map, no cgroup), SyscallError. */
export async function attachToSockets(program: KernelProgram, place: SocketPlace, cgroup: string | undefined): Promise<Detachable> {
  if (program.spec.type !== programType[place.hook])
    throw new ArgumentError(`program ${program.spec.name} is of type ${program.spec.type}, the hook is ${place.hook}`);
  if ('map' in place) return attachToMap(program, place);
  if (cgroup === undefined)
    throw new ArgumentError(`program ${program.spec.name} wants the events of a cgroup's sockets, and the engine has no cgroup`, {
      hint: "name one: kernel({ cgroup: '/sys/fs/cgroup/…' })",
    });
  return attachToCgroup(program, cgroup);
}

function attachToMap(program: KernelProgram, { hook, map }: Extract<SocketPlace, { map: unknown }>): Detachable {
  if (!(map instanceof KernelMap) || (map.spec.type !== 'sockmap' && map.spec.type !== 'sockhash'))
    throw new ArgumentError(`map ${map.spec.name} is no map of sockets of the kernel engine`);
  const about = `program ${program.spec.name} at map ${map.spec.name}`;
  // sockets keep their program, and with the map's last holder the kernel drops what waits at its sockets: so the program holds the map
  bpf('BPF_PROG_BIND_MAP', { prog_fd: program.fd, map_fd: map.fd }, about);
  bpf('BPF_PROG_ATTACH', { target_fd: map.fd, attach_bpf_fd: program.fd, attach_type: attachType[hook] }, about);
  let attached = true;
  return {
    detach: async () => {
      // with the map its programs are gone, and another's may have taken the place
      if (!attached || map.closed) return;
      const attributes = { target_fd: map.fd, attach_bpf_fd: program.fd, attach_type: attachType[hook] };
      const { result } = await tryBpfAsync('BPF_PROG_DETACH', attributes);
      if (result < 0 && result !== -Errno.ENOENT) throw bpfError('BPF_PROG_DETACH', result, about);
      attached = false;
    },
  };
}

async function attachToCgroup(program: KernelProgram, cgroup: string): Promise<Detachable> {
  const about = `program ${program.spec.name} at cgroup ${cgroup}`;
  const folder = openCgroup(cgroup);
  try {
    const link = await program.hold((prog_fd) =>
      tryBpfAsync('BPF_LINK_CREATE', { prog_fd, target_ifindex: folder, attach_type: attachType.sockOps }),
    );
    if (link.result < 0) throw bpfError('BPF_LINK_CREATE', link.result, about, cgroupHint(-link.result));
    let open = true;
    return {
      detach: async () => {
        if (!open) return;
        open = false;
        await closeFdAsync(link.result);
      },
    };
  } finally {
    closeSync(folder);
  }
}

function openCgroup(cgroup: string): number {
  try {
    return openSync(cgroup, 'r');
  } catch (cause) {
    throw new ArgumentError(`cgroup ${cgroup} cannot be opened`, {
      cause,
      hint: 'give the path of a folder of cgroup2, e.g. /sys/fs/cgroup/system.slice',
    });
  }
}

/** EBADF: the folder is of no cgroup2 (kernel/cgroup/cgroup.c, cgroup_get_from_fd). */
function cgroupHint(errno: number): string | undefined {
  return errno === 9 ? 'the path is of no cgroup2: mount -t cgroup2 none /sys/fs/cgroup' : undefined;
}

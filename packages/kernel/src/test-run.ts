/**
 * Test runs (BPF_PROG_TEST_RUN): the packet and its context as the kernel takes them, and what it gives back. The context
 * is struct __sk_buff for programs of TC and struct xdp_md for XDP (include/uapi/linux/bpf.h; net/bpf/test_run.c says
 * which fields count).
 */
import {
  ArgumentError,
  type ProgramSpec,
  type SkbContext,
  type SkbResult,
  type TestRunOptions,
  type TestRunResult,
  UnsupportedError,
  type XdpContext,
} from '@tailrace/bpf';
import { type Attributes, readAttribute } from './attribute.ts';
import { type BpfResult, bpfError } from './bpf.ts';
import { Errno } from './errno.ts';
import { allocate, type Memory } from './memory.ts';

/** BPF_F_TEST_SKB_CHECKSUM_COMPLETE. */
const checksumCompleteFlag = 1 << 2;
/** ETH_HLEN: the kernel runs no packet without a whole Ethernet header. */
const shortestPacket = 14;
/** Room for what a program adds: headroom of XDP_PACKET_HEADROOM (256) in front, a page behind. */
const growthBytes = 256 + 4096;
/** Bytes of metadata that every kernel takes (xdp_metalen_invalid before Linux 6.5). */
const portableMetadata = 32;
/** Packets up to this length fit the kernel's buffer whatever else is in it. */
const surelyFits = 3000;
const EFAULT = 14;
const EBADMSG = 74;
/** sizeof(struct __sk_buff) and sizeof(struct xdp_md). */
const skbBytes = 192;
const xdpBytes = 24;
const cbBytes = 20;

/** Byte offsets in struct __sk_buff. */
const skbField = { mark: 8, queue: 12, priority: 32, ingressIfindex: 36, ifindex: 40, gsoSegments: 164, gsoSize: 176 } as const;
const cbOffset = 48;
const skbLimit = { gsoSegments: 0xffff, gsoSize: 0xffff } as const satisfies Partial<Record<keyof typeof skbField, number>>;
/** Byte offsets in struct xdp_md. */
const xdpField = { data: 0, dataEnd: 4, ingressIfindex: 12, rxQueue: 16 } as const;

/** Makes BPF_PROG_TEST_RUN with these attributes, wherever that has to happen. */
export type RunCommand = (attributes: Attributes<'BPF_PROG_TEST_RUN'>, memory: readonly Memory[]) => Promise<BpfResult>;

/**
 * Runs a program over a packet. Throws ArgumentError naming what is out of range or refused, UnsupportedError for
 * `checksumComplete` where the kernel does not know it, SyscallError (EINVAL) for packets that the kernel cannot hold: over
 * about 3,500 bytes without frags.
 */
export async function testRun(fd: number, spec: ProgramSpec, options: TestRunOptions, run: RunCommand): Promise<TestRunResult> {
  check(spec, options);
  const { packet, repeat = 1, checksumComplete = false } = options;
  const isXdp = spec.type === 'xdp';
  const metadata = options.xdp?.metadata ?? new Uint8Array();
  const input = allocate(metadata.length + packet.length);
  input.bytes.set(metadata);
  input.bytes.set(packet, metadata.length);
  const output = allocate(input.bytes.length + growthBytes);
  const context = isXdp ? xdpContext(options.xdp ?? {}, metadata.length, input.bytes.length) : skbContext(options.skb ?? {});
  const attributes: Attributes<'BPF_PROG_TEST_RUN'> = {
    prog_fd: fd,
    data_in: input.address,
    data_size_in: input.bytes.length,
    data_out: output.address,
    data_size_out: output.bytes.length,
    repeat,
    ctx_in: context.address,
    ctx_size_in: context.bytes.length,
    ctx_out: context.address,
    ctx_size_out: context.bytes.length,
    flags: checksumComplete ? checksumCompleteFlag : 0,
  };
  const { result, attributes: out } = await run(attributes, [input, output, context]);
  if (result < 0) {
    if (checksumComplete && result === -Errno.EINVAL) await requireChecksumComplete(fd, run);
    throw failure(spec, options, result);
  }
  const length = readAttribute('BPF_PROG_TEST_RUN', out, 'data_size_out');
  const inFront = isXdp ? context.view.getUint32(xdpField.data, true) : 0;
  const left = inFront === 0 ? undefined : { metadata: output.bytes.slice(0, inFront) };
  return {
    returnValue: readAttribute('BPF_PROG_TEST_RUN', out, 'retval'),
    packet: output.bytes.slice(inFront, length),
    durationNs: readAttribute('BPF_PROG_TEST_RUN', out, 'duration'),
    ...(isXdp ? {} : { skb: readSkb(context) }),
    ...(left ? { xdp: left } : {}),
  };
}

function check(spec: ProgramSpec, { packet, repeat = 1, skb, xdp, checksumComplete, socket }: TestRunOptions): void {
  if (spec.type === 'skSkb' || spec.type === 'skMsg' || spec.type === 'sockOps')
    throw new UnsupportedError(`the kernel has no test runs for programs of type ${spec.type}, which ${spec.name} is`, {
      hint: 'run it with userspace(), or over a real connection',
    });
  if (packet.length < shortestPacket) {
    throw new ArgumentError(`a test run takes a packet of at least ${shortestPacket} bytes, got ${packet.length}`);
  }
  if (!Number.isInteger(repeat) || repeat < 1 || repeat > 0xffff_ffff) {
    throw new ArgumentError(`repeat must be 1 to 4294967295, got ${repeat}`);
  }
  const foreign = spec.type === 'xdp' ? { skb, checksumComplete, socket } : { xdp, socket };
  for (const [name, value] of Object.entries(foreign)) {
    if (value !== undefined) throw new ArgumentError(`${name} is not for programs of type ${spec.type}, which ${spec.name} is`);
  }
}

function skbContext(skb: SkbContext): Memory {
  const memory = allocate(skbBytes);
  for (const [name, offset] of Object.entries(skbField) as [keyof typeof skbField, number][]) {
    const value = skb[name];
    if (value === undefined) continue;
    checkNumber(`skb.${name}`, value, name in skbLimit ? skbLimit[name as keyof typeof skbLimit] : 0xffff_ffff);
    memory.view.setUint32(offset, value, true);
  }
  if (skb.queue) {
    throw new ArgumentError(`skb.queue must be 0, got ${skb.queue}`, { hint: "the kernel's test runs take no queue" });
  }
  if (skb.cb && skb.cb.length !== cbBytes) throw new ArgumentError(`skb.cb takes ${cbBytes} bytes, got ${skb.cb.length}`);
  if (skb.cb) memory.bytes.set(skb.cb, cbOffset);
  return memory;
}

function readSkb({ bytes, view }: Memory): SkbResult {
  const u32 = (name: keyof typeof skbField) => view.getUint32(skbField[name], true);
  return {
    mark: u32('mark'),
    priority: u32('priority'),
    ifindex: u32('ifindex'),
    ingressIfindex: u32('ingressIfindex'),
    gsoSegments: u32('gsoSegments'),
    cb: bytes.slice(cbOffset, cbOffset + cbBytes),
  };
}

function xdpContext({ ingressIfindex = 0, rxQueue = 0 }: XdpContext, metadataBytes: number, length: number): Memory {
  checkNumber('xdp.ingressIfindex', ingressIfindex, 0x7fff_ffff);
  checkNumber('xdp.rxQueue', rxQueue, 0xffff_ffff);
  if (rxQueue > 0 && ingressIfindex === 0) {
    throw new ArgumentError(`xdp.rxQueue ${rxQueue} needs xdp.ingressIfindex, the interface that has the queue`);
  }
  if (metadataBytes % 4 !== 0) throw new ArgumentError(`xdp.metadata takes a multiple of 4 bytes, got ${metadataBytes}`);
  const memory = allocate(xdpBytes);
  memory.view.setUint32(xdpField.data, metadataBytes, true);
  memory.view.setUint32(xdpField.dataEnd, length, true);
  memory.view.setUint32(xdpField.ingressIfindex, ingressIfindex, true);
  memory.view.setUint32(xdpField.rxQueue, rxQueue, true);
  return memory;
}

function checkNumber(what: string, value: number, limit: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= limit) return;
  throw new ArgumentError(`${what} must be 0 to ${limit}, got ${value}`);
}

/** The error for a run that the kernel refused: an ArgumentError where it is known which field it was. */
function failure(spec: ProgramSpec, { packet, skb, xdp }: TestRunOptions, result: number): ArgumentError | ReturnType<typeof bpfError> {
  const hint = result === -EBADMSG ? 'the program left skb->csum wrong: it changed bytes without bpf_csum_update or its like' : undefined;
  const error = bpfError('BPF_PROG_TEST_RUN', result, `program ${spec.name}`, hint);
  if (result === -Errno.ENODEV) {
    const [field, index] = xdp ? ['xdp.ingressIfindex', xdp.ingressIfindex] : ['skb.ifindex', skb?.ifindex];
    return new ArgumentError(`${field} ${index} is no interface of the engine's namespace`, { cause: error });
  }
  if (result === -Errno.EINVAL && packet.length <= surelyFits) {
    if (xdp?.metadata && xdp.metadata.length > portableMetadata) {
      return new ArgumentError(`xdp.metadata of ${xdp.metadata.length} bytes is more than this kernel takes`, {
        cause: error,
        hint: `${portableMetadata} bytes are taken everywhere`,
      });
    }
    if (xdp?.rxQueue) {
      return new ArgumentError(`xdp.rxQueue ${xdp.rxQueue} is no receive queue of interface ${xdp.ingressIfindex}`, { cause: error });
    }
  }
  return error;
}

/** Throws UnsupportedError where the kernel does not know the flag. Runs nothing: the packet's address is none. */
async function requireChecksumComplete(fd: number, run: RunCommand): Promise<void> {
  const { result } = await run({ prog_fd: fd, data_size_in: 64, repeat: 1, flags: checksumCompleteFlag }, []);
  if (result === -EFAULT) return;
  throw new UnsupportedError('this kernel cannot run tests with checksumComplete', {
    hint: 'it came with Linux 6.11, and with updates of 6.1',
  });
}

/** Test runs of programs on sockets: data or an event of a connection that is only described. */
import { isIP } from 'node:net';
import { Duplex } from 'node:stream';
import { ArgumentError, type SocketContext, type TestRunOptions, type TestRunResult } from '@tailrace/bpf';
import { UserspaceMap } from './map.ts';
import type { SocketProgram } from './socket-program.ts';
import { tapOf } from './socket-table.ts';

/** BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB (include/uapi/linux/bpf.h). */
const ACTIVE_ESTABLISHED = 4;

/**
 * Runs a program. The socket of an event that it puts into maps is one that goes nowhere. Throws TrapError, ArgumentError for what is
 * out of range or not for programs on sockets.
 */
export function socketTestRun(program: SocketProgram, options: TestRunOptions): TestRunResult {
  const { packet, repeat = 1, skb, xdp, checksumComplete, socket = {} } = options;
  const { name, type } = program.spec;
  if (!Number.isInteger(repeat) || repeat < 1 || repeat > 0xffff_ffff)
    throw new ArgumentError(`repeat must be 1 to 4294967295, got ${repeat}`);
  for (const [option, value] of Object.entries({ skb, xdp, checksumComplete }))
    if (value !== undefined) throw new ArgumentError(`${option} is not for programs of type ${type}, which ${name} is`);
  checkSocket(socket);
  const isEvent = type === 'sockOps';
  if (isEvent && packet.length > 0) throw new ArgumentError(`events have no data, got ${packet.length} bytes for program ${name}`);
  const { sequence = 0, operation = ACTIVE_ESTABLISHED } = socket;
  const start = process.hrtime.bigint();
  for (let left = repeat; ; left--) {
    const tap = isEvent ? tapOf(nowhere()) : undefined;
    const event = tap && { operation, socket: tap.number, programs: 0 };
    const outcome = program.runOnSocket({ bytes: packet, sequence, ends: socket, ...(event ? { event } : {}) });
    for (const { map, key } of outcome.added) if (tap && map instanceof UserspaceMap) map.adoptSocket(key, tap);
    if (tap && outcome.added.length === 0) tap.socket.destroy();
    if (left > 1) continue;
    const { verdict, bytes, target, applyBytes, corkBytes } = outcome;
    return {
      returnValue: verdict,
      packet: bytes.slice(),
      durationNs: Math.round(Number(process.hrtime.bigint() - start) / repeat),
      socket: {
        ...(target ? { target: { map: target.map, key: target.key, ingress: target.ingress } } : {}),
        applyBytes,
        corkBytes,
      },
    };
  }
}

/** A socket that nothing comes from, and that takes everything: what maps of sockets can hold where there is no connection. */
export function nowhere(): Duplex {
  return new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
}

function checkSocket({ localAddress, localPort = 0, remoteAddress, remotePort = 0, sequence = 0, operation = 0 }: SocketContext): void {
  for (const [name, address] of Object.entries({ localAddress, remoteAddress }))
    if (address !== undefined && isIP(address) === 0) throw new ArgumentError(`socket.${name} is '${address}', expected an IP address`);
  for (const [name, value, limit] of [
    ['localPort', localPort, 0xffff],
    ['remotePort', remotePort, 0xffff],
    ['sequence', sequence, 0xffff_ffff],
    ['operation', operation, 0x7fff_ffff],
  ] as const)
    if (!Number.isInteger(value) || value < 0 || value > limit)
      throw new ArgumentError(`socket.${name} must be 0 to ${limit}, got ${value}`);
}

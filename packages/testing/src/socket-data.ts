/** Data of connections and their events, for stages on sockets: `run(stage, data('GET /').from('10.0.0.9:4711').to('10.0.0.1:80'))`. */
import { isIP } from 'node:net';
import { ArgumentError, type SocketContext } from '@tailrace/bpf';
import type { Hook } from '@tailrace/stage';
import { nowhere, socketNumber } from '@tailrace/userspace';

/** BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB and BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB (include/uapi/linux/bpf.h). */
const ESTABLISHED = { active: 4, passive: 5 } as const;

interface End {
  readonly address: string;
  readonly port: number;
}

/** Bytes on their way from one end of a connection to the other, or an event of one. Made by `data` and `established`. */
export class SocketData {
  readonly bytes: Uint8Array;
  readonly #operation: number | undefined;
  readonly #from: End | undefined;
  readonly #to: End | undefined;

  constructor(bytes: Uint8Array, operation?: number, ends: { readonly from?: End | undefined; readonly to?: End | undefined } = {}) {
    this.bytes = bytes;
    this.#operation = operation;
    this.#from = ends.from;
    this.#to = ends.to;
  }

  /** Who sends, or has connected: `10.0.0.9:4711`, `[2001:db8::9]:4711`. Throws ArgumentError. */
  from(end: string): SocketData {
    return new SocketData(this.bytes, this.#operation, { from: endOf(end), to: this.#to });
  }

  /** Who is sent to, or has accepted. Throws ArgumentError. */
  to(end: string): SocketData {
    return new SocketData(this.bytes, this.#operation, { from: this.#from, to: endOf(end) });
  }

  /** The connection as the socket has it that a stage at this hook sits on. Throws ArgumentError for data at `sockOps` and events elsewhere. */
  contextAt(hook: Hook): SocketContext {
    if ((hook === 'sockOps') !== (this.#operation !== undefined))
      throw new ArgumentError(`${this.#operation === undefined ? 'data' : 'events'} are not for ${hook}`);
    const isIncoming = hook === 'skSkb' || this.#operation === ESTABLISHED.passive;
    const [local, remote] = isIncoming ? [this.#to, this.#from] : [this.#from, this.#to];
    return {
      ...(local ? { localAddress: local.address, localPort: local.port } : {}),
      ...(remote ? { remoteAddress: remote.address, remotePort: remote.port } : {}),
      ...(this.#operation === undefined ? {} : { operation: this.#operation }),
    };
  }
}

/** Data of a connection: text as UTF-8, or bytes. */
export function data(bytes: string | Uint8Array): SocketData {
  return new SocketData(typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes);
}

/** The event that a connection stands, at the end that has connected (`active`) or accepted (`passive`). */
export function established(how: keyof typeof ESTABLISHED): SocketData {
  return new SocketData(new Uint8Array(), ESTABLISHED[how]);
}

/** The number of a socket that goes nowhere, for maps of sockets in the userspace engine: what a redirect can be sent to. */
export function socketStandIn(): number {
  return socketNumber(nowhere());
}

function endOf(text: string): End {
  const parts = /^(?:\[(?<six>[^\]]+)\]|(?<four>[^:]+)):(?<port>\d{1,5})$/.exec(text)?.groups;
  const [address, port] = [parts?.six ?? parts?.four ?? '', Number(parts?.port)];
  if (isIP(address) !== (parts?.six === undefined ? 4 : 6) || port > 0xffff)
    throw new ArgumentError(`'${text}' is no end of a connection`, { hint: "write '10.0.0.1:80' or '[2001:db8::1]:80'" });
  return { address, port };
}

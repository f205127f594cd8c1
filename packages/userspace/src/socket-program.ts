/** A program as sockets have it: what it is run on, and what it comes to. */
import type { LoadedMap, ProgramSpec } from '@tailrace/bpf';
import type { ConnectionEnds } from './connection-ends.ts';

/** What a program is run on. */
export interface SocketInput {
  /** The data; events have none. */
  readonly bytes?: Uint8Array;
  /** TCP's number of their first byte, modulo 2^32. */
  readonly sequence?: number;
  readonly ends: ConnectionEnds;
  /** Events: which (BPF_SOCK_OPS_*), whose, and which programs the socket has (SOCKET_PROGRAMS). */
  readonly event?: { readonly operation: number; readonly socket: number; readonly programs: number };
}

/** Where a program sends data on. */
export interface SocketTarget {
  /** The number of the socket. */
  readonly socket: number;
  readonly map: LoadedMap;
  readonly key: Uint8Array;
  /** To who reads from that socket, instead of to its peer. */
  readonly ingress: boolean;
}

/** What a program came to. */
export interface SocketOutcome {
  /** Its return value: SK_DROP or SK_PASS for data. */
  readonly verdict: number;
  /** The data as it left them; good until the next run. */
  readonly bytes: Uint8Array;
  readonly target: SocketTarget | undefined;
  /** Messages: how many bytes the verdict holds for, and how many have to come together; 0 where it did not say. */
  readonly applyBytes: number;
  readonly corkBytes: number;
  /** Events: the maps that the socket is in from now on. */
  readonly added: readonly { readonly map: LoadedMap; readonly key: Uint8Array }[];
}

/** A program that is run on what happens at sockets. */
export interface SocketProgram {
  readonly spec: ProgramSpec;
  /** Keeps it alive until `release`. Throws ArgumentError once closed. */
  hold(): void;
  release(): void;
  /** Also once closed, for who holds it. Throws TrapError. */
  runOnSocket(input: SocketInput): SocketOutcome;
}

/**
 * What goes wrong with captures: cut or damaged files, sources that fail, disks that are full. Every such error says where.
 */
import { type ErrorOptions, TailraceError } from '@tailrace/bpf';

/** Where in a capture an error is. */
export interface CapturePlace {
  /** Bytes from the start of the capture (of what is inside, if it is compressed) to the header, record or block at fault. */
  readonly offset: number;
  /** The record of a pcap file or the block of a pcapng file, counted from 1; undefined for what belongs to none. */
  readonly record: number | undefined;
}

/** A capture that is cut, damaged or of a kind that is not read, or that cannot be read or written. */
export class CaptureError extends TailraceError implements CapturePlace {
  readonly offset: number;
  readonly record: number | undefined;

  constructor(place: CapturePlace, message: string, options?: ErrorOptions) {
    super('capture', message, options);
    this.offset = place.offset;
    this.record = place.record;
  }
}

/** The line of an error that a file, a stream or zlib gave: its code, or its words. */
export function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const code = (cause as NodeJS.ErrnoException).code;
  const words = cause.message.split('\n', 1)[0] ?? '';
  return code === undefined || words.includes(code) ? words : `${words} (${code})`;
}

/**
 * Where the bytes of a capture go: a file or a stream, behind one face. Order, buffering and errors are the writer's.
 */
import { type FileHandle, open } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { TailraceError } from '@tailrace/bpf';

/** Takes bytes in the order of calls; the caller waits for each before the next, and gives buffers that it leaves alone. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void>;
  /** Everything is out when this resolves. */
  close(): Promise<void>;
  /** Closes what is open, after a failure; never rejects. */
  abandon(): Promise<void>;
}

/** A file, made anew or emptied. Rejects with the system's error. */
export async function fileSink(path: string | URL): Promise<ByteSink> {
  const handle: FileHandle = await open(path, 'w');
  return {
    async write(bytes) {
      let written = 0;
      while (written < bytes.length) written += (await handle.write(bytes, written, bytes.length - written)).bytesWritten;
    },
    close: () => handle.close(),
    abandon: () => handle.close().catch(() => {}),
  };
}

/** A stream, which is ended by `close` and destroyed by `abandon`. */
export function streamSink(stream: Writable): ByteSink {
  let failure: Error | undefined = stream.errored ?? undefined;
  let settle: ((error?: Error | null) => void) | undefined;
  // an error event without a listener would end the process, and a stream closed under a call may never call back
  const onError = (error: Error): void => {
    failure ??= error;
    settle?.(failure);
  };
  const onClose = (): void => settle?.(failure ?? new TailraceError('capture', 'the stream was closed'));
  stream.on('error', onError);
  stream.on('close', onClose);
  const call = (start: (done: (error?: Error | null) => void) => void): Promise<void> =>
    new Promise((resolve, reject) => {
      settle = (error) => (error ? reject(failure ?? error) : resolve());
      if (failure !== undefined || stream.closed) onClose();
      else start(settle);
    });
  return {
    write: (bytes) => call((done) => stream.write(bytes, done)),
    async close() {
      await call((done) => stream.end(done));
      stream.off('error', onError);
      stream.off('close', onClose);
    },
    async abandon() {
      stream.destroy();
    },
  };
}

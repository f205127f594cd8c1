/**
 * Where the bytes of a capture come from: a file, a stream, memory; as they are or compressed by gzip. All of them become
 * chunks in order, one at a time, with the source's failures as capture errors. Parsing is done elsewhere.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { createGunzip, type ZlibOptions } from 'node:zlib';
import { ArgumentError } from '@tailrace/bpf';
import { CaptureError, reasonOf } from './capture-error.ts';

/**
 * A capture's bytes: a path or `file:` URL, a Node `Readable` or anything else that gives chunks (which are the reader's from
 * then on: it hands out views into them), or the bytes themselves. Compressed by gzip or not.
 */
export type CaptureSource = string | URL | Uint8Array | AsyncIterable<Uint8Array>;

/** What is read from a file at once. Each is a fresh buffer, since packets are views into it. */
const CHUNK = 1 << 20;

/** What is inflated at once, and lost where zlib meets damage in the midst of it. */
const INFLATED = 64 << 10;

/**
 * The bytes of a capture, in chunks that are not empty. The source is closed however the loop over them ends.
 * @throws CaptureError where the source fails, or what is inside gzip is damaged; ArgumentError for what is no source.
 */
export async function* bytesOf(source: CaptureSource): AsyncGenerator<Uint8Array, void> {
  const raw = chunksOf(source);
  try {
    const first: Uint8Array[] = [];
    let length = 0;
    while (length < 2) {
      const { value, done } = await raw.next();
      if (done) break;
      first.push(value);
      length += value.length;
    }
    const head = first.length === 1 ? first[0] : Buffer.concat(first);
    if (head === undefined || length === 0) return;
    if (head[0] === 0x1f && head[1] === 0x8b) yield* inflated(head, raw);
    else {
      yield head;
      yield* raw;
    }
  } finally {
    await raw.return();
  }
}

async function* chunksOf(source: CaptureSource): AsyncGenerator<Uint8Array, void> {
  if (source instanceof Uint8Array) {
    if (source.length > 0) yield source;
    return;
  }
  if (typeof source === 'string' || source instanceof URL) return yield* chunksOfFile(source);
  if (typeof source !== 'object' || source === null || !(Symbol.asyncIterator in source)) {
    throw new ArgumentError(`cannot read a capture from ${typeof source}, expected a path, bytes or an async iterable of bytes`);
  }
  let offset = 0;
  const chunks = source[Symbol.asyncIterator]();
  let ended = false;
  try {
    while (true) {
      const { value, done } = await chunks.next().catch((cause: unknown) => {
        ended = true;
        throw new CaptureError({ offset, record: undefined }, `cannot read capture at byte ${offset}: ${reasonOf(cause)}`, { cause });
      });
      if (done) {
        ended = true;
        return;
      }
      if (!(value instanceof Uint8Array)) {
        throw new ArgumentError(`a capture's source gave a chunk of type ${typeof value} at byte ${offset}, expected Uint8Array`);
      }
      offset += value.length;
      if (value.length > 0) yield value;
    }
  } finally {
    if (!ended) await chunks.return?.();
  }
}

async function* chunksOfFile(path: string | URL): AsyncGenerator<Uint8Array, void> {
  let offset = 0;
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (cause) {
    throw new CaptureError({ offset, record: undefined }, `cannot open capture ${path}: ${reasonOf(cause)}`, { cause });
  }
  try {
    while (true) {
      const chunk = Buffer.allocUnsafeSlow(CHUNK);
      const { bytesRead } = await handle.read(chunk, 0, CHUNK, null).catch((cause: unknown) => {
        throw new CaptureError({ offset, record: undefined }, `cannot read capture ${path} at byte ${offset}: ${reasonOf(cause)}`, {
          cause,
        });
      });
      if (bytesRead === 0) return;
      offset += bytesRead;
      // a pipe gives little at a time: what it gave must not hold a whole buffer
      const read = chunk.subarray(0, bytesRead);
      yield bytesRead < CHUNK / 4 ? new Uint8Array(read) : read;
    }
  } finally {
    await handle.close();
  }
}

/**
 * What gzip's members hold. Nothing is inflated while something inflated waits to be taken (a high-water mark of one
 * byte), so that an early end or a damage is met only after what was inflated before was handed on.
 */
async function* inflated(head: Uint8Array, rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const inflate = createGunzip({ chunkSize: INFLATED, readableHighWaterMark: 1 } as ZlibOptions);
  let failure: unknown;
  let release = (): void => {};
  // one that is destroyed may never call back
  inflate.once('close', () => release());
  let offset = 0;
  const feed = async (): Promise<void> => {
    const put = (chunk: Uint8Array): Promise<void> =>
      new Promise((taken) => {
        release = taken;
        inflate.write(chunk, () => taken());
      });
    try {
      await put(head);
      for await (const chunk of rest) {
        if (inflate.destroyed) return;
        await put(chunk);
      }
    } catch (error) {
      failure = error;
    }
    inflate.end();
  };
  const fed = feed();
  try {
    for await (const chunk of inflate as AsyncIterable<Uint8Array>) {
      offset += chunk.length;
      yield chunk;
    }
  } catch (cause) {
    await fed;
    throw (
      failure ?? new CaptureError({ offset, record: undefined }, `cannot inflate capture at byte ${offset}: ${reasonOf(cause)}`, { cause })
    );
  }
  await fed;
  if (failure !== undefined) throw failure;
}

/**
 * Files of a map's entries. Everything in them is covered by a sum (CRC-32), and the last part says how many entries there are, so
 * that what is cut or damaged shows before an entry is used. Numbers are little-endian.
 *
 *     "tailmap", version: u8 | length: u32, header as JSON | sum: u32
 *     any number of: count: u32, keys, values | sum: u32
 *     0: u32, entries: u64 | sum: u32
 *
 * A file is written under another name and takes its own in one step: where something fails, the old one is there as it was.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Batch, TailraceError } from '@tailrace/bpf';

const MAGIC = Buffer.from('tailmap\x01', 'latin1');
/** Longest header. */
const HEADER_LIMIT = 1 << 20;

/** A file of a map's entries that is none, cut, damaged, or that cannot be read or written. */
export class SnapshotError extends TailraceError {
  readonly path: string;

  constructor(path: string, message: string, cause?: unknown) {
    super('snapshot', `snapshot ${path}: ${message}`, cause === undefined ? {} : { cause });
    this.path = path;
  }
}

/** What a file says of the map that it is from. */
export interface SnapshotHeader {
  readonly type: string;
  /** Values of each entry. */
  readonly cpus: number;
  /** Bytes of a key, and of the values of an entry. */
  readonly keySize: number;
  readonly stride: number;
  /** What key and value are made of, e.g. `value.hits`: `u64 at byte 8`. */
  readonly fields: Readonly<Record<string, string>>;
}

/** Writes a file; returns how many entries it has. Throws SnapshotError, and what `parts` throws. */
export async function writeSnapshot(path: string, header: SnapshotHeader, parts: Iterable<Batch>): Promise<number> {
  const temporary = `${path}.${process.pid}.${crypto.randomUUID().slice(0, 8)}.part`;
  const file = await attempt(path, 'written', () => open(temporary, 'wx', 0o600));
  try {
    let entries = 0;
    const put = (...pieces: readonly Uint8Array[]) => attempt(path, 'written', () => writeSummed(file, pieces));
    const json = Buffer.from(JSON.stringify(header));
    await put(MAGIC, u32(json.length), json);
    for (const { count, keys, values } of parts) {
      if (count === 0) continue;
      await put(u32(count), keys, values);
      entries += count;
    }
    const end = Buffer.alloc(12);
    end.writeBigUInt64LE(BigInt(entries), 4);
    await put(end);
    await attempt(path, 'written', async () => {
      await file.sync();
      await file.close();
      await rename(temporary, path);
      await syncFolder(dirname(path));
    });
    return entries;
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** A file that is read. */
export class SnapshotReader implements AsyncDisposable {
  readonly header: SnapshotHeader;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #size: number;
  /** Where the first part is. */
  readonly #start: number;

  private constructor(path: string, file: FileHandle, size: number, header: SnapshotHeader, start: number) {
    this.#path = path;
    this.#file = file;
    this.#size = size;
    this.header = header;
    this.#start = start;
  }

  /** Opens a file and reads its header. Throws SnapshotError, leaving nothing open. */
  static async open(path: string): Promise<SnapshotReader> {
    const file = await attempt(path, 'read', () => open(path, 'r'));
    try {
      const { size } = await attempt(path, 'read', () => file.stat());
      const start = await readAt(path, file, size, 0, MAGIC.length + 4);
      if (!start.subarray(0, 7).equals(MAGIC.subarray(0, 7))) throw new SnapshotError(path, 'no file of entries, it does not begin as one');
      if (start[7] !== MAGIC[7]) throw new SnapshotError(path, `version ${start[7]}, expected ${MAGIC[7]}`);
      const length = start.readUInt32LE(MAGIC.length);
      if (length > HEADER_LIMIT) throw new SnapshotError(path, `a header of ${length} bytes, expected at most ${HEADER_LIMIT}`);
      const json = await readSummed(path, file, size, 0, [start.length, length]);
      return new SnapshotReader(path, file, size, headerOf(path, json.subarray(start.length)), json.length + 4);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** All entries in parts, as they were written. Throws SnapshotError where what comes next is cut or damaged. */
  async *parts(): AsyncGenerator<Batch, undefined> {
    const { keySize, stride } = this.header;
    let [at, entries] = [this.#start, 0];
    for (;;) {
      const count = (await readAt(this.#path, this.#file, this.#size, at, 4)).readUInt32LE(0);
      if (count === 0) break;
      const bytes = await readSummed(this.#path, this.#file, this.#size, at, [4, count * keySize, count * stride]);
      const values = 4 + count * keySize;
      yield { count, keys: bytes.subarray(4, values), values: bytes.subarray(values) };
      entries += count;
      at += bytes.length + 4;
    }
    const end = await readSummed(this.#path, this.#file, this.#size, at, [12]);
    const said = end.readBigUInt64LE(4);
    if (said !== BigInt(entries)) throw new SnapshotError(this.#path, `${entries} entries, and it says ${said}`);
    if (at + 16 !== this.#size) throw new SnapshotError(this.#path, `${this.#size - at - 16} bytes behind its end`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

async function writeSummed(file: FileHandle, pieces: readonly Uint8Array[]): Promise<void> {
  let sum = 0;
  for (const piece of pieces) {
    sum = crc32(piece, sum);
    await writeWhole(file, piece);
  }
  await writeWhole(file, u32(sum));
}

async function writeWhole(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
}

/** So many bytes, and behind them their sum. */
async function readSummed(path: string, file: FileHandle, size: number, at: number, lengths: readonly number[]): Promise<Buffer> {
  const length = lengths.reduce((sum, more) => sum + more, 0);
  const bytes = await readAt(path, file, size, at, length + 4);
  const [said, is] = [bytes.readUInt32LE(length), crc32(bytes.subarray(0, length))];
  if (said !== is) throw new SnapshotError(path, `damaged between byte ${at} and ${at + length}`);
  return bytes.subarray(0, length);
}

async function readAt(path: string, file: FileHandle, size: number, at: number, length: number): Promise<Buffer> {
  if (at + length > size) throw new SnapshotError(path, `cut, it ends at byte ${size}`);
  const bytes = Buffer.alloc(length);
  for (let got = 0; got < length; ) {
    const { bytesRead } = await attempt(path, 'read', () => file.read(bytes, got, length - got, at + got));
    if (bytesRead === 0) throw new SnapshotError(path, `cut while it is read, it ends at byte ${at + got}`);
    got += bytesRead;
  }
  return bytes;
}

function headerOf(path: string, json: Buffer): SnapshotHeader {
  const fault = (): SnapshotError => new SnapshotError(path, 'a header that says nothing of a map');
  let parsed: Partial<Record<keyof SnapshotHeader, unknown>> | null;
  try {
    parsed = JSON.parse(json.toString()) as typeof parsed;
  } catch {
    throw fault();
  }
  const { type, cpus, keySize, stride, fields } = parsed ?? {};
  const isSize = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value > 0;
  if (typeof type !== 'string' || !isSize(cpus) || !isSize(keySize) || !isSize(stride)) throw fault();
  if (typeof fields !== 'object' || fields === null || Object.values(fields).some((field) => typeof field !== 'string')) throw fault();
  return { type, cpus, keySize, stride, fields: fields as Readonly<Record<string, string>> };
}

async function attempt<T>(path: string, what: 'read' | 'written', call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const { code = String(error) } = error as { readonly code?: string };
    throw new SnapshotError(path, `cannot be ${what}: ${code}`, error);
  }
}

/** A new name is on the disk once its folder is. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

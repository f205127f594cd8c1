/** A TLS ClientHello (RFC 8446, section 4.1.2) in one record, with as many other extensions before the name as are wanted. */
import { randomBytes } from 'node:crypto';

/** `before`: bytes of each extension in front of the name's. */
export function clientHello({ name, before = [] }: { readonly name?: string; readonly before?: readonly number[] }): Buffer {
  const extensions = before.map((bytes, i) => Buffer.concat([word(0x4000 + i), sized(randomBytes(bytes))]));
  if (name !== undefined) {
    const entry = Buffer.concat([Buffer.of(0), sized(Buffer.from(name, 'ascii'))]);
    extensions.push(Buffer.concat([word(0), sized(sized(entry))]));
  }
  extensions.push(Buffer.concat([word(43), sized(Buffer.of(2, 3, 4))]));
  const body = Buffer.concat([
    word(0x0303),
    randomBytes(32),
    Buffer.of(32),
    randomBytes(32),
    sized(Buffer.of(0x13, 1, 0x13, 2)),
    Buffer.of(1, 0),
    sized(Buffer.concat(extensions)),
  ]);
  const handshake = Buffer.concat([Buffer.of(1, body.length >> 16), word(body.length & 0xffff), body]);
  return Buffer.concat([Buffer.of(22, 3, 1), sized(handshake)]);
}

const word = (value: number): Buffer => Buffer.of(value >> 8, value & 0xff);
const sized = (bytes: Buffer): Buffer => Buffer.concat([word(bytes.length), bytes]);

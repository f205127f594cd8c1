/** Bytes as hex text. */
import { ArgumentError } from '@tailrace/bpf';

/** Reads bytes, two digits each, with white space between them or without. Throws ArgumentError that begins with `what`. */
export function bytesOfHex(what: string, text: string): Uint8Array {
  const words = text.split(/\s+/).filter((word) => word !== '');
  for (const word of words) {
    const wrong = /[^\da-f]/i.exec(word)?.[0];
    if (wrong !== undefined) throw new ArgumentError(`${what} has '${wrong}', expected bytes in hex`);
    if (word.length % 2 !== 0) throw new ArgumentError(`${what} has ${word.length} hex digits in a row, expected two for each byte`);
  }
  return Buffer.from(words.join(''), 'hex');
}

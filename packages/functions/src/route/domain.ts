/** Names of rules, as keys of the trie. */
import { ArgumentError } from '@tailrace/stage';

/** A name as `nameKey` has it. */
export interface NameKey {
  readonly prefixLen: number;
  readonly bytes: number[];
}

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const ROOM = 256;

/** The name in the form that rules are told by. Throws ArgumentError for text that is no name. */
export function checkName(text: string): string {
  const name = text.toLowerCase();
  const labels = (name.startsWith('*.') ? name.slice(2) : name).split('.');
  if (name.length > 253 || !labels.every((label) => LABEL.test(label)))
    throw new ArgumentError(`'${text}' is no name of a host`, {
      hint: "write it in ASCII, as in 'www.example.com'; '*.example.com' is all below example.com",
    });
  return name;
}

/** The key of a rule: of a name, or of all below `*.`'s. */
export function keyOfName(name: string): NameKey {
  const text = name.startsWith('*.') ? name.slice(1) : `\0${name}`;
  // a whole name's 0 stands behind its bytes, and those are backwards
  const bytes = [...Buffer.from(text, 'ascii')].reverse().map((byte) => (byte === 0 ? 0 : byte | 0x20));
  return { prefixLen: 8 * bytes.length, bytes: [...bytes, ...Array.from({ length: ROOM - bytes.length }, () => 0)] };
}

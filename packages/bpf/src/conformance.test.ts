/** Every program of the instruction-set suite that lies beside the checkout, if it does: shared/conformance/isa.json. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { decode, encode } from './encoding.ts';
import { EncodingError } from './errors.ts';

interface Case {
  readonly name: string;
  /** Hex. */
  readonly program: string;
  readonly expect: 'value' | 'reject';
  readonly why?: string;
}

const file = fileURLToPath(new URL('../../../../shared/conformance/isa.json', import.meta.url));
const present = existsSync(file);
const cases: readonly Case[] = present ? JSON.parse(readFileSync(file, 'utf8')) : [];
if (!present) console.warn(`the instruction-set suite is skipped: there is no ${file}`);

describe.skipIf(!present)('instruction-set suite', () => {
  it('has cases', () => {
    expect(cases.length).toBeGreaterThan(300);
  });

  it.each(cases.filter((one) => one.expect === 'value'))('$name survives decode and encode', ({ program }) => {
    expect(hex(encode(decode(unhex(program))))).toBe(program);
  });

  it.each(cases.filter((one) => one.expect === 'reject'))('$name is refused: $why', ({ program }) => {
    expect(() => decode(unhex(program))).toThrow(EncodingError);
  });
});

function unhex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

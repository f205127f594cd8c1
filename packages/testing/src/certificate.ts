/** Certificates for tests with TLS, made on the spot: self-signed X.509 (RFC 5280) over a key on P-256. */
import { generateKeyPairSync, sign } from 'node:crypto';

const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2';
const COMMON_NAME = '2.5.4.3';

/** A key and a certificate for a name, as PEM, good for a day from now. */
export function selfSigned(name: string): { readonly key: string; readonly cert: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = der(0x30, oid(ECDSA_WITH_SHA256));
  const named = der(0x30, der(0x31, der(0x30, oid(COMMON_NAME), der(0x0c, Buffer.from(name)))));
  const [from, until] = [Date.now() - 3_600_000, Date.now() + 86_400_000].map((time) => der(0x17, Buffer.from(utcTime(time))));
  const signed = der(
    0x30,
    der(0xa0, integer(2)),
    integer(1),
    algorithm,
    named,
    der(0x30, from as Buffer, until as Buffer),
    named,
    publicKey.export({ type: 'spki', format: 'der' }),
  );
  const signature = der(0x03, Buffer.of(0), sign('sha256', signed, privateKey));
  const bytes = der(0x30, signed, algorithm, signature).toString('base64').replace(/.{64}/g, '$&\n');
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    cert: `-----BEGIN CERTIFICATE-----\n${bytes}\n-----END CERTIFICATE-----\n`,
  };
}

/** A value with its tag and length. */
function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const bytes = Buffer.concat(parts);
  const { length } = bytes;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...size), bytes]);
}

const integer = (value: number): Buffer => der(0x02, Buffer.of(value));

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = rest.flatMap((part) => {
    const digits = [part & 0x7f];
    for (let left = part >>> 7; left > 0; left >>>= 7) digits.unshift((left & 0x7f) | 0x80);
    return digits;
  });
  return der(0x06, Buffer.of(40 * first + second, ...bytes));
}

/** YYMMDDhhmmssZ. */
const utcTime = (time: number): string => `${new Date(time).toISOString().slice(2, 19).replace(/[-T:]/g, '')}Z`;

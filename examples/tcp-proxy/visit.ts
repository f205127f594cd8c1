/** One connection through the proxy: some requests with random bodies there and back, each compared by its sum. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, Agent as PlainAgent, request as plain } from 'node:http';
import { Agent as SecureAgent, request as secure } from 'node:https';
import { buffer } from 'node:stream/consumers';
import { TimeoutError } from '@tailrace/testing';
import { SUM, sumOf } from './backend.ts';

/** Where to, and how. */
export interface VisitOptions {
  readonly port: number;
  readonly host: string;
  readonly isTls: boolean;
}

/** What came of a visit. */
export interface Visited {
  requests: number;
  bytes: number;
  /** Answers or requests whose sum was another one at the other end. */
  corrupted: number;
  /** The backends that answered; more than one group is a mistake too. */
  readonly groups: Set<string>;
  failure?: Error;
}

const TIMEOUT_MS = 30_000;
const POOL = randomBytes(1 << 20);

/** Mostly small, sometimes large. */
function randomSize(): number {
  return Math.floor(Math.random() ** 4 * 400_000);
}

export async function visit({ port, host, isTls }: VisitOptions): Promise<Visited> {
  const visited: Visited = { requests: 0, bytes: 0, corrupted: 0, groups: new Set() };
  const options = { keepAlive: true, maxSockets: 1 };
  const agent = isTls ? new SecureAgent({ ...options, rejectUnauthorized: false, servername: host }) : new PlainAgent(options);
  try {
    for (let left = 1 + Math.floor(Math.random() * 4); left > 0; left--) {
      const [up, down] = [randomSize(), randomSize()];
      const from = Math.floor(Math.random() * (POOL.length - up));
      const body = POOL.subarray(from, from + up);
      const sent = (isTls ? secure : plain)({
        ...{ port, host: '127.0.0.1', agent, method: 'POST', path: `/?size=${down}` },
        headers: { host, 'content-length': up },
        timeout: TIMEOUT_MS,
      });
      sent.once('timeout', () => sent.destroy(new TimeoutError(`a request to ${host}`, TIMEOUT_MS)));
      sent.end(body);
      const [answer] = (await once(sent, 'response')) as [IncomingMessage];
      const bytes = await buffer(answer);
      visited.requests++;
      visited.bytes += up + bytes.length;
      visited.groups.add(String(answer.headers[SUM.group]));
      if (answer.headers[SUM.got] !== sumOf(body)) visited.corrupted++;
      if (answer.headers[SUM.gives] !== sumOf(bytes) || bytes.length !== down) visited.corrupted++;
    }
  } catch (error) {
    visited.failure = error as Error;
  } finally {
    agent.destroy();
  }
  return visited;
}

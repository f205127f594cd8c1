/**
 * The proxy of this folder under load: connections with HTTP and TLS, backends that come and go, another policy each second. Every
 * answer is compared by its sum, and has to come from a backend of a policy that held while the connection was made.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TailraceError } from '@tailrace/bpf';
import { selfSigned } from '@tailrace/testing';
import { Backend } from './backend.ts';
import { visit } from './visit.ts';

/** What came of it. */
export interface LoadReport {
  seconds: number;
  connections: number;
  requests: number;
  bytes: number;
  policies: number;
  left: number;
  failed: number;
  corrupted: number;
  misrouted: number;
  /** What failed first. */
  readonly failures: string[];
  /** Milliseconds that a connection and its requests took. */
  readonly durations: number[];
  /** What the proxy said at its end. */
  proxy: string;
}

/** How much. */
export interface LoadOptions {
  readonly seconds: number;
  /** At a time. */
  readonly connections: number;
}

type Group = 'red' | 'blue' | 'other';
/** Where names are looked for, and the groups that names lead to. */
interface Policy {
  readonly by: 'name' | 'host' | 'sni';
  readonly rules: Readonly<Record<string, Group>>;
}

const POLICIES: readonly Policy[] = [
  { by: 'name', rules: { 'red.test': 'red', '*.blue.test': 'blue' } },
  { by: 'name', rules: { 'red.test': 'blue', '*.blue.test': 'red', 'elsewhere.test': 'blue' } },
  { by: 'sni', rules: { 'red.test': 'red', '*.blue.test': 'blue' } },
  { by: 'host', rules: { 'red.test': 'red', '*.test': 'blue' } },
];
const HOSTS = ['red.test', 'www.blue.test', 'deep.down.blue.test', 'elsewhere.test'];
const GROUPS: readonly Group[] = ['red', 'blue', 'other'];
const BACKENDS = 3;

export async function loadProxy({ seconds, connections }: LoadOptions): Promise<LoadReport> {
  await using undo = new AsyncDisposableStack();
  const backends = new Map<Group, Backend[]>();
  const identity = selfSigned('proxy.test');
  for (const group of GROUPS) {
    const those = Array.from({ length: BACKENDS }, () => undo.use(new Backend(group, identity)));
    for (const backend of those) await backend.join();
    backends.set(group, those);
  }
  const proxy = undo.use(await FollowedProxy.start(backends));
  const report: LoadReport = {
    ...{ seconds, connections: 0, requests: 0, bytes: 0, policies: 0, left: 0, failed: 0, corrupted: 0, misrouted: 0 },
    ...{ failures: [], durations: [], proxy: '' },
  };
  const start = performance.now();
  const isOver = (): boolean => performance.now() - start > 1000 * seconds;
  const clients = Array.from({ length: connections }, async () => {
    while (!isOver()) await one(proxy, report);
  });
  const change = (async () => {
    for (let i = 1; !isOver(); i++) {
      const gone = [...backends].flatMap(([group, those]) => (group === 'other' ? [] : [those[i % BACKENDS] as Backend]));
      // those that leave are named no more, have taken what came until then, and are named again: where one refuses, another is asked
      await proxy.follow(POLICIES[i % POLICIES.length] as Policy, gone);
      await Promise.all(gone.map((backend) => backend.leave()));
      report.left += gone.length;
      await proxy.follow(POLICIES[i % POLICIES.length] as Policy, []);
      await sleep(800);
      for (const backend of gone) await backend.join();
      report.policies += 2;
    }
  })();
  await Promise.all([...clients, change]);
  report.proxy = await proxy.end();
  return report;
}

async function one(proxy: FollowedProxy, report: LoadReport): Promise<void> {
  const [host, isTls] = [HOSTS[Math.floor(Math.random() * HOSTS.length)] as string, Math.random() < 0.4];
  const [from, start] = [proxy.followed, performance.now()];
  const { requests, bytes, corrupted, groups, failure } = await visit({ port: proxy.port, host, isTls });
  const allowed = proxy.groupsSince(from, host, isTls);
  report.connections++;
  report.requests += requests;
  report.bytes += bytes;
  report.corrupted += corrupted;
  report.durations.push(performance.now() - start);
  if (groups.size > 1 || [...groups].some((group) => !allowed.has(group as Group))) {
    report.misrouted++;
    report.failures.push(`${host}${isTls ? ' in TLS' : ''} went to ${[...groups].join(', ')}, expected ${[...allowed].join(' or ')}`);
  }
  if (failure === undefined) return;
  report.failed++;
  report.failures.push(`${host}${isTls ? ' in TLS' : ''}: ${failure.message}`);
  await sleep(100);
}

/** The proxy in a process of its own, and the policies that it was told. */
class FollowedProxy implements AsyncDisposable {
  readonly port: number;
  readonly #told: Policy[];
  readonly #lines: AsyncIterator<string>;
  readonly #child: ReturnType<typeof spawn>;
  readonly #backends: ReadonlyMap<Group, readonly Backend[]>;
  readonly #folder: string;
  #followed = 0;

  private constructor(parts: {
    readonly port: number;
    readonly first: Policy;
    readonly lines: AsyncIterator<string>;
    readonly child: ReturnType<typeof spawn>;
    readonly backends: ReadonlyMap<Group, readonly Backend[]>;
    readonly folder: string;
  }) {
    this.port = parts.port;
    this.#told = [parts.first];
    this.#lines = parts.lines;
    this.#child = parts.child;
    this.#backends = parts.backends;
    this.#folder = parts.folder;
  }

  static async start(backends: ReadonlyMap<Group, readonly Backend[]>): Promise<FollowedProxy> {
    const folder = mkdtempSync(join(tmpdir(), 'proxy-load-'));
    const [file, first] = [join(folder, 'policy.json'), POLICIES[0] as Policy];
    writeFileSync(file, textOf(first, backends, []));
    const script = fileURLToPath(new URL('proxy.ts', import.meta.url));
    const others = (backends.get('other') ?? []).map(({ address }) => address);
    const child = spawn(process.execPath, [script, '0', ...others, '--policy', file], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    await lines.next();
    const port = Number(/port (\d+) to/.exec(String((await lines.next()).value))?.[1]);
    return new FollowedProxy({ port, first, lines, child, backends, folder });
  }

  /** How many policies it has said to follow. */
  get followed(): number {
    return this.#followed;
  }

  /** Tells it a policy, without these backends, and waits until it follows that. */
  async follow(policy: Policy, without: readonly Backend[]): Promise<void> {
    this.#told.push(policy);
    const [next, file] = ['next.json', 'policy.json'].map((name) => join(this.#folder, name)) as [string, string];
    writeFileSync(next, textOf(policy, this.#backends, without));
    // whole or not at all: the proxy looks at it on its own too
    renameSync(next, file);
    this.#child.kill('SIGHUP');
    const { value, done } = await this.#lines.next();
    if (done || !String(value).startsWith('policy:'))
      throw new TailraceError('conflict', `the proxy says ${String(value)}, expected that it follows a policy`);
    this.#followed++;
  }

  /** Where a connection may go that was made since so many were followed. Rules change before the place where names are looked for. */
  groupsSince(followed: number, host: string, isTls: boolean): ReadonlySet<Group> {
    const told = this.#told.slice(followed);
    const pairs = told.flatMap((policy, i) => [policy, ...(told[i + 1] ? [{ ...policy, rules: told[i + 1]?.rules ?? {} }] : [])]);
    return new Set(pairs.map((policy) => groupOf(policy, host, isTls)));
  }

  /** Ends it, and gives its last line. */
  async end(): Promise<string> {
    this.#child.kill('SIGINT');
    return String((await this.#lines.next()).value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    rmSync(this.#folder, { recursive: true });
    if (this.#child.exitCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}

function groupOf({ by, rules }: Policy, host: string, isTls: boolean): Group {
  if (by !== 'name' && (by === 'sni') !== isTls) return 'other';
  const below = host.split('.').map((_, i, labels) => (i === 0 ? host : `*.${labels.slice(i).join('.')}`));
  return below.map((name) => rules[name]).find((group) => group !== undefined) ?? 'other';
}

function textOf({ by, rules }: Policy, backends: ReadonlyMap<Group, readonly Backend[]>, without: readonly Backend[]): string {
  const targets = (group: Group): readonly string[] =>
    (backends.get(group) ?? []).filter((backend) => !without.includes(backend)).map(({ address }) => address);
  const routes = Object.fromEntries(Object.entries(rules).map(([name, group]) => [name, targets(group)]));
  return JSON.stringify({ by, routes });
}

/** Programs on sockets that clang made, at real connections, in both engines. */
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Engine, readElf } from '@tailrace/bpf';
import { kernel, socketNumber, userspace } from 'tailrace';
import { afterEach, expect, test } from 'vitest';
import { compileC, found, loadObject, u32 } from './clang-object.ts';

const object = readElf(
  compileC(`
struct socket_data { u32 len, pkt_type, mark, queue, protocol, vlan[3], priority, ifindex[2], tc_index, cb[5], hash, classid, data, end; };
struct message { void *data, *end; };
static long (*pull)(void *ctx, u32 bytes) = (void *)39;
static long (*pull_message)(void *ctx, u32 start, u32 end, u64 flags) = (void *)63;
static long (*redirect_hash)(void *ctx, void *map, void *key, u64 flags) = (void *)72;
struct { __uint(type, 18); __type(key, u32); __type(value, u64); __uint(max_entries, 4); } peers SEC(".maps");
struct { __uint(type, ARRAY); __type(key, u32); __type(value, u64); __uint(max_entries, 2); } bytes SEC(".maps");
static noinline void count(u32 at, u32 length) { u64 *sum = map_lookup(&bytes, &at); if (sum) __sync_fetch_and_add(sum, length); }
SEC("sk_skb/stream_verdict") int sort(struct socket_data *skb)
{
  u8 *data, *end;
  u32 key = 7;
  count(0, skb->len);
  pull(skb, skb->len);
  data = (u8 *)(long)skb->data;
  end = (u8 *)(long)skb->end;
  if (data + 1 > end) return 0;
  if (data[0] == 'x') return 0;
  return data[0] == 's' ? redirect_hash(skb, &peers, &key, 0) : 1;
}
SEC("sk_msg") int send(struct message *msg)
{
  u8 *data;
  if (pull_message(msg, 0, 2, 0)) return 1;
  data = msg->data;
  if (data + 2 > (u8 *)msg->end) return 1;
  count(1, 1);
  data[0] = '!';
  return 1;
}`),
);

const open = new Set<Socket>();
afterEach(() => {
  for (const socket of open) socket.destroy();
  open.clear();
});

async function connection(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const near = new Socket().connect((server.address() as { port: number }).port, '127.0.0.1');
  const [far] = (await accepted) as [Socket];
  if (near.connecting) await once(near, 'connect');
  server.close();
  open.add(near).add(far);
  return { near, far };
}

const fdOf = (socket: Socket): number => (socket as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;

test.each<[string, Engine, (socket: Socket) => number]>([
  ['kernel', kernel({}), fdOf],
  ['userspace', userspace({ compile: 'quickly' }), socketNumber],
  ['the interpreter', userspace({ mode: 'interpreter' }), socketNumber],
])('%s: verdicts on data, and messages that are rewritten', async (_, engine, numberOf) => {
  await using instance = await engine.open();
  const { maps, programs } = await loadObject(instance, object);
  const [peers, bytes] = [found(maps, 'peers'), found(maps, 'bytes')];
  await instance.attachToSockets?.(found(programs, 'sort'), { hook: 'skSkb', map: peers });
  await instance.attachToSockets?.(found(programs, 'send'), { hook: 'skMsg', map: peers });
  const [a, b] = [await connection(), await connection()];
  for (const [key, { far }] of [
    [1, a],
    [7, b],
  ] as const)
    peers.update(u32(key), Uint8Array.from([...u32(numberOf(far)), 0, 0, 0, 0]));
  a.near.write('plain');
  expect(String((await once(a.far, 'data'))[0])).toBe('plain');
  a.near.write('xxxx');
  await sleep(20);
  // what is sent out of a socket meets its chain for messages
  a.near.write('sent on');
  expect(String((await once(b.near, 'data'))[0])).toBe('!ent on');
  a.far.write('said');
  expect(String((await once(a.near, 'data'))[0])).toBe('!aid');
  const sum = (at: number): bigint | undefined => new BigUint64Array(bytes.lookup(u32(at))?.slice().buffer ?? new ArrayBuffer(0))[0];
  expect([sum(0), sum(1)]).toEqual([16n, 2n]);
});

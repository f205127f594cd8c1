/** A numbered load over UDP: every datagram carries its number, and the echo says which came through. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '@tailrace/testing';

const INTERVAL_MS = 2;
const PER_TICK = 4;

export interface NumberedLoad extends AsyncDisposable {
  /** Stops sending, waits for what is under way, and tells what came back. */
  end(): Promise<{ readonly sent: number; readonly answered: number; readonly missing: readonly number[] }>;
}

/** Sends about 2,000 datagrams a second from `sockets` ports until it is ended. */
export async function numberedLoad(client: Host, address: string, port: number, sockets = 16): Promise<NumberedLoad> {
  const answered = new Set<number>();
  const all = await Promise.all(
    Array.from({ length: sockets }, async () => {
      const socket = await client.udp();
      socket.onDatagram(({ text }) => answered.add(Number(text.split(' ').at(-1))));
      return socket;
    }),
  );
  let sent = 0;
  let running = true;
  const sending = (async () => {
    while (running) {
      for (let i = 0; i < PER_TICK; i++) {
        await all[sent % sockets]?.send(String(sent), address, port);
        sent++;
      }
      await sleep(INTERVAL_MS);
    }
  })();
  const halt = async (): Promise<void> => {
    running = false;
    await sending;
  };
  return {
    [Symbol.asyncDispose]: halt,
    async end() {
      await halt();
      for (let waited = 0; answered.size < sent && waited < 1_000; waited += 20) await sleep(20);
      const missing = Array.from({ length: sent }, (_, n) => n).filter((n) => !answered.has(n));
      await Promise.all(all.map((socket) => socket.close()));
      return { sent, answered: answered.size, missing };
    },
  };
}

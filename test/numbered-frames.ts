/** Frames with numbers that go from one end to another, for tests that must not lose one. */
import { setImmediate, setTimeout } from 'node:timers/promises';
import type { PacketSocket } from '@tailrace/kernel';
import { PROBE } from './kept-edge.ts';

/** In the place of a generation, where no stage wrote one. */
export const NOBODY = 0xffff_ffff;

/** What came of them. */
export interface FrameReport {
  readonly sent: number;
  readonly lost: number;
  /** Those that were not written into by one alone. */
  readonly mixed: number;
  /** How many came by way of each generation. */
  readonly by: ReadonlyMap<number, number>;
}

/** Frames that are being sent. */
export interface NumberedFrames {
  /** So many by now. */
  readonly sent: number;
  /** The generations that so many more meet from now on: those with odd numbers, and those with even ones. */
  meets(count: number): Promise<{ readonly odd: readonly number[]; readonly even: readonly number[] }>;
  /** Ends it; again, it tells the same. */
  end(): Promise<FrameReport>;
}

/** One to send, into which no stage has written. */
export function numberedFrame(number: number): Uint8Array {
  const frame = new Uint8Array(PROBE.bytes).fill(0xff);
  const view = new DataView(frame.buffer);
  view.setUint16(12, PROBE.etherType);
  view.setUint32(PROBE.number, number);
  return frame;
}

/** The next one that came; undefined where there is none by now. */
export function nextNumbered(receiver: PacketSocket): DataView | undefined {
  for (let frame = receiver.receive(); frame; frame = receiver.receive()) {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    if (view.getUint16(12) === PROBE.etherType) return view;
  }
  return undefined;
}

/** Sends numbered frames until it is ended, and looks at what comes; `pauseMs` after each, or just a turn of the event loop. */
export function frames(sender: PacketSocket, receiver: PacketSocket, pauseMs = 0): NumberedFrames {
  let [sent, mixed, going] = [0, 0, true];
  const missing = new Set<number>();
  const by = new Map<number, number>();
  const met = { odd: new Set<number>(), even: new Set<number>() };
  const take = (): void => {
    for (let view = nextNumbered(receiver); view; view = nextNumbered(receiver)) {
      const number = view.getUint32(PROBE.number);
      missing.delete(number);
      const first = view.getUint32(PROBE.first);
      met[number % 2 === 1 ? 'odd' : 'even'].add(first);
      by.set(first, (by.get(first) ?? 0) + 1);
      if (first !== view.getUint32(PROBE.last)) mixed += 1;
    }
  };
  const done = (async () => {
    while (going) {
      const frame = numberedFrame(sent);
      missing.add(sent);
      sent += 1;
      sender.send(frame);
      take();
      await (pauseMs > 0 ? setTimeout(pauseMs) : setImmediate());
    }
  })();
  return {
    get sent() {
      return sent;
    },
    async meets(count) {
      await setTimeout(20);
      take();
      for (const generations of Object.values(met)) generations.clear();
      for (const until = sent + count; sent < until; ) await setTimeout(1);
      return { odd: [...met.odd], even: [...met.even] };
    },
    async end() {
      going = false;
      await done;
      await setTimeout(20);
      take();
      return { sent, lost: missing.size, mixed, by };
    },
  };
}

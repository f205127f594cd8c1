/** A capture as an engine's packets: what is in it comes in, what leaves is written to another one. */
import type { Traffic, TrafficPacket } from '@tailrace/bpf';
import type { CaptureSource } from './capture/byte-source.ts';
import { readCapture } from './capture/capture-reader.ts';
import { CaptureWriter } from './capture/capture-writer.ts';
import { toEthernet } from './capture/link-layer.ts';

/** ETH_HLEN: what is shorter is no frame. */
const SHORTEST = 14;

/** Packets of a capture. Made by `openTraffic`. */
export class CaptureTraffic implements Traffic {
  readonly #source: CaptureSource;
  readonly #writer: CaptureWriter | undefined;
  #refused = 0;

  constructor(source: CaptureSource, writer: CaptureWriter | undefined) {
    this.#source = source;
    this.#writer = writer;
  }

  /** Packets that have no Ethernet header and cannot be given one, or are cut within it. */
  get refused(): number {
    return this.#refused;
  }

  async *packets(): AsyncGenerator<readonly TrafficPacket[], void> {
    for await (const batch of readCapture(this.#source)) {
      const packets: TrafficPacket[] = [];
      for (const captured of batch) {
        const frame = toEthernet(captured);
        if (frame === undefined || frame.bytes.length < SHORTEST) this.#refused++;
        else packets.push({ packet: frame.bytes, timestampNs: frame.timestampNs });
      }
      yield packets;
    }
  }

  deliver(packet: Uint8Array, timestampNs: bigint): Promise<void> | undefined {
    return this.#writer?.write(packet, timestampNs);
  }

  async end(): Promise<void> {
    await this.#writer?.close();
  }
}

/** Opens the capture that leaves; the one that comes in is opened when it is read. Throws CaptureError. */
export async function openTraffic(pcap: CaptureSource, out: string | undefined): Promise<CaptureTraffic> {
  return new CaptureTraffic(pcap, out === undefined ? undefined : await CaptureWriter.open(out));
}

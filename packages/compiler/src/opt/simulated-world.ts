/**
 * The world that interpret.ts and simulate.ts run programs in: memory as regions at fixed addresses, and a few helpers
 * over it. Two runs that mean the same leave the same world and the same trace of calls.
 */
import { TailraceError } from '@tailrace/bpf';

/** A program touched memory that is not its own. */
export class SimulationTrap extends TailraceError {
  constructor(message: string) {
    super('compile', message);
  }
}

/** Where things lie. Nothing depends on the numbers but tests of programs that leak pointers. */
const CONTEXT = 0x1000_0000;
const PACKET = 0x2000_0000;
const HEADROOM = 256;
const STACK = 0x3000_0000;
const MAP_VALUES = 0x4000_0000;
const MAP_HANDLES = 0x5000_0000;
const ENTRIES = 0x6000_0000;

interface Region {
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** Bytes of every map's values. */
export const VALUE_BYTES = 32;

/** Bytes of `struct xdp_md`. */
const CONTEXT_BYTES = 24;

export class SimulatedWorld {
  /** One line for each helper call: what it got and gave. */
  readonly trace: string[] = [];
  private readonly regions: Region[] = [];
  private readonly context: Uint8Array;
  private readonly packetMemory: Uint8Array;
  private readonly maps: readonly string[];
  private readonly keySizes: ReadonlyMap<string, number>;
  private readonly entries = new Map<string, number>();
  private data: number;
  private dataEnd: number;
  private nextEntry = ENTRIES;
  private nextStack = STACK;
  private random = 1n;

  /** `keySizes` declares the maps, with the bytes of their keys; values have 32 bytes. */
  constructor(packet: Uint8Array, keySizes: ReadonlyMap<string, number> = new Map()) {
    this.keySizes = keySizes;
    this.maps = [...keySizes.keys()];
    this.context = new Uint8Array(CONTEXT_BYTES);
    this.packetMemory = new Uint8Array(HEADROOM + packet.length);
    this.packetMemory.set(packet, HEADROOM);
    this.data = PACKET + HEADROOM;
    this.dataEnd = this.data + packet.length;
    this.regions.push({ start: CONTEXT, bytes: this.context });
    new DataView(this.context.buffer).setUint32(12, 1, true);
    this.writeContext();
  }

  get contextAddress(): bigint {
    return BigInt(CONTEXT);
  }

  /** The packet as it is now, map values in order of first use, and the calls: what two runs must agree on. */
  observe(): string {
    const packet = hex(this.packet());
    const values = this.regions.filter((r) => r.start >= MAP_VALUES).map((r) => `${r.start.toString(16)}=${hex(r.bytes)}`);
    return [`packet ${packet}`, ...values.sort(), ...this.trace].join('\n');
  }

  /** A fresh piece of stack. */
  stack(size: number): bigint {
    const start = this.nextStack;
    this.nextStack += 0x1000;
    this.regions.push({ start, bytes: new Uint8Array(size).fill(0xaa) });
    return BigInt(start);
  }

  mapHandle(map: string): bigint {
    return BigInt(MAP_HANDLES + this.mapIndex(map));
  }

  /** The values of a map by their keys in hex; those of maps with a single value by the empty key. */
  contents(map: string): Map<string, string> {
    const values = [...this.entries]
      .filter(([entry]) => entry.startsWith(`${map}:`))
      .map(([entry, start]) => [entry.slice(map.length + 1), start] as const);
    const single = MAP_VALUES + 0x1000 * this.mapIndex(map);
    if (this.regions.some((r) => r.start === single)) values.push(['', single]);
    return new Map(values.map(([key, start]) => [key, hex(this.at(BigInt(start), VALUE_BYTES))]));
  }

  /** The packet as it is now. */
  packet(): Uint8Array {
    return this.packetMemory.slice(this.data - PACKET, this.dataEnd - PACKET);
  }

  /** The only value of a map. */
  mapValue(map: string): bigint {
    const start = MAP_VALUES + 0x1000 * this.mapIndex(map);
    if (!this.regions.some((r) => r.start === start)) this.regions.push({ start, bytes: new Uint8Array(VALUE_BYTES) });
    return BigInt(start);
  }

  read(address: bigint, size: number): bigint {
    const bytes = this.at(address, size);
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] ?? 0);
    return value;
  }

  write(address: bigint, size: number, value: bigint): void {
    const bytes = this.at(address, size);
    for (let i = 0; i < size; i++) bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }

  /** Helpers 1 lookup, 2 update, 7 random, 8 CPU (no trace), 12 tail call (misses), 44 adjust_head; others only leave a trace. */
  call(helper: number, args: readonly bigint[]): bigint {
    if (helper === 8) return 3n;
    const result = this.perform(helper, args);
    this.trace.push(`call ${helper} -> ${result}`);
    return result;
  }

  private perform(helper: number, args: readonly bigint[]): bigint {
    const [first = 0n, second = 0n, third = 0n] = args;
    switch (helper) {
      case 1:
        return BigInt(this.entries.get(this.entry(first, second)) ?? 0);
      case 2: {
        const entry = this.entry(first, second);
        const start = this.entries.get(entry) ?? this.nextEntry;
        if (!this.entries.has(entry)) {
          this.nextEntry += 0x1000;
          this.entries.set(entry, start);
          this.regions.push({ start, bytes: new Uint8Array(VALUE_BYTES) });
        }
        this.at(BigInt(start), VALUE_BYTES).set(this.at(third, VALUE_BYTES));
        return 0n;
      }
      case 7:
        this.random = (this.random * 1103515245n + 12345n) & 0xffff_ffffn;
        return this.random;
      case 12:
        this.trace.push(`tail call ${second - BigInt(MAP_HANDLES)} slot ${third}`);
        return BigInt.asIntN(64, -2n);
      case 44: {
        const moved = this.data + Number(BigInt.asIntN(32, second));
        if (moved < PACKET || moved + 14 > this.dataEnd) return BigInt.asIntN(64, -22n);
        this.data = moved;
        this.writeContext();
        return 0n;
      }
      default:
        this.trace.push(`args ${args.join(' ')}`);
        return BigInt(helper);
    }
  }

  private entry(handle: bigint, key: bigint): string {
    const map = this.maps[Number(handle) - MAP_HANDLES];
    const size = map === undefined ? undefined : this.keySizes.get(map);
    if (map === undefined || size === undefined) throw new SimulationTrap(`${handle} is no map with keys`);
    const name = `${map}:${hex(this.at(key, size))}`;
    this.trace.push(`key ${name}`);
    return name;
  }

  private mapIndex(map: string): number {
    const index = this.maps.indexOf(map);
    if (index < 0) throw new SimulationTrap(`map ${map} was not declared`);
    return index;
  }

  private writeContext(): void {
    const view = new DataView(this.context.buffer);
    view.setUint32(0, this.data, true);
    view.setUint32(4, this.dataEnd, true);
    view.setUint32(8, this.data, true);
  }

  private at(address: bigint, size: number): Uint8Array {
    const start = Number(BigInt.asUintN(64, address));
    if (start >= this.data && start + size <= this.dataEnd) return this.packetMemory.subarray(start - PACKET, start - PACKET + size);
    for (const region of this.regions)
      if (start >= region.start && start + size <= region.start + region.bytes.length)
        return region.bytes.subarray(start - region.start, start - region.start + size);
    throw new SimulationTrap(`access of ${size} bytes at 0x${start.toString(16)} is outside of all memory`);
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** What tests of the runtime share: one worker with a packet, and helpers called by the table that programs are run by. */
import { ArgumentError, Helper, type ProgramSpec, type ProgramType, type TestRunOptions } from '@tailrace/bpf';
import { type ArgumentKind, helperFor } from './helper.ts';
import { TAG_MAPS, WORKER_CONTEXT, WORKER_CPU, WORKERS } from './layout.ts';
import { EngineMemory } from './memory.ts';
import { enter, leave, roomBytes } from './packet-state.ts';
import { initializeWorker } from './worker-area.ts';

/** An argument: a number, or memory whose bytes the helper reads and writes. The context is left out. */
export type GivenArgument = number | bigint | Uint8Array;

/** A blueprint without instructions: what `enter` and `leave` look at. */
export function emptySpec(type: ProgramType): ProgramSpec {
  return {
    name: 'sample.run',
    type,
    frags: type === 'xdp',
    license: 'Dual MIT/GPL',
    instructions: [],
    mapReferences: [],
    functions: [],
    lines: [],
  };
}

/** One worker, and a packet in it. */
export class RuntimeFixture {
  readonly memory = new EngineMemory();
  readonly worker = WORKERS;
  readonly type: ProgramType;
  readonly #room: { readonly floor: number; readonly ceiling: number };
  #options: TestRunOptions;

  /** `bytes` of room for the packet; as much as the kernel has, unless given. */
  constructor(type: ProgramType, options: TestRunOptions, bytes = roomBytes(type, options.packet.length)) {
    this.type = type;
    initializeWorker(this.memory, this.worker, { cpu: 0, seed: 1n });
    const floor = this.memory.allocate(bytes);
    this.#room = { floor, ceiling: floor + bytes };
    this.#options = options;
    this.enter(options);
  }

  /** Takes another packet. What lies around it is zeros, as in the kernel's test runs. */
  enter(options: TestRunOptions): void {
    this.#options = options;
    this.memory.u8.fill(0, this.#room.floor, this.#room.ceiling);
    enter(this.memory, this.worker, this.#room, emptySpec(this.type), options);
  }

  leave(): ReturnType<typeof leave> {
    return leave(this.memory, this.worker, emptySpec(this.type), this.#options);
  }

  get packet(): Uint8Array {
    return leave(this.memory, this.worker, emptySpec(this.type)).packet;
  }

  /** A u32 of the worker's area. */
  field(offset: number): number {
    return this.memory.view.getUint32(this.worker + offset, true);
  }

  /** A u32 of the context. */
  context(offset: number): number {
    return this.field(WORKER_CONTEXT + offset);
  }

  /** Calls a helper as a program of the fixture's type does; gives r0 as a signed number. Memory that it wrote is in `given`. */
  call(name: Helper, ...given: readonly GivenArgument[]): bigint {
    const spec = helperFor(Helper[name], this.type);
    const args: (number | bigint)[] = spec.takesWorker ? [this.worker] : [];
    const places: (readonly [address: number, bytes: Uint8Array])[] = [];
    let next = 0;
    for (const kind of spec.args) {
      if (kind === 'context') continue;
      const value = given[next++];
      if (value === undefined) throw new ArgumentError(`${name} takes ${spec.args.length} arguments, got ${given.length}`);
      if (value instanceof Uint8Array) {
        const address = this.memory.allocate(Math.max(1, value.length));
        this.memory.u8.set(value, address);
        places.push([address, value]);
        args.push(kind === 'text' ? this.#text(address, value.length) : address);
      } else args.push(isAddress(kind) ? Number(value) : BigInt(value));
    }
    for (const constant of spec.trailing) args.push(constant === 'cpu' ? this.field(WORKER_CPU) : constant);
    const result = this.run(spec.export ?? name, ...args);
    for (const [address, bytes] of places) {
      bytes.set(this.memory.u8.subarray(address, address + bytes.length));
      this.memory.free(address);
    }
    return BigInt.asIntN(64, BigInt(result ?? 0));
  }

  /** Calls a function of the runtime. */
  run(name: string, ...args: readonly (number | bigint)[]): number | bigint | undefined {
    const runtime = this.memory.runtime as unknown as Readonly<Record<string, (...args: readonly (number | bigint)[]) => number | bigint>>;
    return runtime[name]?.(...args);
  }

  /** A pointer to text: a region of its own, as a map's value is. */
  #text(address: number, bytes: number): bigint {
    const row = 65_536 + TAG_MAPS * 16;
    for (const [at, value] of [address, bytes, 0, 1].entries()) this.memory.view.setUint32(row + 4 * at, value, true);
    return (BigInt(TAG_MAPS) << 32n) | BigInt(address);
  }
}

function isAddress(kind: ArgumentKind): boolean {
  return kind !== 'scalar' && kind !== 'text';
}

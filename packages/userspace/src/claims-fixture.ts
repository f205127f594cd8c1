/**
 * What the analyser claims of a program, held against a run of it: in front of each instruction, every register and stack slot
 * has to be what it is claimed to be.
 */
import { TailraceError } from '@tailrace/bpf';
import type { State } from './abstract-state.ts';
import { type AbstractValue, NO_ID, START } from './abstract-value.ts';
import {
  FRAME_SIZE,
  MAP_TABLE,
  REGION_BASE,
  REGION_LENGTH,
  REGION_SIZE,
  REGION_STRIDE,
  REGION_TABLE,
  TAG_CONTEXT,
  TAG_MAP,
  TAG_MAPS,
  TAG_PACKET,
  TAG_RECORD,
  TAG_STACK,
  WORKER_CONTEXT,
  WORKER_REGIONS,
  WORKER_STACK,
  WORKERS,
} from './layout.ts';
import { packetEnds } from './packet-state.ts';
import { addressOf, pointerTo, tagOf } from './pointer.ts';
import { surroundingsOf } from './program.ts';
import { LoadedSample, type Sample } from './program-fixture.ts';
import { provenanceOf } from './provenance.ts';
import type { InterpreterStep } from './worker-context.ts';

/** A claim that a run did not bear out. */
export class ClaimError extends TailraceError {
  constructor(message: string) {
    super('compile', message);
  }
}

/** Runs a program on packets and checks every claim on the way; how many instructions were looked at. Throws ClaimError. */
export function checkClaims(sample: Sample, packets: readonly Uint8Array[]): number {
  const claims = new Map<string, State>();
  /** Where the functions start whose frames are there. */
  const active: number[] = [];
  let steps = 0;
  const onStep = ({ start, pc, depth, registers }: InterpreterStep): void => {
    steps++;
    active[depth] = start;
    const state = claims.get(`${start} ${pc}`);
    if (state === undefined) throw new ClaimError(`pc ${pc} is reached, which was claimed to be out of reach`);
    const check = new Check(loaded, state, active, pc);
    for (const [index, value] of registers.entries()) check.value(`r${index}`, state.registers[index], value);
    const frame = WORKERS + WORKER_STACK + (depth + 1) * FRAME_SIZE;
    for (const [offset, claimed] of state.stack)
      check.value(`slot ${offset}`, claimed, loaded.memory.view.getBigUint64(frame + offset, true));
    check.places();
  };
  const loaded = new LoadedSample(sample, 'interpreter', { onStep });
  const { spec, code, graphs, maps } = loaded.program;
  const surroundings = surroundingsOf(spec, new Map([...maps].map(([name, map]) => [name, map.spec])), 'context');
  const { isComplete } = provenanceOf(code, graphs, surroundings, (start, pc, state) => claims.set(`${start} ${pc}`, state));
  if (isComplete) for (const packet of packets) loaded.run(packet);
  return steps;
}

/** One state against one moment. */
class Check {
  readonly #loaded: LoadedSample;
  readonly #state: State;
  readonly #active: readonly number[];
  readonly #pc: number;
  /** Distances from the packet's start, by id; and what answers are, null or not. */
  readonly #places = new Map<number, bigint>();
  readonly #answers = new Map<number, boolean>();

  constructor(loaded: LoadedSample, state: State, active: readonly number[], pc: number) {
    this.#loaded = loaded;
    this.#state = state;
    this.#active = active;
    this.#pc = pc;
  }

  value(where: string, claimed: AbstractValue | undefined, value: bigint): void {
    if (claimed === undefined) return;
    const holds = this.#holds(claimed, value);
    if (!holds) {
      const text = JSON.stringify(claimed, (_, item: unknown) => (typeof item === 'bigint' ? `0x${item.toString(16)}` : item));
      throw new ClaimError(`pc ${this.#pc}: ${where} is 0x${value.toString(16)}, claimed to be ${text}`);
    }
  }

  /** What is claimed to lie behind each place of the packet. */
  places(): void {
    const { data, end } = packetEnds(this.#loaded.memory, WORKERS);
    for (const [id, bytes] of this.#state.ranges) {
      const place = id === START ? 0n : this.#places.get(id);
      if (bytes === 0 || place === undefined || (place >= 0n && place + BigInt(bytes) <= BigInt(end - data))) continue;
      throw new ClaimError(`pc ${this.#pc}: ${end - data} bytes in the packet, claimed to be ${bytes} behind place ${id}, at ${place}`);
    }
  }

  #holds(claimed: AbstractValue, value: bigint): boolean {
    const { memory } = this.#loaded;
    const { data, end } = packetEnds(memory, WORKERS);
    switch (claimed.kind) {
      case 'number':
        return (claimed.constant ?? value) === value && (claimed.max === Number.POSITIVE_INFINITY || value <= BigInt(claimed.max));
      case 'context':
        return value === pointerTo(TAG_CONTEXT, WORKERS + WORKER_CONTEXT) + BigInt(claimed.offset);
      case 'packetEnd':
        return value === pointerTo(TAG_PACKET, end);
      case 'packet':
        return claimed.id === undefined || this.#isAt(claimed.id, value - pointerTo(TAG_PACKET, data) - BigInt(claimed.offset));
      case 'frame': {
        const depth = this.#active.lastIndexOf(claimed.owner);
        const frame = pointerTo(TAG_STACK + depth, WORKERS + WORKER_STACK + (depth + 1) * FRAME_SIZE);
        return claimed.offset === undefined || value === frame + BigInt(claimed.offset);
      }
      case 'map':
        if (!this.#isAnswer(claimed, value)) return false;
        return value === 0n || (tagOf(value) === TAG_MAP && this.#isMap(addressOf(value)));
      case 'value':
        return this.#isAnswer(claimed, value) && (value === 0n ? claimed.maybeNull : this.#isInValue(claimed, value));
    }
  }

  #isAt(id: number, place: bigint): boolean {
    if (id === START) return place === 0n;
    const known = this.#places.get(id);
    this.#places.set(id, place);
    return place >= 0n && (known === undefined || known === place);
  }

  /** All copies of one answer are null, or none is. */
  #isAnswer({ id, maybeNull }: { readonly id: number; readonly maybeNull: boolean }, value: bigint): boolean {
    if (value === 0n && !maybeNull) return false;
    if (id === NO_ID || !maybeNull) return true;
    const known = this.#answers.get(id);
    this.#answers.set(id, value === 0n);
    return known === undefined || known === (value === 0n);
  }

  #isMap(address: number): boolean {
    const { view } = this.#loaded.memory;
    return [...this.#loaded.maps.values()].some(
      (map) => map.address === address && view.getUint32(MAP_TABLE + 4 * map.tag, true) === address,
    );
  }

  #isInValue({ spec, bytes, offset, spread }: Extract<AbstractValue, { kind: 'value' }>, value: bigint): boolean {
    const tag = tagOf(value);
    // where it may have left the value, the next one's tag may be there
    if (offset < 0 || offset + spread > bytes) return true;
    const isRecord = tag >= TAG_RECORD && tag < TAG_MAPS;
    if (isRecord !== (spec.type === 'ringBuffer')) return false;
    const { view } = this.#loaded.memory;
    const row = (isRecord ? WORKERS + WORKER_REGIONS : REGION_TABLE) + tag * REGION_SIZE;
    const [base, length, stride] = [REGION_BASE, REGION_LENGTH, REGION_STRIDE].map((field) => view.getUint32(row + field, true)) as [
      number,
      number,
      number,
    ];
    const from = addressOf(value) - base;
    const within = stride === 0 ? from : from % stride;
    // a place just behind a value may be the next one's first byte
    const ends = stride !== 0 && within === 0 && from > 0 ? [0, stride] : [within];
    return from >= 0 && bytes <= length && ends.some((at) => at >= offset && at <= offset + spread);
  }
}

/** Maps without keys: queues and stacks, which values go through, and bloom filters, which remember that a value was there. */
import { ArgumentError } from '@tailrace/bpf';
import type { BloomHandle, PushFlag, QueueHandle } from './handle.ts';
import { declareMap, type MapDecl, type MapOptions } from './map-decl.ts';
import type { Ref, Schema } from './schema.ts';

/** What programs do with queues and stacks. */
export interface QueueProgram<V> {
  /** False where it is full; with `exist` the oldest value goes then, and the new one is in. `any` unless said otherwise. */
  push(value: V, flag?: PushFlag): boolean;
  /** Takes the next value out: a copy on the program's stack, or `undefined` where there is none. */
  pop(): Ref<V> | undefined;
  /** A copy of the next value, which stays; `undefined` where there is none. */
  peek(): Ref<V> | undefined;
}
/** What programs do with bloom filters. */
export interface BloomProgram<V> {
  add(value: V): void;
  /** False where the value was never added; true where it was, and now and then where it was not. */
  has(value: V): boolean;
}

/** First in, first out. */
export interface Queue<V> extends MapDecl<QueueProgram<V>, QueueHandle<V>> {
  readonly type: 'queue';
}
/** Last in, first out. */
export interface Stack<V> extends MapDecl<QueueProgram<V>, QueueHandle<V>> {
  readonly type: 'stack';
}
/** A set that never forgets and sometimes claims too much. */
export interface BloomFilter<V> extends MapDecl<BloomProgram<V>, BloomHandle<V>> {
  readonly type: 'bloomFilter';
}

/** Options of queues and stacks. */
export interface QueueOptions<V> extends MapOptions {
  readonly value: Schema<V>;
}
/** Options of bloom filters. */
export interface BloomOptions<V> extends QueueOptions<V> {
  /** Values that it is made for: with more, it claims more than it should more often. */
  readonly maxEntries: number;
  /** Bits that a value sets, 1 to 15; 5 unless said otherwise. */
  readonly hashes?: number;
}

/** Declares a queue. Throws ArgumentError, as all of these do, for options that no kernel takes. */
export function queue<V>(options: QueueOptions<V>): Queue<V> {
  return declareMap('queue', options, { value: options.value });
}

/** Declares a stack. */
export function stack<V>(options: QueueOptions<V>): Stack<V> {
  return declareMap('stack', options, { value: options.value });
}

/** Declares a bloom filter. */
export function bloomFilter<V>(options: BloomOptions<V>): BloomFilter<V> {
  const { name, value, hashes } = options;
  if (hashes !== undefined && (!Number.isInteger(hashes) || hashes < 1 || hashes > 15))
    throw new ArgumentError(`bloomFilter '${name}': hashes is ${hashes}, expected 1..15`);
  return declareMap('bloomFilter', options, { value, hashes });
}

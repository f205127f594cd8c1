/** Functions of the runtime (`runtime/`), as JavaScript sees them. Addresses are numbers below 2^32; i64 and u64 are bigint. */

/** What the runtime exports for maps and ring buffers. Results that are errors are negated errno numbers. */
export interface RuntimeExports {
  /** Bytes that a map takes beside its descriptor, whose sizes are filled in and whose rest is zero. */
  map_bytes(map: number, extra: number): number;
  /** Starts a map in so many bytes of zeros. */
  map_init(map: number, bytes: number, extra: number, seed: bigint): void;
  /** Address of a CPU's value, or of the inner map's descriptor; 0 where there is none. Counts as a use. */
  map_lookup(map: number, key: number, cpu: number): number;
  /** As `map_lookup`, for one kind; hashes also for one size of keys. */
  array_lookup(map: number, key: number, cpu: number): number;
  hash_lookup(map: number, key: number, cpu: number): number;
  hash_lookup4(map: number, key: number, cpu: number): number;
  hash_lookup8(map: number, key: number, cpu: number): number;
  hash_lookup16(map: number, key: number, cpu: number): number;
  hash_lookup_any(map: number, key: number, cpu: number): number;
  lpm_lookup(map: number, key: number): number;
  inner_lookup(map: number, key: number): number;
  map_update(map: number, key: number, value: number, flags: bigint, cpu: number): bigint;
  map_delete(map: number, key: number): bigint;
  map_push(map: number, value: number, flags: bigint): bigint;
  map_pop(map: number, value: number): bigint;
  map_peek(map: number, value: number): bigint;
  /** Address of the first CPU's value; 0 where there is none. Does not count as a use. */
  map_entry(map: number, key: number): number;
  /** Copies the values of all CPUs out; 0 where there is no entry. */
  map_read(map: number, key: number, out: number): number;
  /** Writes the values of all CPUs, as `map_read` gives them. */
  map_update_entry(map: number, key: number, values: number, flags: number): number;
  map_next_key(map: number, key: number, out: number): number;
  /** Copies at most `room` entries from behind the key at `cursor` (from the first on: `isFirst` 1) and leaves the last one's key there. */
  map_copy(map: number, cursor: number, isFirst: number, keys: number, values: number, room: number): number;
  ring_reserve(map: number, size: bigint, flags: bigint): number;
  ring_commit(sample: number, flags: bigint, discard: number): void;
  ring_output(map: number, data: number, size: bigint, flags: bigint): bigint;
  ring_query(map: number, what: bigint): bigint;
  /**
   * Addresses of a ring's positions (u64), of the reader's flag and of the number that rises when it is woken (u32; of perf event
   * arrays too), of its data.
   */
  ring_producer(map: number): number;
  ring_consumer(map: number): number;
  ring_armed(map: number): number;
  ring_wake(map: number): number;
  ring_data(map: number): number;
  /** Address of the map that a pointer means, where it is of one of these kinds (a bit each); else 0. */
  map_address(pointer: bigint, kinds: number): number;
  /** for_each_map_elem: begins (0 or a negated errno), goes from cursor to cursor (0 at the end), gives a value's address, ends. */
  each_begin(worker: number, map: number, flags: bigint): bigint;
  each_next(worker: number, map: number, cursor: number): number;
  each_value(worker: number, map: number, cursor: number): number;
  each_end(worker: number): void;
  /** Everything beside its bytes of an skb that comes in, by INCOMING_* at an address, or 0. */
  skb_enter(worker: number, incoming: number): void;
  /** Ends a record's time as a region: its address, 0 where the pointer is that of none. */
  record_close(worker: number, pointer: bigint): number;
  /** Throws away records that were reserved and not handed over. */
  record_close_all(worker: number): void;
  /** Gives back the spin lock that a worker still holds. */
  spin_release(worker: number): void;
}

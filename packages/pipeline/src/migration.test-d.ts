// biome-ignore-all format: each misuse stays on the line behind its directive
/** Migrations as a user of this package writes them: what must work, then what must be refused. `tsc` checks this file and nothing runs it. */
import type { Engine } from '@tailrace/bpf';
import {
  arrayMap, be32, hash, ipv4Prefix, lpmTrie, lruHash, perCpuArray, perCpuHash, programArray, queue, sockhash, stage, struct, u8, u16, u32, u64,
} from '@tailrace/stage';
import { type EntryOf, migrate, type NewEntryOf, pipeline, type Running } from './index.ts';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
declare function same<A, B>(proof: Equal<A, B>): void;
declare const engine: Engine;

const narrow = hash({ name: 'flows', key: be32, value: struct({ packets: u32 }), maxEntries: 8 });
const wide = lruHash({ name: 'flows', key: u32, value: struct({ packets: u64, port: u16 }), maxEntries: 8 });
const each = perCpuHash({ name: 'flows', key: be32, value: u32, maxEntries: 8 });
const places = arrayMap({ name: 'flows', value: u64, maxEntries: 8 });
const eachPlace = perCpuArray({ name: 'flows', value: u64, maxEntries: 8 });
const trie = lpmTrie({ name: 'flows', key: ipv4Prefix, value: u8, maxEntries: 8 });

same<EntryOf<typeof narrow>, readonly [key: number, value: { packets: number }]>(true);
same<EntryOf<typeof each>, readonly [key: number, value: number[]]>(true);
same<EntryOf<typeof eachPlace>, readonly [key: number, value: bigint[]]>(true);
same<NewEntryOf<typeof each>, readonly [key: number, values: readonly number[]]>(true);

const toWide = migrate(narrow, wide, (key, { packets }) => (packets > 0 ? [key, { packets: BigInt(packets), port: 80 }] : undefined));
migrate(each, places, (key, values) => [key, BigInt(values.length)]);
migrate(places, eachPlace, (index, value) => [index, [value, 0n]]);
migrate(trie, hash({ name: 'flows', key: u32, value: u8, maxEntries: 8 }), ({ addr }, value) => [addr, value]);
// one type: nothing to convert
migrate(narrow, hash({ name: 'flows', key: u32, value: struct({ packets: u16 }), maxEntries: 9 }));
migrate(each, perCpuHash({ name: 'flows', key: be32, value: u16, maxEntries: 9 }));

const count = stage({ name: 'count', hook: 'xdp', uses: { wide }, program: (ctx, { wide }) => (wide.lookup(1) ? ctx.drop() : ctx.next()) });
void pipeline('edge', { xdp: [count] }).run(engine, { persist: true, migrate: [toWide] });
declare const running: Running<{ readonly xdp: 'first' }>;
void running.update(pipeline('edge', { xdp: [count] }), { migrate: [toWide], onMigration: ({ map, pass, entries }) => console.log(map, pass, entries) });

// @ts-expect-error other values, and nobody to convert them
migrate(narrow, wide);
// @ts-expect-error a field is missing
migrate(narrow, wide, (key, { packets }) => [key, { packets: BigInt(packets) }]);
// @ts-expect-error the old map has no such field
migrate(narrow, wide, (key, { bytes }) => [key, { packets: bytes, port: 80 }]);
// @ts-expect-error one value where there is one for each CPU
migrate(narrow, each, (key, { packets }) => [key, packets]);
// @ts-expect-error a queue cannot be read without taking out
migrate(queue({ name: 'flows', value: u32, maxEntries: 8 }), wide, () => undefined);
// @ts-expect-error sockets end with their process
migrate(narrow, sockhash({ name: 'flows', key: u32, maxEntries: 8 }), () => undefined);
// @ts-expect-error programs are the chain's
migrate(programArray({ name: 'flows', maxEntries: 8 }), programArray({ name: 'flows', maxEntries: 9 }), () => undefined);
// @ts-expect-error a declaration is no migration
void pipeline('edge', { xdp: [count] }).run(engine, { persist: true, migrate: [wide] });
// @ts-expect-error the same of an update
void running.update(pipeline('edge', { xdp: [count] }), { migrate: [wide] });
// @ts-expect-error both sides of a canary go on, and each has its own map
void running.canary(pipeline('edge', { xdp: [count] }), { share: 0.5, migrate: [toWide] });

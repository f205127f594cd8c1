// biome-ignore-all format: each misuse stays on the line behind its directive
// biome-ignore-all lint/correctness/noUnusedFunctionParameters: type-checked only, never run
/**
 * Uses of the types, section by section: what must work, then what must be refused. `tsc` checks this file and nothing
 * runs it; messages.test.ts holds what is said to each misuse, by the text behind its directive.
 */
import {
  type AnyFunction, type AnyStage, type ArrayMap, 
  arrayMap, be16, bits, type Chains, type CheckChains, type Checked, type CheckKnown, type CheckPlaced, type CheckReplace,
  type ControllerOf, defineFunction, defineStructure, devmap, encode, flag, fn, fuse, type HandleOf, hash, hashOf, type Infer, Ipv4, ipv4Prefix, type LayoutOf, lpmTrie, type MapDecl, nothing, type Override, override, packed, perCpuArray,type Ref, type Resource, 
  ref, type Schema, type Structure, stage, struct, token, u8, u16, u32, u64,type Verdict,
} from './index.ts';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
declare function same<A, B>(proof: Equal<A, B>): void;

// --- what the pipeline package makes of the composition types -----------------------------------

interface Observable<T> { subscribe(next: (value: T) => void): void }
interface StageStats { readonly packets: bigint; readonly bytes: bigint; readonly ns: bigint }
type Stats<L> = { readonly [K in keyof L]: { readonly [N in L[K] & string]: StageStats } };
interface Running<L> extends AsyncDisposable {
  map<H>(map: MapDecl<unknown, H>): H;
  handle<H>(resource: Resource<unknown, H>): H;
  controller<F extends AnyFunction>(of: Checked<F, CheckPlaced<F, L>>): ControllerOf<F>;
  readonly stats$: Observable<Stats<L>>;
  replace<A extends AnyStage, B extends AnyStage>(old: Checked<A, CheckKnown<A, L>>, by: Checked<B, CheckReplace<A, B, L>>): Promise<void>;
}
interface Pipeline<N extends string, L> { readonly name: N; run(options?: { readonly services?: readonly Override[] }): Promise<Running<L>> }
declare function pipeline<const N extends string, const D extends Chains>(name: N, chains: Checked<D, CheckChains<D>>): Pipeline<N, LayoutOf<D>>;

// --- 1. stages ---------------------------------------------------------------------------------

export const acl = stage({
  name: 'acl', hook: 'xdp',
  uses: { blocked: lpmTrie({ name: 'blocked', key: ipv4Prefix, value: u64, maxEntries: 10_000 }), minTtl: 2 },
  program(ctx, { blocked, minTtl }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    if (ip.ttl < minTtl) return ctx.exit('expired');
    const hits = blocked.lookup({ prefixLen: 32, addr: ip.saddr });
    if (hits) { hits.value += 1n; return ctx.drop(); }
    return ctx.next();
  },
});
export const icmpTimeExceeded = stage({ name: 'icmpTimeExceeded', hook: 'xdp', program: (ctx) => ctx.tx() });
export const log = stage({ name: 'log', hook: 'xdp', uses: { seen: arrayMap({ name: 'seen', value: u32, maxEntries: 1 }) }, program(ctx, { seen }) { const n = seen.lookup(0); if (n) n.value = ctx.length; return ctx.next(); } });
// definitions may come in any order, and an arrow is as good as a method
export const policy = stage({ program: (ctx) => (ctx.mark === 7 ? ctx.exit('audit') : ctx.pass()), hook: 'tc', name: 'policy' });
export const peer = stage({ name: 'peer', hook: 'tcIngress', program: (ctx) => ctx.redirectPeer(3) });
export const shaper = stage({ name: 'shaper', hook: 'tcEgress', program: (ctx) => ctx.pass() });
export const onData = stage({ name: 'onData', hook: 'skSkb', program: (ctx) => (ctx.length > 0 ? ctx.pass() : ctx.drop()) });
export const onEvent = stage({ name: 'onEvent', hook: 'sockOps', program: (ctx) => ctx.pass() });
// an interface by number or out of a devmap
export const forward = stage({ name: 'forward', hook: 'xdp', uses: { ports: devmap({ name: 'ports', maxEntries: 4 }) }, program: (ctx, { ports }) => (ctx.length > 64 ? ctx.redirect(ports, 1) : ctx.redirect(2)) });
same<(typeof acl)['hook'], 'xdp'>(true);

// @ts-expect-error tc-only method
stage({ name: 'x', hook: 'xdp', program: (ctx) => ctx.redirectPeer(2) });
// @ts-expect-error ingress-only method in a stage for either direction
stage({ name: 'x', hook: 'tc', program: (ctx) => ctx.redirectPeer(2) });
// @ts-expect-error no drop() in sockOps
stage({ name: 'x', hook: 'sockOps', program: (ctx) => ctx.drop() });
declare const tcVerdict: Verdict<'tc'>;
// @ts-expect-error a verdict of another hook
stage({ name: 'x', hook: 'xdp', program: () => tcVerdict });
// @ts-expect-error a path without a verdict
stage({ name: 'x', hook: 'xdp', program(ctx) { if (ctx.ipv4()) return ctx.drop(); } });
// @ts-expect-error an unknown hook
stage({ name: 'x', hook: 'xpd', program: (ctx) => ctx.pass() });
stage({ name: 'x', hook: 'xdp', uses: { seen: hash({ name: 'seen', key: u32, value: struct({ packets: u64, last: u32 }), maxEntries: 8 }) }, program(ctx, { seen }) {
  const e = seen.lookup(1);
  // @ts-expect-error possibly undefined
  e.packets += 1n;
  if (!e) return ctx.next();
  // @ts-expect-error number into u64
  e.packets += 1;
  // @ts-expect-error bigint into u32
  e.last = 1n;
  // @ts-expect-error wrong key type
  seen.lookup(1n);
  // @ts-expect-error missing field
  seen.update(1, { packets: 1n });
  return ctx.next();
} });
// @ts-expect-error no such name in the bag
stage({ name: 'x', hook: 'xdp', uses: { limit: 3 }, program: (ctx, { limt }) => ctx.next() });

// --- 2. wiring ---------------------------------------------------------------------------------

acl.on({ expired: 'drop' });
acl.on({ expired: 'next' });
acl.on({ expired: icmpTimeExceeded });
acl.on({ expired: [log, icmpTimeExceeded] });
acl.on({ expired: [log, 'drop'] });
const outer = acl.as('outer').with({ minTtl: 64 }).on({ expired: 'drop' });
const inner = acl.as('inner').with({ blocked: lpmTrie({ name: 'inner', key: ipv4Prefix, value: u64, maxEntries: 10 }) }).on({ expired: 'drop' });
pipeline('twice', { xdp: [outer, inner] });
// a list of its own is checked as one in place
const own = [outer, inner] as const;
pipeline('own', { xdp: own });
// @ts-expect-error 'outer' is in this chain twice
pipeline('own', { xdp: [...own, outer] as const });
same<(typeof outer)['name'], 'outer'>(true);
pipeline('both', { tcIngress: [policy.on({ audit: 'pass' })], tcEgress: [policy.on({ audit: 'drop' })] });
// a `tc` stage wired to an ingress-only stage becomes ingress-only
const ingressPolicy = policy.on({ audit: peer });
same<(typeof ingressPolicy)['hook'], 'tcIngress'>(true);
pipeline('ok', { tcIngress: [ingressPolicy], skSkb: [onData], sockOps: [onEvent] });

// a label has to be a literal: both of these are exits
const forked = stage({ name: 'forked', hook: 'xdp', program: (ctx) => ctx.exit(ctx.length > 64 ? 'long' : 'short') });
forked.on({ long: 'drop', short: 'next' });
// @ts-expect-error not a literal
stage({ name: 'x', hook: 'xdp', uses: { label: 'a' }, program: (ctx, { label }) => ctx.exit(label) });
// a reason is one too, and no exit
const dropper = stage({ name: 'dropper', hook: 'xdp', program: (ctx) => (ctx.length > 64 ? ctx.drop('long') : ctx.abort('short')) });
pipeline('drops', { xdp: [dropper] });
// @ts-expect-error a reason that is none
stage({ name: 'x', hook: 'tc', uses: { why: 'a' }, program: (ctx, { why }) => ctx.drop(why) });
// a stage factory keeps the literal name and the exits
const limiter = <const N extends string>(name: N, limit: number) => stage({ name, hook: 'xdp', uses: { limit }, program: (ctx, { limit }) => (ctx.length > limit ? ctx.exit('over') : ctx.next()) });
pipeline('limits', { xdp: [limiter('small', 64).on({ over: 'drop' }), limiter('large', 1500).on({ over: log })] });
// @ts-expect-error unwired, out of a factory
pipeline('limits', { xdp: [limiter('small', 64)] });

// stages may be written where they stand
pipeline('inline', { xdp: [
  acl.on({ expired: stage({ name: 'reject', hook: 'xdp', program: (ctx) => (ctx.ipv4() ? ctx.tx() : ctx.drop()) }) }),
  stage({ name: 'last', hook: 'xdp', uses: { limit: 3 }, program: (ctx, { limit }) => (ctx.length > limit ? ctx.exit('long') : ctx.pass()) }).on({ long: 'drop' }),
] });

// a chain that is put together at run time passes here, and is checked when it is loaded
declare const fromConfig: AnyStage[];
pipeline('dynamic', { xdp: fromConfig });
pipeline('mixed', { xdp: [log, fromConfig[0] ?? log.as('other')] });

// @ts-expect-error an unwired exit
pipeline('e1', { xdp: [log, acl] });
// @ts-expect-error a stage of another hook
pipeline('e2', { xdp: [shaper] });
// @ts-expect-error egress stage at ingress
pipeline('e3', { tcIngress: [shaper] });
// @ts-expect-error an unknown chain
pipeline('e4', { xpd: [log] });
// @ts-expect-error twice under one name
pipeline('e5', { xdp: [log, log] });
// @ts-expect-error ingress-only after wiring
pipeline('e6', { tcEgress: [ingressPolicy] });
// @ts-expect-error an exit that the stage does not have
acl.on({ expird: 'drop' });
// @ts-expect-error the same, beside a right one
acl.on({ expired: 'drop', late: 'drop' });
// @ts-expect-error not a verdict
acl.on({ expired: 'dorp' });
// @ts-expect-error not a verdict of this hook
policy.on({ audit: 'tx' });
// @ts-expect-error target of another hook
acl.on({ expired: shaper });
// @ts-expect-error target with an open exit
acl.on({ expired: acl.as('second') });
// @ts-expect-error sub-chain with a stage of another hook
acl.on({ expired: [log, shaper] });
// @ts-expect-error no such name in uses
acl.with({ minTtI: 3 });
// @ts-expect-error another schema
acl.with({ blocked: lpmTrie({ name: 'b', key: ipv4Prefix, value: u32, maxEntries: 1 }) });

// --- 3. structures -----------------------------------------------------------------------------

/** As a package of its own would write it: a direct-mapped cache, one entry a bucket. */
export interface FlowCacheOps<K, V> { lookup(key: K): Ref<V> | undefined; insert(key: K, value: V): void }
export interface FlowCacheHandle<K, V> { get(key: K): V | undefined; entries(): Iterable<[K, V]>; clear(): void }
export interface FlowCache<K, V> extends Structure<FlowCacheOps<K, V>, FlowCacheHandle<K, V>> {}

export function flowCache<K, V>(options: { name: string; key: Schema<K>; value: Schema<V>; entries: number }): FlowCache<K, V> {
  const { name, key, value, entries } = options;
  const keys: ArrayMap<K> = arrayMap({ name: `${name}.keys`, value: key, maxEntries: entries });
  const values: ArrayMap<V> = arrayMap({ name: `${name}.values`, value, maxEntries: entries });
  const used = arrayMap({ name: `${name}.used`, value: u8, maxEntries: entries });
  const slot = fn([key], u32, { hash: hashOf(key), mask: entries - 1 }, (k, { hash, mask }) => (hash(k) & mask) >>> 0);
  return defineStructure({
    name, maps: { keys, values, used },
    fns: {
      lookup: fn([key], ref(value), { values, used, slot }, (k, { values, used, slot }) => {
        const taken = used.lookup(slot(k));
        return taken && taken.value === 1 ? values.lookup(slot(k)) : undefined;
      }),
      insert: fn([key, value], nothing, { used, slot }, (k, _v, { used, slot }) => {
        const taken = used.lookup(slot(k));
        if (taken) taken.value = 1;
      }),
    },
    handle: ({ keys, values, used }) => ({
      get: (k) => { for (const [i, other] of keys.entries()) if (other === k) return values.get(i); return undefined; },
      *entries() { for (const [i, k] of keys.entries()) { const v = values.get(i); if (v !== undefined) yield [k, v]; } },
      clear() { used.setMany(used.getAll().map(([i]) => [i, 0])); },
    }),
  });
}

const FlowKey = struct({ saddr: u32, daddr: u32, sport: u16, dport: u16, protocol: u8 });
const Conn = struct({ real: u32, packets: u64 });
export const conns = flowCache({ name: 'conns', key: FlowKey, value: Conn, entries: 65_536 });

export const affinity = stage({
  name: 'affinity', hook: 'xdp', uses: { conns }, writes: { real: u32 },
  program(ctx, { conns }) {
    const ip = ctx.ipv4(), tcp = ctx.tcp();
    if (!ip || !tcp) return ctx.exit('notTcp');
    const key = { saddr: ip.saddr, daddr: ip.daddr, sport: tcp.sport, dport: tcp.dport, protocol: ip.protocol };
    const conn = conns.lookup(key);
    if (!conn) { conns.insert(key, { real: 1, packets: 1n }); return ctx.exit('miss'); }
    conn.packets += 1n;
    ctx.meta.real = conn.real;
    return ctx.next();
  },
});
stage({ name: 'x', hook: 'xdp', uses: { conns }, program(ctx, { conns }) {
  // @ts-expect-error a key without a field
  conns.lookup({ saddr: 1, daddr: 2, sport: 3, dport: 4 });
  // @ts-expect-error a number where the value has a u64
  conns.insert({ saddr: 1, daddr: 2, sport: 3, dport: 4, protocol: 6 }, { real: 1, packets: 1 });
  // @ts-expect-error the handle's methods are not there inside the program
  conns.clear();
  return ctx.next();
} });
const mix = fn([u32, u32], u32, (a, b) => (a ^ (b >>> 7)) >>> 0);
// @ts-expect-error a bigint into a u32 argument
stage({ name: 'x', hook: 'xdp', uses: { mix }, program: (ctx, { mix }) => (mix(1n, 2) ? ctx.drop() : ctx.next()) });
// @ts-expect-error returns a string, not a u32
fn([u32], u32, (a) => `${a}`);

// --- 4. metadata -------------------------------------------------------------------------------

export const classify = stage({ name: 'classify', hook: 'xdp', writes: { flow: u32, tenant: u16 }, program(ctx) { ctx.meta.flow = 1; ctx.meta.tenant = 2; return ctx.next(); } });
export const meter = stage({ name: 'meter', hook: 'xdp', reads: { flow: u32 }, program: (ctx) => (ctx.meta.flow > 9 ? ctx.drop() : ctx.next()) });
export const account = stage({ name: 'account', hook: 'tc', reads: { tenant: u16 }, program: (ctx) => (ctx.meta.tenant ? ctx.pass() : ctx.drop()) });
pipeline('m1', { xdp: [classify, meter], tcIngress: [account] });
pipeline('m2', { xdp: [acl.on({ expired: [classify, meter, 'drop'] })] });

// @ts-expect-error nobody writes flow
pipeline('m3', { xdp: [log, meter] });
// @ts-expect-error written, but later
pipeline('m4', { xdp: [meter, classify] });
// @ts-expect-error not carried to egress
pipeline('m5', { xdp: [classify], tcEgress: [account] });
// @ts-expect-error read behind an exit, written nowhere
pipeline('m6', { xdp: [acl.on({ expired: [log, meter] })] });
// @ts-expect-error a field that is only read
stage({ name: 'x', hook: 'xdp', reads: { flow: u32 }, program(ctx) { ctx.meta.flow = 1; return ctx.next(); } });
// @ts-expect-error a field that was not declared
stage({ name: 'x', hook: 'xdp', reads: { flow: u32 }, program: (ctx) => (ctx.meta.flw ? ctx.drop() : ctx.next()) });

// --- 5. network functions ----------------------------------------------------------------------

export interface Clock { readonly now: () => number }
export const Clock = token<Clock>('Clock');
export interface HealthChecker { readonly watch: (real: number) => Observable<boolean> }
export const HealthChecker = token<HealthChecker>('HealthChecker');

export class L4lbController {
  readonly #conns: FlowCacheHandle<Infer<typeof FlowKey>, Infer<typeof Conn>>;
  readonly #health: HealthChecker;
  constructor(needs: { conns: FlowCacheHandle<Infer<typeof FlowKey>, Infer<typeof Conn>>; health: HealthChecker; clock: Clock }) { this.#conns = needs.conns; this.#health = needs.health; }
  addReal(address: number, weight = 1): void { void [address, weight, this.#conns, this.#health]; }
}

// stages of a function are exported, so that users can replace one
export const pick = stage({ name: 'pick', hook: 'xdp', writes: { real: u32 }, program(ctx) { ctx.meta.real = 1; return ctx.next(); } });
export const encap = stage({ name: 'encap', hook: 'xdp', reads: { real: u32 }, program: (ctx) => (ctx.meta.real ? ctx.tx() : ctx.drop()) });
export const reply = stage({ name: 'reply', hook: 'tcEgress', program: (ctx) => ctx.pass() });
export const l4lb = (options: { entries?: number } = {}) => {
  const conns = flowCache({ name: 'conns', key: FlowKey, value: Conn, entries: options.entries ?? 65_536 });
  return defineFunction({
    name: 'l4lb',
    stages: { xdp: [affinity.with({ conns }).on({ miss: pick }), encap], tcEgress: [reply] },
    controller: { needs: { conns, health: HealthChecker, clock: Clock }, create: (needs) => new L4lbController(needs) },
  });
};
const lb = l4lb({ entries: 1024 }).on({ notTcp: 'next' });

const edge = pipeline('edge', {
  xdp: [acl.on({ expired: icmpTimeExceeded }), classify, lb, meter],
  tcIngress: [policy.on({ audit: 'pass' }), account],
  tcEgress: [lb, shaper],
});

// a function behind an exit, and one in two places
const cookies = defineFunction({ name: 'synCookie', stages: { xdp: [log.as('answer')] } });
pipeline('guard', { xdp: [acl.on({ expired: cookies }), limiter('burst', 9).on({ over: [log, lb] })], tcEgress: [lb] });
const east = l4lb().as('east').on({ notTcp: 'next' }), west = l4lb().as('west').on({ notTcp: 'drop' });
pipeline('two', { xdp: [east, west], tcEgress: [east, west] });
// what a function's exit leads to counts as well: its names and its metadata
const guarded = await pipeline('guarded', { xdp: [l4lb().on({ notTcp: [classify, log] }), meter], tcEgress: [lb] }).run();
guarded.stats$.subscribe((stats) => [stats.xdp.classify.packets, stats.xdp['l4lb.pick'].packets]);
// @ts-expect-error a function without stages for that hook
policy.on({ audit: cookies });
// @ts-expect-error a function with an open exit
acl.on({ expired: l4lb() });

// @ts-expect-error an exit of the function is open
pipeline('f1', { xdp: [l4lb()], tcEgress: [l4lb()] });
// @ts-expect-error placed in one of its two hooks only
pipeline('f2', { xdp: [lb] });
// @ts-expect-error no stages for that hook
pipeline('f3', { xdp: [lb], tcIngress: [lb], tcEgress: [lb] });
// @ts-expect-error no such exit
l4lb().on({ notUdp: 'next' });
// @ts-expect-error a stage under the wrong hook
defineFunction({ name: 'x', stages: { tcEgress: [log] } });
// @ts-expect-error the controller gets a HealthChecker, which has no ping()
defineFunction({ name: 'x', stages: { xdp: [log] }, controller: { needs: { health: HealthChecker }, create: ({ health }) => health.ping() } });

const nothingYet: Observable<boolean> = { subscribe() {} };

// --- fused groups --------------------------------------------------------------------------------

const fusedPipeline = pipeline('fused', {
  xdp: [fuse(acl.on({ expired: [fuse(icmpTimeExceeded)] }), classify), fuse(lb, meter)],
  tcIngress: [fuse(policy.on({ audit: 'pass' }), account)],
  tcEgress: [fuse(lb, fuse(shaper))],
});
pipeline('fusedBehind', { xdp: [acl.on({ expired: fuse(classify, meter) })] });
pipeline('fusedDynamic', { xdp: [fuse(log, ...fromConfig)] });
// @ts-expect-error an unwired exit in a group
pipeline('g1', { xdp: [fuse(log, acl)] });
// @ts-expect-error a stage of another hook in a group
pipeline('g2', { xdp: [fuse(log, shaper)] });
// @ts-expect-error twice under one name, in a group and beside it
pipeline('g3', { xdp: [log, fuse(classify, log)] });
// @ts-expect-error read in a group, written behind it
pipeline('g4', { xdp: [fuse(log, meter), classify] });
// @ts-expect-error in a group of one of its two hooks only
pipeline('g5', { xdp: [fuse(lb)] });
// @ts-expect-error a group behind an exit with an open exit
acl.on({ expired: fuse(log, acl.as('second')) });
// @ts-expect-error no group without members
fuse();

// --- 6. running --------------------------------------------------------------------------------

const nat = defineFunction({ name: 'nat', stages: { xdp: [log] } });
export async function main(): Promise<void> {
  await using running = await edge.run({ services: [override(Clock, { now: () => 0 }), override(HealthChecker, { watch: () => nothingYet })] });
  running.map(acl.uses.blocked).set({ prefixLen: 24, addr: 1 }, 0n);
  const found = running.handle(conns).get({ saddr: 1, daddr: 2, sport: 3, dport: 4, protocol: 6 });
  same<typeof found, { real: number; packets: bigint } | undefined>(true);
  running.controller(lb).addReal(0x0a000001, 2);
  running.stats$.subscribe((stats) => [stats.xdp.acl.packets, stats.xdp['l4lb.encap'].ns, stats.tcEgress.shaper.bytes, stats.xdp.icmpTimeExceeded.packets]);

  const aclV2 = stage({ name: 'aclV2', hook: 'xdp', program: (ctx) => (ctx.length > 9 ? ctx.exit('expired') : ctx.next()) });
  await running.replace(acl, aclV2);
  await running.replace(lb.stage(encap), icmpTimeExceeded);
  await running.replace(lb.stage(pick), pick.as('pickV2'));
  await running.replace(policy, peer);                                      // `policy` stands at ingress only
  const both = await pipeline('both', { tcIngress: [policy.on({ audit: 'drop' })], tcEgress: [policy.on({ audit: 'drop' })] }).run();
  // @ts-expect-error here `policy` stands at egress too
  await both.replace(policy, peer);
  await running.replace(icmpTimeExceeded, icmpTimeExceeded.as('quiet'));   // it stands behind an exit

  const fusedRun = await fusedPipeline.run();
  fusedRun.stats$.subscribe((stats) => [stats.xdp.acl.packets, stats.xdp.icmpTimeExceeded.packets, stats.xdp['l4lb.pick'].packets, stats.tcEgress.shaper.bytes]);
  await fusedRun.replace(classify, classify.as('again'));
  // @ts-expect-error no such stage in a pipeline of groups
  fusedRun.stats$.subscribe((stats) => stats.xdp.log.packets);

  // @ts-expect-error the value is a u64
  running.map(acl.uses.blocked).set({ prefixLen: 24, addr: 1 }, 0);
  // @ts-expect-error a structure is no map
  running.map(conns);
  // @ts-expect-error not in this pipeline
  running.controller(nat);
  // @ts-expect-error no such stage
  running.stats$.subscribe((stats) => stats.xdp.acll.packets);
  // @ts-expect-error no such stage in that chain
  running.stats$.subscribe((stats) => stats.tcIngress.acl.packets);
  // @ts-expect-error not in this pipeline
  await running.replace(log, aclV2);
  // @ts-expect-error another hook
  await running.replace(acl, shaper);
  const aclV3 = stage({ name: 'aclV3', hook: 'xdp', program: (ctx) => (ctx.length > 9 ? ctx.exit('fragment') : ctx.next()) });
  // @ts-expect-error an exit more
  await running.replace(acl, aclV3);
  await running.replace(acl, aclV3.on({ fragment: 'drop' }));
  // @ts-expect-error the new stage writes less
  await running.replace(classify, icmpTimeExceeded);
  // @ts-expect-error the wrong value for a service
  override(Clock, { now: () => 'noon' });
  // @ts-expect-error no such stage in the function
  lb.stage(acl);
}

// --- 7. schemas, maps, headers -------------------------------------------------------------------

const Vlan = packed({ tci: be16, etherType: be16 }, { vid: bits('tci', 0, 12), priority: bits('tci', 13, 3), dropEligible: flag('tci', 12) });
same<Infer<typeof Vlan>, { tci: number; etherType: number; readonly vid: number; readonly priority: number; readonly dropEligible: boolean }>(true);
export const untag = stage({ name: 'untag', hook: 'xdp', uses: { Vlan, forward: forward.uses.ports }, program(ctx, { Vlan, forward }) {
  const vlan = ctx.at(Vlan, 14), ip = ctx.ipv4();
  if (!vlan || !ip || vlan.dropEligible) return ctx.drop();
  ip.ttl -= 1;
  ip.checksum = ctx.checksumReplace(ip.checksum, 0x0100, 0);
  // @ts-expect-error a view is read-only
  ip.headerLength = 20;
  // @ts-expect-error there is no such header
  ctx.sctp();
  // @ts-expect-error a devmap needs a key
  ctx.redirect(forward);
  return ctx.adjustHead(4) ? ctx.next() : ctx.abort();
} });
// encode takes fields, not views
encode(Vlan, { tci: 1, etherType: 0x0800 });
encode(ipv4Prefix, { prefixLen: 8, addr: 0 });
// @ts-expect-error a field is missing
encode(Ipv4, { ttl: 64 });
// @ts-expect-error a view of no field
struct({ a: u8 }, { low: bits('b', 0, 4) });
// @ts-expect-error a prefix key without a length
lpmTrie({ name: 'x', key: struct({ addr: u32 }), value: u8, maxEntries: 1 });
// @ts-expect-error an array has no keys to delete
stage({ name: 'x', hook: 'xdp', uses: { a: arrayMap({ name: 'a', value: u8, maxEntries: 1 }) }, program(ctx, { a }) { a.delete(0); return ctx.next(); } });
const perCpu = perCpuArray({ name: 'perCpu', value: struct({ packets: u64, drops: u32 }), maxEntries: 1 });
declare const counters: HandleOf<typeof perCpu>;
same<ReturnType<typeof counters.get>, { packets: bigint; drops: number }[] | undefined>(true);
same<ReturnType<typeof counters.sum>, { readonly packets: bigint; readonly drops: number } | undefined>(true);

// biome-ignore-all format: each misuse stays on the line behind its directive
// biome-ignore-all lint/correctness/noUnusedFunctionParameters: type-checked only, never run
/**
 * Pipelines as a user of this package writes them: what must work, then what must be refused. `tsc` checks this file and
 * nothing runs it. What single stages, maps and functions refuse is held by the stage package.
 */
import type { Engine } from '@tailrace/bpf';
import {
  type AnyStage, arrayMap, defineFunction, defineStructure, fn, ipv4Prefix, lpmTrie, override, perCpuHash, ref, stage, struct, token, u16, u32, u64,
} from '@tailrace/stage';
import { EMPTY, type Observable } from 'rxjs';
import { Clock, MapRegistry, MapStore, type PathStep, pipeline, type Running } from './index.ts';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
declare function same<A, B>(proof: Equal<A, B>): void;
declare const engine: Engine;

const blocked = lpmTrie({ name: 'blocked', key: ipv4Prefix, value: u64, maxEntries: 10_000 });
const acl = stage({
  name: 'acl', hook: 'xdp', uses: { blocked, minTtl: 2 },
  program(ctx, { blocked, minTtl }) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    if (ip.ttl < minTtl) return ctx.exit('expired');
    return blocked.lookup({ prefixLen: 32, addr: ip.saddr }) ? ctx.drop() : ctx.next();
  },
});
const answer = stage({ name: 'answer', hook: 'xdp', program: (ctx) => ctx.tx() });
const log = stage({ name: 'log', hook: 'xdp', program: (ctx) => ctx.next() });
const policy = stage({ name: 'policy', hook: 'tc', program: (ctx) => (ctx.mark === 7 ? ctx.exit('audit') : ctx.pass()) });
const peer = stage({ name: 'peer', hook: 'tcIngress', program: (ctx) => ctx.redirectPeer(3) });
const shaper = stage({ name: 'shaper', hook: 'tcEgress', program: (ctx) => ctx.pass() });
const classify = stage({ name: 'classify', hook: 'xdp', writes: { flow: u32, tenant: u16 }, program(ctx) { ctx.meta.flow = 1; ctx.meta.tenant = 2; return ctx.next(); } });
const meter = stage({ name: 'meter', hook: 'xdp', reads: { flow: u32 }, program: (ctx) => (ctx.meta.flow > 9 ? ctx.drop() : ctx.next()) });
const account = stage({ name: 'account', hook: 'tc', reads: { tenant: u16 }, program: (ctx) => (ctx.meta.tenant ? ctx.pass() : ctx.drop()) });

interface HealthChecker { watch(real: number): Observable<boolean> }
const HealthChecker = token<HealthChecker>('HealthChecker');
const values = arrayMap({ name: 'conns.values', value: struct({ real: u32, packets: u64 }), maxEntries: 64 });
const conns = defineStructure({
  name: 'conns', maps: { values },
  fns: { lookup: fn([u32], ref(struct({ real: u32, packets: u64 })), { values }, (key, { values }) => values.lookup(key)) },
  handle: ({ values }) => ({ get: (key: number) => values.get(key)?.real, clear() { values.setMany([]); } }),
});
const pick = stage({ name: 'pick', hook: 'xdp', uses: { conns }, writes: { real: u32 }, program(ctx, { conns }) { const conn = conns.lookup(1); if (!conn) return ctx.exit('miss'); ctx.meta.real = conn.real; return ctx.next(); } });
const encap = stage({ name: 'encap', hook: 'xdp', reads: { real: u32 }, program: (ctx) => (ctx.meta.real ? ctx.tx() : ctx.drop()) });
const reply = stage({ name: 'reply', hook: 'tcEgress', program: (ctx) => ctx.pass() });
const l4lb = () => defineFunction({
  name: 'l4lb', stages: { xdp: [pick, encap], tcEgress: [reply] },
  controller: { needs: { conns, health: HealthChecker, clock: Clock }, create: ({ conns, health, clock }) => ({ drain(real: number) { if (conns.get(real) && clock.now() > 0) health.watch(real); } }) },
});
const lb = l4lb().on({ miss: 'next' });
const nat = defineFunction({ name: 'nat', stages: { xdp: [log] } });

const edge = pipeline('edge', {
  xdp: [acl.on({ expired: [answer] }), classify, lb, meter],
  tcIngress: [policy.on({ audit: 'pass' }), account],
  tcEgress: [lb, shaper],
});
same<(typeof edge)['name'], 'edge'>(true);
pipeline('guard', { xdp: [acl.on({ expired: nat }), log.as('other')] });
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
// @ts-expect-error nobody writes flow
pipeline('m1', { xdp: [log, meter] });
// @ts-expect-error written, but later
pipeline('m2', { xdp: [meter, classify] });
// @ts-expect-error not carried to egress
pipeline('m3', { xdp: [classify], tcEgress: [account] });
// @ts-expect-error read behind an exit, written nowhere
pipeline('m4', { xdp: [acl.on({ expired: [log, meter] })] });
// @ts-expect-error an exit of the function is open
pipeline('f1', { xdp: [l4lb()], tcEgress: [l4lb()] });
// @ts-expect-error placed in one of its two hooks only
pipeline('f2', { xdp: [lb] });
// @ts-expect-error no stages for that hook
pipeline('f3', { xdp: [lb], tcIngress: [lb], tcEgress: [lb] });

export async function main(): Promise<void> {
  await using running = await edge.run(engine, { services: [override(Clock, { now: () => 0, schedule: () => EMPTY.subscribe() }), override(HealthChecker, { watch: () => EMPTY })] });
  running.map(blocked).set({ prefixLen: 24, addr: 1 }, 0n);
  running.map(acl.uses.blocked).setMany([[{ prefixLen: 24, addr: 1 }, 0n]]);
  const real = running.handle(conns).get(1);
  same<typeof real, number | undefined>(true);
  running.controller(lb).drain(7);
  running.stats$.subscribe((stats) => [stats.xdp.acl.packets, stats.xdp['l4lb.encap'].verdicts.tx, stats.tcEgress.shaper.bytes, stats.xdp.answer.misses, stats.xdp.acl.exits.expired, stats.roots.xdp.misses]);
  const verdict = (await running.run(new Uint8Array(64))).verdict;
  same<typeof verdict, 'abort' | 'drop' | 'pass' | 'tx' | 'redirect'>(true);
  const { path } = await running.run(new Uint8Array(64), { hook: 'tcEgress', skb: { mark: 1 } });
  same<typeof path, readonly PathStep<'l4lb.reply' | 'shaper'>[] | undefined>(true);
  const anywhere = (await running.run(new Uint8Array(64))).path?.at(-1);
  same<Extract<NonNullable<typeof anywhere>['stage'], 'answer' | 'account' | 'shaper' | 'encap'>, 'answer' | 'account' | 'shaper'>(true);
  const perCpu = running.map(perCpuHash({ name: 'perCpu', key: u32, value: u64, maxEntries: 1 })).get(1);
  same<typeof perCpu, bigint[] | undefined>(true);
  same<typeof running extends Running<infer L> ? keyof L : never, 'xdp' | 'tcIngress' | 'tcEgress'>(true);

  const aclV2 = stage({ name: 'aclV2', hook: 'xdp', program: (ctx) => (ctx.length > 9 ? ctx.exit('expired') : ctx.next()) });
  await running.replace(acl, aclV2);
  await running.replace(lb.stage(encap), answer);
  await running.replace(lb.stage(pick), pick.as('pickV2'));
  await running.replace(policy, peer);                       // `policy` stands at ingress only
  await running.replace(answer, answer.as('quiet'));         // it stands behind an exit
  const both = await pipeline('both', { tcIngress: [policy.on({ audit: 'drop' })], tcEgress: [policy.on({ audit: 'drop' })] }).run(engine);
  // @ts-expect-error here `policy` stands at egress too
  await both.replace(policy, peer);

  const next = pipeline('edge', { xdp: [acl.on({ expired: 'drop' }), log], tcIngress: [policy.on({ audit: 'drop' })], tcEgress: [shaper] });
  const updated = await running.update(next, { services: [override(HealthChecker, { watch: () => EMPTY })] });
  same<keyof ReturnType<typeof updated.stats>['xdp'], 'acl' | 'log'>(true);
  await updated.replace(log, answer);
  // @ts-expect-error it was in the pipeline before
  updated.controller(lb);
  const trial = await updated.canary(next, { share: 0.05 });
  same<keyof ReturnType<typeof trial.stats>['canary']['xdp'], 'acl' | 'log'>(true);
  await (await trial.promote()).replace(log, answer);
  // @ts-expect-error a share or a stage
  await updated.canary(next, {});
  // @ts-expect-error other hooks
  await running.update(pipeline('edge', { xdp: [log] }));

  // @ts-expect-error the value is a u64
  running.map(blocked).set({ prefixLen: 24, addr: 1 }, 0);
  // @ts-expect-error a structure is no map
  running.map(conns);
  // @ts-expect-error not in this pipeline
  running.controller(nat);
  // @ts-expect-error no such stage
  running.stats$.subscribe((stats) => stats.xdp.acll.packets);
  // @ts-expect-error no such stage in that chain
  running.stats$.subscribe((stats) => stats.tcIngress.acl.packets);
  // @ts-expect-error no such chain
  await both.run(new Uint8Array(64), { hook: 'xdp' });
  // @ts-expect-error no such stage in that chain
  path?.find(({ stage }) => stage === 'acl');
  // @ts-expect-error not in this pipeline
  await running.replace(log, aclV2);
  // @ts-expect-error another hook
  await running.replace(acl, shaper);
  const aclV3 = stage({ name: 'aclV3', hook: 'xdp', program: (ctx) => (ctx.length > 9 ? ctx.exit('fragment') : ctx.next()) });
  // @ts-expect-error an exit more
  await running.replace(acl, aclV3);
  await running.replace(acl, aclV3.on({ fragment: 'drop' }));
  // @ts-expect-error the new stage writes less
  await running.replace(classify, answer);
  // @ts-expect-error reads what the old one did not
  await running.replace(answer, meter);
  // @ts-expect-error the wrong value for a service
  override(Clock, { now: () => 'noon' });
  // @ts-expect-error no registry
  override(MapRegistry, { hold: 1 });
  // @ts-expect-error half a store
  override(MapStore, { opened: () => undefined });
  // @ts-expect-error no such stage in the function
  lb.stage(acl);
}

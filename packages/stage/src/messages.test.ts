/** What TypeScript says to each misuse of composition.test-d.ts: one run of `tsc` over a copy without the directives. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const DIRECTIVE = /^\s*\/\/ @ts-expect-error (.*)$/;
const source = new URL('./composition.test-d.ts', import.meta.url);
const root = join(import.meta.dirname, '../../..');

test('every misuse gets its message', { timeout: 60_000 }, async () => {
  const lines = (await readFile(source, 'utf8')).split('\n');
  const copy = lines.map((line) =>
    line.replace('@ts-expect-error', 'expected:').replace("'./index.ts'", JSON.stringify(join(import.meta.dirname, 'index.ts'))),
  );
  const said = await messagesOf(copy.join('\n'));
  const table = lines.flatMap((line, i) => {
    const reason = DIRECTIVE.exec(line)?.[1];
    // a directive stands on line i + 1, the misuse on the one below
    return reason === undefined ? [] : [`${reason}\n${(said.get(i + 2) ?? ['no error']).map((message) => `  ${message}`).join('\n')}`];
  });
  expect(table.length).toBeGreaterThan(60);
  expect(table.join('\n')).toMatchInlineSnapshot(`
    "tc-only method
      TS2551: Property 'redirectPeer' does not exist on type 'XdpContext<{}>'. Did you mean 'redirect'?
    ingress-only method in a stage for either direction
      TS2551: Property 'redirectPeer' does not exist on type 'TcContext<"tc", {}>'. Did you mean 'redirect'?
    no drop() in sockOps
      TS2339: Property 'drop' does not exist on type 'SockOpsContext<{}>'.
    a verdict of another hook
      TS2322: Type 'Verdict<"tc", never>' is not assignable to type 'Verdict<"xdp", never>'.
    a path without a verdict
      TS2322: Type '(this: void, ctx: XdpContext<{}>) => Verdict<"xdp", never> | undefined' is not assignable to type '(this: void, ctx: XdpContext<{}>, bag: Bag<Empty>) => Verdict<"xdp", never>'.
      TS7030: Not all code paths return a value.
    an unknown hook
      TS2322: Type '"xpd"' is not assignable to type 'Hook'.
    possibly undefined
      TS18048: 'e' is possibly 'undefined'.
    number into u64
      TS2365: Operator '+=' cannot be applied to types 'bigint' and '1'.
    bigint into u32
      TS2322: Type 'bigint' is not assignable to type 'number'.
    wrong key type
      TS2345: Argument of type 'bigint' is not assignable to parameter of type 'number'.
    missing field
      TS2741: Property 'last' is missing in type '{ packets: bigint; }' but required in type '{ packets: bigint; last: number; }'.
    no such name in the bag
      TS2339: Property 'limt' does not exist on type 'Bag<{ limit: number; }>'.
    'outer' is in this chain twice
      TS2322: Type 'readonly [Stage<"outer", "xdp", never, Plain, { blocked: LpmTrie<{ prefixLen: number; addr: number; }, bigint>; minTtl: number; }>, Stage<"inner", "xdp", never, Plain, { ...; }>, Stage<...>]' is not assignable to type 'readonly [Stage<"outer", "xdp", never, Plain, { blocked: LpmTrie<{ prefixLen: number; addr: number; }, bigint>; minTtl: number; }>, Stage<"inner", "xdp", never, Plain, { ...; }>, "'outer' is in this chain twice; name one with .as()"]'.
    not a literal
      TS2345: Argument of type 'string' is not assignable to parameter of type '"a label must be a literal"'.
    a reason that is none
      TS2345: Argument of type 'string' is not assignable to parameter of type '"a label must be a literal"'.
    unwired, out of a factory
      TS2322: Type 'Stage<"small", "xdp", "over", Plain, { limit: number; }>' is not assignable to type '"exit 'over' of 'small' leads nowhere; wire it with .on()"'.
    an unwired exit
      TS2322: Type 'Stage<"acl", "xdp", "expired", Plain, { blocked: LpmTrie<{ prefixLen: number; addr: number; }, bigint>; minTtl: number; }>' is not assignable to type '"exit 'expired' of 'acl' leads nowhere; wire it with .on()"'.
    a stage of another hook
      TS2322: Type 'Stage<"shaper", "tcEgress", never, Plain, Empty>' is not assignable to type '"stage 'shaper' has hook 'tcEgress'; 'xdp' is needed here"'.
    egress stage at ingress
      TS2322: Type 'Stage<"shaper", "tcEgress", never, Plain, Empty>' is not assignable to type '"stage 'shaper' has hook 'tcEgress'; 'tcIngress' is needed here"'.
    an unknown chain
      TS2353: Object literal may only specify known properties, and 'xpd' does not exist in type 'Chains'.
    twice under one name
      TS2322: Type 'Stage<"log", "xdp", never, Plain, { seen: ArrayMap<number>; }>' is not assignable to type '"'log' is in this chain twice; name one with .as()"'.
    ingress-only after wiring
      TS2322: Type 'Stage<"policy", "tcIngress", never, Traits<never, never, "peer">, Empty>' is not assignable to type '"stage 'policy' has hook 'tcIngress'; 'tcEgress' is needed here"'.
    an exit that the stage does not have
      TS2561: Object literal may only specify known properties, but 'expird' does not exist in type 'Wiring<"expired", "xdp">'. Did you mean to write 'expired'?
    the same, beside a right one
      TS2322: Type '"drop"' is not assignable to type '"'acl' has no exit 'late'"'.
    not a verdict
      TS2322: Type '"dorp"' is not assignable to type 'Target<"xdp">'.
    not a verdict of this hook
      TS2322: Type '"tx"' is not assignable to type 'Target<"tc">'.
    target of another hook
      TS2322: Type 'Stage<"shaper", "tcEgress", never, Plain, Empty>' is not assignable to type '"stage 'shaper' has hook 'tcEgress'; 'xdp' is needed here"'.
    target with an open exit
      TS2322: Type 'Stage<"second", "xdp", "expired", Plain, { blocked: LpmTrie<{ prefixLen: number; addr: number; }, bigint>; minTtl: number; }>' is not assignable to type '"exit 'expired' of 'second' leads nowhere; wire it with .on()"'.
    sub-chain with a stage of another hook
      TS2322: Type 'Stage<"shaper", "tcEgress", never, Plain, Empty>' is not assignable to type '"stage 'shaper' has hook 'tcEgress'; 'xdp' is needed here"'.
    no such name in uses
      TS2561: Object literal may only specify known properties, but 'minTtI' does not exist in type '{ readonly blocked?: LpmTrie<{ prefixLen: number; addr: number; }, bigint>; readonly minTtl?: number; }'. Did you mean to write 'minTtl'?
    another schema
      TS2375: Type 'LpmTrie<{ prefixLen: number; addr: number; }, number>' is not assignable to type 'LpmTrie<{ prefixLen: number; addr: number; }, bigint>' with 'exactOptionalPropertyTypes: true'. Consider adding 'undefined' to the types of the target's properties.
    a key without a field
      TS2741: Property 'protocol' is missing in type '{ saddr: number; daddr: number; sport: number; dport: number; }' but required in type '{ saddr: number; daddr: number; sport: number; dport: number; protocol: number; }'.
    a number where the value has a u64
      TS2322: Type 'number' is not assignable to type 'bigint'.
    the handle's methods are not there inside the program
      TS2339: Property 'clear' does not exist on type 'FlowCacheOps<{ saddr: number; daddr: number; sport: number; dport: number; protocol: number; }, { real: number; packets: bigint; }>'.
    a bigint into a u32 argument
      TS2345: Argument of type 'bigint' is not assignable to parameter of type 'number'.
    returns a string, not a u32
      TS2322: Type 'string' is not assignable to type 'number'.
    nobody writes flow
      TS2322: Type 'Stage<"meter", "xdp", never, Traits<Read<"flow", "meter">, never, never>, Empty>' is not assignable to type '"stage 'meter' reads 'flow', which no earlier stage writes"'.
    written, but later
      TS2322: Type 'Stage<"meter", "xdp", never, Traits<Read<"flow", "meter">, never, never>, Empty>' is not assignable to type '"stage 'meter' reads 'flow', which no earlier stage writes"'.
    not carried to egress
      TS2322: Type 'Stage<"account", "tc", never, Traits<Read<"tenant", "account">, never, never>, Empty>' is not assignable to type '"stage 'account' reads 'tenant', which no earlier stage writes"'.
    read behind an exit, written nowhere
      TS2322: Type 'Stage<"acl", "xdp", never, Traits<Read<"flow", "meter">, never, "log" | "meter">, { blocked: LpmTrie<{ prefixLen: number; addr: number; }, bigint>; minTtl: number; }>' is not assignable to type '"stage 'meter' reads 'flow', which no earlier stage writes"'.
    a field that is only read
      TS2540: Cannot assign to 'flow' because it is a read-only property.
    a field that was not declared
      TS2551: Property 'flw' does not exist on type '{ readonly flow: number; }'. Did you mean 'flow'?
    a function without stages for that hook
      TS2322: Type 'NetworkFunction<"synCookie", undefined, { readonly xdp: Part<"answer", never, Plain>; }>' is not assignable to type '"'synCookie' has no stages for tcEgress" | "'synCookie' has no stages for tcIngress"'.
    a function with an open exit
      TS2322: Type 'NetworkFunction<"l4lb", L4lbController, { readonly xdp: Part<"affinity" | "encap" | "pick", "notTcp", Traits<never, "real", never>>; readonly tcEgress: Part<"reply", never, Plain>; }>' is not assignable to type '"exit 'notTcp' of 'l4lb' leads nowhere; wire it with .on()"'.
    an exit of the function is open
      TS2322: Type 'NetworkFunction<"l4lb", L4lbController, { readonly xdp: Part<"affinity" | "encap" | "pick", "notTcp", Traits<never, "real", never>>; readonly tcEgress: Part<"reply", never, Plain>; }>' is not assignable to type '"exit 'notTcp' of 'l4lb' leads nowhere; wire it with .on()"'.
    placed in one of its two hooks only
      TS2322: Type 'NetworkFunction<"l4lb", L4lbController, { readonly xdp: Part<"affinity" | "encap" | "pick", never, Traits<never, "real", never>>; readonly tcEgress: Part<"reply", never, Plain>; }>' is not assignable to type '"'l4lb' must also be placed in tcEgress"'.
    no stages for that hook
      TS2322: Type 'NetworkFunction<"l4lb", L4lbController, { readonly xdp: Part<"affinity" | "encap" | "pick", never, Traits<never, "real", never>>; readonly tcEgress: Part<"reply", never, Plain>; }>' is not assignable to type '"'l4lb' has no stages for tcIngress"'.
    no such exit
      TS2353: Object literal may only specify known properties, and 'notUdp' does not exist in type '{ readonly notTcp?: Target<"xdp">; }'.
    a stage under the wrong hook
      TS2322: Type 'Stage<"log", "xdp", never, Plain, { seen: ArrayMap<number>; }>' is not assignable to type '"stage 'log' has hook 'xdp'; 'tcEgress' is needed here"'.
    the controller gets a HealthChecker, which has no ping()
      TS2339: Property 'ping' does not exist on type 'HealthChecker'.
    an unwired exit in a group
      TS2322: Type 'Fused<readonly [Stage<"log", "xdp", never, Plain, { seen: ArrayMap<number>; }>, Stage<"acl", "xdp", "expired", Plain, { blocked: LpmTrie<{ prefixLen: number; addr: number; }, bigint>; minTtl: number; }>]>' is not assignable to type '"exit 'expired' of 'acl' leads nowhere; wire it with .on()"'.
    a stage of another hook in a group
      TS2322: Type 'Fused<readonly [Stage<"log", "xdp", never, Plain, { seen: ArrayMap<number>; }>, Stage<"shaper", "tcEgress", never, Plain, Empty>]>' is not assignable to type '"stage 'shaper' has hook 'tcEgress'; 'xdp' is needed here"'.
    twice under one name, in a group and beside it
      TS2322: Type 'Fused<readonly [Stage<"classify", "xdp", never, Traits<never, "flow" | "tenant", never>, Empty>, Stage<"log", "xdp", never, Plain, { seen: ArrayMap<number>; }>]>' is not assignable to type '"'log' is in this chain twice; name one with .as()"'.
    read in a group, written behind it
      TS2322: Type 'Fused<readonly [Stage<"log", "xdp", never, Plain, { seen: ArrayMap<number>; }>, Stage<"meter", "xdp", never, Traits<Read<"flow", "meter">, never, never>, Empty>]>' is not assignable to type '"stage 'meter' reads 'flow', which no earlier stage writes"'.
    in a group of one of its two hooks only
      TS2322: Type 'Fused<readonly [NetworkFunction<"l4lb", L4lbController, { readonly xdp: Part<"affinity" | "encap" | "pick", never, Traits<never, "real", never>>; readonly tcEgress: Part<"reply", never, Plain>; }>]>' is not assignable to type '"'l4lb' must also be placed in tcEgress"'.
    a group behind an exit with an open exit
      TS2322: Type 'Fused<readonly [Stage<"log", "xdp", never, Plain, { seen: ArrayMap<number>; }>, Stage<"second", "xdp", "expired", Plain, { blocked: LpmTrie<{ prefixLen: number; addr: number; }, bigint>; minTtl: number; }>]>' is not assignable to type '"exit 'expired' of 'second' leads nowhere; wire it with .on()"'.
    no group without members
      TS2555: Expected at least 1 arguments, but got 0.
    here \`policy\` stands at egress too
      TS2345: Argument of type 'Stage<"peer", "tcIngress", never, Plain, Empty>' is not assignable to parameter of type '"stage 'peer' has hook 'tcIngress'; 'tcEgress' is needed here"'.
    no such stage in a pipeline of groups
      TS2339: Property 'log' does not exist on type '{ readonly acl: StageStats; readonly classify: StageStats; readonly icmpTimeExceeded: StageStats; readonly "l4lb.affinity": StageStats; readonly "l4lb.encap": StageStats; readonly "l4lb.pick": StageStats; readonly meter: StageStats; }'.
    the value is a u64
      TS2345: Argument of type 'number' is not assignable to parameter of type 'bigint'.
    a structure is no map
      TS2739: Type 'FlowCache<{ saddr: number; daddr: number; sport: number; dport: number; protocol: number; }, { real: number; packets: bigint; }>' is missing the following properties from type 'MapDecl<unknown, unknown>': type, key, value, maxEntries, flags
    not in this pipeline
      TS2345: Argument of type 'NetworkFunction<"nat", undefined, { readonly xdp: Part<"log", never, Plain>; }>' is not assignable to parameter of type '"'nat' is not in this pipeline"'.
    no such stage
      TS2551: Property 'acll' does not exist on type '{ readonly acl: StageStats; readonly classify: StageStats; readonly icmpTimeExceeded: StageStats; readonly "l4lb.affinity": StageStats; readonly "l4lb.encap": StageStats; readonly "l4lb.pick": StageStats; readonly meter: StageStats; }'. Did you mean 'acl'?
    no such stage in that chain
      TS2339: Property 'acl' does not exist on type '{ readonly account: StageStats; readonly policy: StageStats; }'.
    not in this pipeline
      TS2345: Argument of type 'Stage<"log", "xdp", never, Plain, { seen: ArrayMap<number>; }>' is not assignable to parameter of type '"'log' is not in this pipeline"'.
    another hook
      TS2345: Argument of type 'Stage<"shaper", "tcEgress", never, Plain, Empty>' is not assignable to parameter of type '"stage 'shaper' has hook 'tcEgress'; 'xdp' is needed here"'.
    an exit more
      TS2345: Argument of type 'Stage<"aclV3", "xdp", "fragment", Plain, Empty>' is not assignable to parameter of type '"'aclV3' adds exit 'fragment'; wire it with .on()"'.
    the new stage writes less
      TS2345: Argument of type 'Stage<"icmpTimeExceeded", "xdp", never, Plain, Empty>' is not assignable to parameter of type '"'icmpTimeExceeded' does not write 'flow', as 'classify' does" | "'icmpTimeExceeded' does not write 'tenant', as 'classify' does"'.
    the wrong value for a service
      TS2322: Type 'string' is not assignable to type 'number'.
    no such stage in the function
      TS2345: Argument of type 'Stage<"acl", "xdp", "expired", Plain, { blocked: LpmTrie<{ prefixLen: number; addr: number; }, bigint>; minTtl: number; }>' is not assignable to parameter of type '"'acl' is not a stage of 'l4lb'"'.
    a view is read-only
      TS2540: Cannot assign to 'headerLength' because it is a read-only property.
    there is no such header
      TS2339: Property 'sctp' does not exist on type 'XdpContext<{}>'.
    a devmap needs a key
      TS2345: Argument of type 'Devices' is not assignable to parameter of type 'number'.
    a field is missing
      TS2740: Type '{ ttl: number; }' is missing the following properties from type '{ versionIhl: number; tos: number; totalLength: number; id: number; flagsFragment: number; ttl: number; protocol: number; checksum: number; saddr: number; daddr: number; }': versionIhl, tos, totalLength, id, and 5 more.
    a view of no field
      TS2322: Type 'View<"b", number>' is not assignable to type '"there is no field 'b'"'.
    a prefix key without a length
      TS2322: Type 'Schema<{ addr: number; }>' is not assignable to type 'Schema<{ prefixLen: number; }>'.
    an array has no keys to delete
      TS2339: Property 'delete' does not exist on type 'ArrayProgram<number>'."
  `);
});

/** First lines of tsc's messages, by line. */
async function messagesOf(text: string): Promise<ReadonlyMap<number, readonly string[]>> {
  const folder = await mkdtemp(join(tmpdir(), 'tailrace-messages-'));
  try {
    await writeFile(join(folder, 'misuse.ts'), text);
    const options = {
      extends: join(root, 'tsconfig.json'),
      compilerOptions: { typeRoots: [join(root, 'node_modules/@types')] },
      files: ['misuse.ts'],
      include: [],
    };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(options));
    const output = await tsc(['--project', folder, '--noEmit', '--pretty', 'false']);
    const messages = new Map<number, string[]>();
    for (const [, line, message] of output.matchAll(/misuse\.ts\((\d+),\d+\): error (TS.*)/g))
      messages.set(Number(line), [...(messages.get(Number(line)) ?? []), String(message)]);
    return messages;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Output of the TypeScript compiler, which exits with 1 or 2 where it finds errors. */
async function tsc(args: readonly string[]): Promise<string> {
  const manifest = createRequire(join(root, 'package.json')).resolve('typescript/package.json');
  const { bin } = JSON.parse(await readFile(manifest, 'utf8')) as { bin: { tsc: string } };
  const run = promisify(execFile)(process.execPath, [join(dirname(manifest), bin.tsc), ...args]);
  return run.then(
    ({ stdout }) => stdout,
    (error: { stdout?: string }) => error.stdout ?? '',
  );
}

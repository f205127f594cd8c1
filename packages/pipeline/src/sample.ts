/** For this package's tests: stages that a packet's first byte steers, and pipelines of them on the fake engine. */
import { type AnyStage, type Override, override, stage } from '@tailrace/stage';
import { fakeCompiler } from './fake-engine.ts';
import { Compiler } from './service.ts';

/** Replaces the compiler by the fake one. */
export const withFakeCompiler: readonly Override[] = [override(Compiler, fakeCompiler)];

/** A stage that goes on. */
export const step = <const N extends string>(name: N) => stage({ name, hook: 'xdp', program: (ctx) => ctx.next() });

/** A stage that leaves through `odd` where the packet's length is odd, and goes on otherwise. */
export const fork = <const N extends string>(name: N) =>
  stage({ name, hook: 'xdp', program: (ctx) => (ctx.length % 2 === 1 ? ctx.exit('odd') : ctx.next()) });

/** A stage that sends the packet back. */
export const bounce = <const N extends string>(name: N) => stage({ name, hook: 'xdp', program: (ctx) => ctx.tx() });

/** A packet of so many bytes. */
export const packetOf = (length: number): Uint8Array => new Uint8Array(length);

/** A list that the types know nothing about, as one built at run time. */
export const dynamic = (...members: readonly AnyStage[]): AnyStage[] => [...members];

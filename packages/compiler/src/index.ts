export * from './compile.ts';
export * from './diagnostic.ts';
export type { Place } from './ir.ts';
export type { FusedPart } from './lower/fused.ts';
export * from './placement.ts';
export * from './record.ts';
export type { RootOptions, TcRootOptions, XdpRootOptions } from './root.ts';

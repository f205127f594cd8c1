/** Data structures over maps, faster than the kernel's own map kinds, for stages of any package. */
export * from './exact-table.ts';
export * from './flow-cache.ts';
export * from './maglev.ts';
export * from './maglev-ring.ts';
export * from './mix.ts';
export * from './wide-flow-cache.ts';
export * from './wide-table.ts';

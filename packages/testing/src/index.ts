export * from './address.ts';
export * from './checksum.ts';
export * from './description.ts';
export * from './difference.ts';
export * from './header-fields.ts';
export * from './mutation.ts';
export * from './outcome.ts';
export * from './packet.ts';

export * from './address.ts';
export * from './checksum.ts';
export * from './description.ts';
export * from './header-fields.ts';
export * from './mutation.ts';
export * from './packet.ts';

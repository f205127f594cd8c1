export * from './engine.ts';
export * from './errors.ts';
export * from './instruction.ts';
export * from './map.ts';
export * from './program.ts';

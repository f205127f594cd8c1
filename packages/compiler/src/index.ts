export * from './compile.ts';
export * from './placement.ts';

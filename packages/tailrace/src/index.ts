/** Tailrace in one import: stages, maps and functions to declare, pipelines to compose, the kernel or the userspace engine to run them in. */
export { ArgumentError, TailraceError, UnsupportedError } from '@tailrace/bpf';
export { CompileError, compileStage, type Diagnostic, formatDiagnostic } from '@tailrace/compiler';
export * from '@tailrace/kernel';
export * from '@tailrace/pipeline';
export * from '@tailrace/stage';
export * from '@tailrace/userspace';
export { connectFrom, kernelNextHops } from './kernel-services.ts';
export { kernelSockets } from './kernel-sockets.ts';
export { userspaceSockets } from './userspace-sockets.ts';

export { errnoName, SyscallError } from './errno.ts';
export { createMap, KernelMap, type MapContext } from './map.ts';
export { createNamespace, currentNamespace, inNamespace, NetworkNamespace, openNamespace } from './netns.ts';
export { KernelProgram, loadProgram, type ProgramInfo, type ReferencedMap } from './program.ts';
export { formatVerifierError, type RegisterState, type Rejection, type SourceLine, VerifierError } from './verifier.ts';

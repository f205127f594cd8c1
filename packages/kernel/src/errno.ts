/** What failed system calls are known by: both engines throw the same errors, so they are defined beside the interface. */
export { Errno, errnoName, errnoText, SyscallError } from '@tailrace/bpf';

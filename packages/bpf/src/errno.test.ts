import { constants } from 'node:os';
import { getSystemErrorMessage } from 'node:util';
import { describe, expect, test } from 'vitest';
import { Errno, errnoName, errnoText, SyscallError } from './errno.ts';

describe('errno', () => {
  test.each(Object.entries(Errno))('%s has its name', (name, number) => {
    expect(errnoName(number)).toBe(name);
  });

  test.runIf(process.platform === 'linux').each(Object.entries(Errno))('%s is what Linux says', (name, number) => {
    if (name === 'ENOTSUPP') return expect(errnoText(number)).toBe('operation is not supported');
    expect((constants.errno as Record<string, number>)[name]).toBe(number);
    expect(errnoText(number)).toBe(getSystemErrorMessage(-number));
  });

  test('a number without a name', () => {
    expect(errnoName(4000)).toBe('errno 4000');
  });

  test('the error names call, object, errno and what to do', () => {
    const error = new SyscallError('bpf(BPF_MAP_CREATE)', Errno.ENOMEM, 'map l4lb/conns');
    expect(error).toMatchObject({ code: 'syscall', name: 'SyscallError', syscall: 'bpf(BPF_MAP_CREATE)', errno: 12, errnoName: 'ENOMEM' });
    expect(error.message).toBe('bpf(BPF_MAP_CREATE) for map l4lb/conns failed: ENOMEM, not enough memory');
    expect(error.hint).toContain('lower maxEntries');
    expect(new SyscallError('bpf(BPF_MAP_UPDATE_ELEM)', Errno.E2BIG, undefined, { hint: 'raise maxEntries' })).toMatchObject({
      message: 'bpf(BPF_MAP_UPDATE_ELEM) failed: E2BIG, argument list too long',
      hint: 'raise maxEntries',
    });
  });
});

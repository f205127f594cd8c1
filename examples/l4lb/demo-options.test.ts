import { PrivilegeError, UnsupportedError } from 'tailrace';
import { describe, expect, test } from 'vitest';
import { chooseEngine, parseDemoOptions, UsageError } from './demo-options.ts';

const lacking = (): void => {
  throw new PrivilegeError(['CAP_BPF'], 'the kernel engine lacks CAP_BPF', 'run as root');
};

test.each([
  [[], {}],
  [['--engine', 'kernel'], { engine: 'kernel' }],
  [['--engine=userspace', '--out', 'x.pcap'], { engine: 'userspace', out: 'x.pcap' }],
  [['--out=x.pcap'], { out: 'x.pcap' }],
])('%j', (args, options) => {
  expect(parseDemoOptions(args)).toEqual(options);
});

test.each([
  [['--engine', 'wasm'], "--engine is 'wasm', expected kernel or userspace"],
  [['--engine'], "option '--engine <value>' argument missing"],
  [['--fast'], "unknown option '--fast'"],
  [['file'], "unexpected argument 'file'"],
  [['--out='], '--out is empty, expected a file'],
  [['--engine=kernel', '--out=x'], '--out is for the userspace engine, the kernel sends packets on'],
])('%j is wrong use', (args, message) => {
  expect(() => parseDemoOptions(args)).toThrow(UsageError);
  expect(() => parseDemoOptions(args)).toThrow(message);
});

describe('the engine', () => {
  test('is the kernel where it may be', () => {
    const { engine, why } = chooseEngine({}, () => undefined);
    expect(engine).toBe('kernel');
    expect(why).toMatch(/^since this process may load eBPF into Linux /);
    expect(chooseEngine({ engine: 'kernel' }, () => undefined)).toEqual({ engine: 'kernel', why: 'as --engine says' });
  });

  test('is userspace where it may not be, and says what is missing', () => {
    expect(chooseEngine({}, lacking)).toEqual({ engine: 'userspace', why: 'since the kernel engine lacks CAP_BPF' });
    const absent = (): void => {
      throw new UnsupportedError('this kernel has no bpf system call');
    };
    expect(chooseEngine({}, absent)).toEqual({ engine: 'userspace', why: 'since this kernel has no bpf system call' });
  });

  test('is the one that was asked for, and no other', () => {
    expect(() => chooseEngine({ engine: 'kernel' }, lacking)).toThrow(PrivilegeError);
    const never = (): void => expect.unreachable('the kernel is not asked');
    expect(chooseEngine({ engine: 'userspace' }, never)).toEqual({ engine: 'userspace', why: 'as --engine says' });
    expect(chooseEngine({ out: 'x' }, never)).toEqual({ engine: 'userspace', why: 'since --out wants a capture' });
  });

  test('a mistake in the check is none of its reasons', () => {
    const broken = (): void => {
      throw new RangeError('broken');
    };
    expect(() => chooseEngine({}, broken)).toThrow(RangeError);
  });
});

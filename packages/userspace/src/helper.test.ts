import { Helper, UnsupportedError } from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import { HELPERS, helperFor } from './helper.ts';
import { EngineMemory } from './memory.ts';

const runtime = new EngineMemory().runtime as unknown as Readonly<Record<string, ((...args: unknown[]) => unknown) | undefined>>;

describe.each([...HELPERS.values()].map((spec) => [spec.name, spec] as const))('%s', (_name, spec) => {
  test('is a function of the runtime that takes what the table says, unless it is special', () => {
    if (spec.special) return expect(spec.export).toBeUndefined();
    const passed = spec.args.filter((kind) => kind !== 'context').length + spec.trailing.length + (spec.takesWorker ? 1 : 0);
    expect(runtime[spec.export as string]?.length).toBe(passed);
  });

  test('has arguments that name each other rightly', () => {
    expect(spec.args.length).toBeLessThanOrEqual(5);
    for (const kind of spec.args)
      if (typeof kind === 'object' && typeof kind.size === 'object') expect(spec.args[kind.size.argument]).toBe('scalar');
    expect(spec.args.includes('map')).toBe(spec.maps.length > 0);
    if (spec.result === 'value') expect(spec.args[0]).toBe('map');
  });
});

describe('helperFor', () => {
  test('gives what a call needs', () => {
    expect(helperFor(Helper.skb_store_bytes, 'schedCls')).toEqual({
      name: 'skb_store_bytes',
      programs: ['schedCls', 'skSkb'],
      args: ['context', 'scalar', { memory: 'read', size: { argument: 3 } }, 'scalar', 'scalar'],
      result: 'scalar',
      movesPacket: true,
      export: 'skb_store_bytes',
      takesWorker: true,
      trailing: [],
      maps: [],
      special: false,
    });
    expect(helperFor(Helper.ringbuf_discard, 'xdp')).toMatchObject({
      export: 'ring_commit',
      trailing: [1],
      result: 'void',
      takesWorker: false,
    });
    expect(helperFor(Helper.map_lookup_elem, 'socketFilter')).toMatchObject({ export: 'map_lookup', trailing: ['cpu'], result: 'value' });
    expect(helperFor(Helper.tail_call, 'xdp')).toMatchObject({ special: true, export: undefined, maps: ['programArray'] });
  });

  test.each([
    [
      Helper.xdp_adjust_head,
      'schedCls',
      'the userspace engine has no bpf_xdp_adjust_head for programs of type schedCls',
      'programs of type xdp have it',
    ],
    [
      Helper.redirect,
      'socketFilter',
      'the userspace engine has no bpf_redirect for programs of type socketFilter',
      'programs of type xdp and schedCls have it',
    ],
    [
      Helper.perf_event_read,
      'xdp',
      'the userspace engine has no bpf_perf_event_read for programs of type xdp',
      'there are no counters of a processor here',
    ],
    [
      Helper.xdp_output,
      'xdp',
      'the userspace engine has no bpf_xdp_output for programs of type xdp',
      'perf_event_output writes bytes of the packet too',
    ],
    [
      Helper.sk_lookup_tcp,
      'xdp',
      'the userspace engine has no bpf_sk_lookup_tcp for programs of type xdp',
      'these are sockets of the kernel: run the pipeline there',
    ],
    [
      Helper.probe_read_kernel,
      'xdp',
      'the userspace engine has no bpf_probe_read_kernel for programs of type xdp',
      'there is no memory but packets, maps and the stack',
    ],
    [
      Helper.timer_init,
      'xdp',
      'the userspace engine has no bpf_timer_init for programs of type xdp',
      'there are no timers: compare ktime_get_ns with a time that was kept',
    ],
    [
      Helper.dynptr_read,
      'xdp',
      'the userspace engine has no bpf_dynptr_read for programs of type xdp',
      'read and write packets, values and records by pointers',
    ],
    [
      Helper.get_current_pid_tgid,
      'xdp',
      'the userspace engine has no bpf_get_current_pid_tgid for programs of type xdp',
      'programs run in no process here: run the pipeline in the kernel',
    ],
    [
      Helper.get_route_realm,
      'schedCls',
      'the userspace engine has no bpf_get_route_realm for programs of type schedCls',
      'run the pipeline in the kernel',
    ],
    [4711, 'xdp', 'there is no helper 4711, called by a program of type xdp', undefined],
  ] as const)('helper %i for %s', (id, type, message, hint) => {
    const call = (): unknown => helperFor(id, type);
    expect(call).toThrow(UnsupportedError);
    expect(call).toThrow(expect.objectContaining({ code: 'unsupported', message, hint }));
  });
});

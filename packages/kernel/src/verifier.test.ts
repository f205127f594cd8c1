import { inspect } from 'node:util';
import { insn } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { SyscallError } from './errno.ts';
import { programSpec } from './fixture.ts';
import { formatVerifierError, logIsWhole, verifierError } from './verifier.ts';

const spec = programSpec(
  'sample.read',
  Array.from({ length: 9 }, () => insn.exit()),
);
const refused = new SyscallError('bpf(BPF_PROG_LOAD)', 13, 'program sample.read');

const outside = `func#0 @0
Live regs before insn:
      0: .1........ (61) r2 = *(u32 *)(r1 +0)
      5: ..2....... (61) r0 = *(u32 *)(r2 +26)
0: R1=ctx() R10=fp0
; line1(); @ sample.ts:1
0: (61) r2 = *(u32 *)(r1 +0)          ; R1=ctx() R2=pkt(r=0)
1: (61) r3 = *(u32 *)(r1 +4)          ; R1=ctx() R3=pkt_end()
2: (bf) r4 = r2                       ; R2=pkt(r=0) R4_w=pkt(r=0)
3: (07) r4 += 14                      ; R4_w=pkt(off=14,r=0)
4: (2d) if r4 > r3 goto pc+2          ; R3=pkt_end() R4=pkt(off=14,r=14)
5: (61) r0 = *(u32 *)(r2 +26)
invalid access to packet, off=26 size=4, R2(id=0,off=26,r=14)
R2 offset is outside of the packet
processed 6 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`;

test('a read past the checked range: line, instruction, register', () => {
  const error = verifierError(spec, outside, refused);
  expect(error.message).toMatchInlineSnapshot(
    `"verifier rejected sample.read at /stages/sample.ts:6:3 (pc 5): invalid access to packet, off=26 size=4, R2(id=0,off=26,r=14); R2 offset is outside of the packet"`,
  );
  expect(error).toMatchObject({ code: 'verifier', program: 'sample.read', pc: 5, log: outside });
  expect(formatVerifierError(error)).toMatchInlineSnapshot(`
    "verifier rejected sample.read: invalid access to packet, off=26 size=4, R2(id=0,off=26,r=14); R2 offset is outside of the packet
      --> /stages/sample.ts:6:3
      |
    6 |   line6();
      |   ^
      instruction 5: r0 = *(u32 *)(r2 +26)
      R2 = pkt(id=0,off=26,r=14)
      caused by: bpf(BPF_PROG_LOAD) for program sample.read failed: EACCES, permission denied"
  `);
});

test('the log is printed on demand only', () => {
  const error = verifierError(spec, outside, refused);
  expect(inspect(error)).not.toContain('processed 6 insns');
  expect(formatVerifierError(error)).not.toContain('processed 6 insns');
  expect(formatVerifierError(error, { log: true })).toContain('\n    processed 6 insns');
});

test('a helper call shows its arguments, as the path that failed left them', () => {
  const log = `0: R1=ctx() R10=fp0
0: (b7) r1 = 2                        ; R1_w=2
1: (15) if r0 == 0x0 goto pc+3        ; R0=scalar(umin=1)
2: (b7) r2 = 3                        ; R2_w=3
from 1 to 5: R0=0 R1=map_value(map=m,ks=4,vs=16, off=4) R2=scalar(smin=0,smax=umax=255,var_off=(0x0; 0xff)) R10=fp0 fp-8=mmmm
5: R0=0 R1=map_value(map=m,ks=4,vs=16, off=4) R2=scalar(smin=0,smax=umax=255,var_off=(0x0; 0xff)) R10=fp0 fp-8=mmmm
; line6(); @ sample.ts:6
5: (85) call bpf_map_lookup_elem#1
R1 type=map_value expected=map_ptr
processed 4 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`;
  const error = verifierError(spec, log);
  expect(error.instruction).toBe('call bpf_map_lookup_elem#1');
  expect(error.registers).toEqual([
    { name: 'R1', state: 'map_value(map=m,ks=4,vs=16, off=4)' },
    { name: 'R2', state: 'scalar(smin=0,smax=umax=255,var_off=(0x0; 0xff))' },
  ]);
});

test('a register that was never written', () => {
  const log = '0: R1=ctx() R10=fp0\n0: (bf) r0 = r3\nR3 !read_ok\nprocessed 1 insns (limit 1000000)\n';
  expect(verifierError(spec, log).registers).toEqual([{ name: 'R3', state: 'not readable' }]);
});

test('a message about the whole program names its instruction, and so its line', () => {
  const error = verifierError(spec, 'func#0 @0\nunreachable insn 2\nprocessed 0 insns (limit 1000000)\n');
  expect(error).toMatchObject({ reason: 'unreachable insn 2', pc: 2, instruction: undefined, source: { line: 3 } });
});

test("without line info the log's own mark gives the line", () => {
  const bare = { ...spec, lines: [] };
  expect(verifierError(bare, outside).source).toEqual({ file: 'sample.ts', line: 1, column: 1, text: 'line1();' });
});

test('an empty log and one cut short say so', () => {
  expect(verifierError(spec, '').reason).toBe('the log gives no reason');
  expect(logIsWhole(outside)).toBe(true);
  expect(logIsWhole(outside.slice(0, 300))).toBe(false);
});

test('a path to a poisoned instruction: the reason is what the target lacks', () => {
  const log = `0: R1=ctx() R10=fp0
0: (b7) r1 = 2                        ; R1_w=2
1: (85) call unknown#195896080
invalid func unknown#195896080
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`;
  const poisons = [{ pc: 1, reason: 'the target has no field task_struct.gone' }];
  expect(verifierError({ ...spec, poisons }, log)).toMatchObject({ pc: 1, reason: 'the target has no field task_struct.gone' });
  expect(verifierError(spec, log).reason).toBe('invalid func unknown#195896080');
});

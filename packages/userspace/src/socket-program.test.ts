/** Programs on sockets as such: fields of their contexts, helpers that are theirs, what they may not do. */
import { assemble, Helper, type LoadedMap, type ProgramType, type SocketContext, type TestRunResult } from '@tailrace/bpf';
import { describe, expect, test } from 'vitest';
import { userspace } from './engine.ts';
import { mapSpec, u32 } from './fixture.ts';
import { socketNumber } from './socket-table.ts';
import { nowhere } from './socket-test-run.ts';

const ends: SocketContext = {
  localAddress: '2001:db8::1',
  localPort: 0x1234,
  remoteAddress: '10.0.0.9',
  remotePort: 0x5678,
  operation: 5,
};

describe.each(['wasm', 'interpreter'] as const)('%s', (mode) => {
  /** Runs a program on bytes; `look` sees its maps before they go. */
  async function ran(
    type: ProgramType,
    text: string,
    { bytes = '', maps = {}, look = () => undefined }: Options = {},
  ): Promise<TestRunResult> {
    await using instance = await userspace({ mode, compile: 'quickly' }).open();
    const { instructions, mapReferences } = assemble(text);
    const made = new Map<string, LoadedMap>(Object.entries(maps).map(([name, spec]) => [name, instance.createMap(spec)]));
    for (const [name, map] of made)
      if (name === 'filled') map.update(u32(1), Uint8Array.from([...u32(socketNumber(nowhere())), 0, 0, 0, 0]));
    const program = await instance.loadProgram(
      { name: 'sample', type, frags: false, license: 'GPL', instructions, mapReferences, functions: [], lines: [] },
      made,
    );
    const result = await program.testRun({ packet: Buffer.from(bytes), socket: ends });
    look(made);
    return result;
  }
  interface Options {
    readonly bytes?: string;
    readonly maps?: Readonly<Record<string, ReturnType<typeof mapSpec>>>;
    readonly look?: (maps: ReadonlyMap<string, LoadedMap>) => void;
  }

  test.each([
    ['skSkb', 88, 10],
    ['skSkb', 92, 0x0900_000a],
    ['skSkb', 96, 0],
    ['skSkb', 116, 0xb80d_0120],
    ['skSkb', 128, 0x0100_0000],
    ['skSkb', 132, 0x7856_0000],
    ['skSkb', 136, 0x1234],
    ['skSkb', 0, 5],
    ['skMsg', 16, 10],
    ['skMsg', 20, 0x0900_000a],
    ['skMsg', 44, 0xb80d_0120],
    ['skMsg', 60, 0x7856_0000],
    ['skMsg', 64, 0x1234],
    ['skMsg', 68, 5],
    ['sockOps', 0, 5],
    ['sockOps', 20, 10],
    ['sockOps', 24, 0x0900_000a],
    ['sockOps', 64, 0x7856_0000],
    ['sockOps', 68, 0x1234],
  ] as const)('%s: the field at %i is %i', async (type, offset, value) => {
    const { returnValue } = await ran(type, `r0 = *(u32 *)(r1 + ${offset})\nexit`, { bytes: type === 'sockOps' ? '' : 'hello' });
    expect(returnValue).toBe(value);
  });

  test.each([
    ['skSkb', 'r0 = *(u32 *)(r1 + 8)', 'byte 8 of the context'],
    ['skSkb', 'r0 = *(u32 *)(r1 + 140)', 'byte 140 of the context'],
    ['skSkb', '*(u32 *)(r1 + 48) = 1\nr0 = 1', 'byte 48 of the context (cb)'],
    ['skMsg', 'r0 = *(u32 *)(r1 + 0)', 'byte 0 of the context (data)'],
    ['skMsg', 'r0 = *(u16 *)(r1 + 60)', 'byte 60 of the context (remote_port)'],
    ['sockOps', 'r0 = *(u32 *)(r1 + 72)', 'byte 72 of the context'],
  ] as const)('%s: %s is refused', async (type, text, place) => {
    await expect(ran(type, `${text}\nexit`)).rejects.toThrow(place);
  });

  test('the bytes of a message: their ends through a pointer whose place is not known, and what a pull leaves', async () => {
    const ends = `call ${Helper.get_prandom_u32}
      r0 &= 8
      r2 = r6
      r2 += r0
      r2 = *(u64 *)(r2 + 0)
      r3 = *(u64 *)(r6 + 0)
      r2 -= r3
      r0 = r2
      exit`;
    const seen = new Set<number>();
    for (let turn = 0; turn < 40; turn++) seen.add((await ran('skMsg', `r6 = r1\n${ends}`, { bytes: 'hello' })).returnValue);
    expect([...seen].sort()).toEqual([0, 5]);
    const pulled = (start: number, end: number): string => `r6 = r1
      r2 = ${start}
      r3 = ${end}
      r4 = 0
      call ${Helper.msg_pull_data}
      if r0 != 0 goto out
      r2 = *(u64 *)(r6 + 0)
      r3 = *(u64 *)(r6 + 8)
      r4 = r2
      r4 += 1
      if r4 > r3 goto out
      r0 = *(u8 *)(r2 + 0)
      r3 -= r2
      r0 <<= 8
      r0 |= r3
      out: exit`;
    expect((await ran('skMsg', pulled(1, 4), { bytes: 'hello' })).returnValue).toBe(('e'.charCodeAt(0) << 8) | 3);
    for (const [start, end] of [
      [0, 6],
      [3, 3],
      [4, 1],
    ] as const)
      expect((await ran('skMsg', pulled(start, end), { bytes: 'hello' })).returnValue).toBe(0xffff_ffea);
    // what was pulled is all that a program sees, and not all that there is
    expect(String(Buffer.from((await ran('skMsg', pulled(1, 4), { bytes: 'hello' })).packet))).toBe('hello');
  });

  test('bytes to apply and to gather are told', async () => {
    const text = `r6 = r1\nr2 = 7\ncall ${Helper.msg_apply_bytes}\nr1 = r6\nr2 = 9\ncall ${Helper.msg_cork_bytes}\nr0 = 1\nexit`;
    expect((await ran('skMsg', text, { bytes: 'x' })).socket).toEqual({ applyBytes: 7, corkBytes: 9 });
  });

  const redirect = (index: number, flags: number): string =>
    `r6 = r1\nr2 = map[filled]\nr3 = ${index}\nr4 = ${flags}\ncall ${Helper.sk_redirect_map}\n`;
  const maps = { filled: mapSpec('sockmap', { name: 'filled', valueSize: 8, maxEntries: 4 }) };
  test.each([
    ['a target', `${redirect(1, 0)}exit`, 1, 1],
    ['a missing key', `${redirect(2, 0)}exit`, 0, undefined],
    ['a key beyond the end', `${redirect(9, 0)}exit`, 0, undefined],
    ['flags that are none', `${redirect(1, 2)}exit`, 0, undefined],
    ['a miss behind a choice, which holds', `${redirect(1, 1)}r1 = r6\n${redirect(3, 0)}r0 = 1\nexit`, 1, 1],
  ] as const)('redirects of data: %s', async (_, text, verdict, key) => {
    const { returnValue, socket } = await ran('skSkb', text, { bytes: 'x', maps });
    expect(returnValue).toBe(verdict);
    expect(socket?.target && new DataView(socket.target.key.buffer).getUint32(0, true)).toBe(key);
  });

  test('an event puts its socket into maps, as often as there is room', async () => {
    const add = (map: string, index: number): string =>
      `r1 = r6\nr2 = map[${map}]\n*(u32 *)(r10 - 4) = ${index}\nr3 = r10\nr3 += -4\nr4 = 0\ncall ${Helper.sock_map_update}\n`;
    const room = { all: mapSpec('sockmap', { name: 'all', valueSize: 8, maxEntries: 32 }) };
    const many = Array.from({ length: 14 }, (_, index) => add('all', index)).join('');
    const there = (maps: ReadonlyMap<string, LoadedMap>, index: number): boolean => maps.get('all')?.lookup(u32(index)) !== undefined;
    const look = (maps: ReadonlyMap<string, LoadedMap>): void => {
      expect([there(maps, 0), there(maps, 13), there(maps, 14)]).toEqual([true, true, false]);
    };
    const { returnValue } = await ran('sockOps', `r6 = r1\n${many}${add('all', 14)}exit`, { maps: room, look });
    expect(returnValue).toBe(0xffff_ffe4);
    const beyond = await ran('sockOps', `r6 = r1\n${add('all', 32)}exit`, { maps: room });
    expect(beyond.returnValue).toBe(0xffff_fff9);
  });

  test('helpers of other hooks are refused', async () => {
    await expect(ran('skMsg', `${redirect(1, 0)}exit`, { maps })).rejects.toThrow('no bpf_sk_redirect_map for programs of type skMsg');
    await expect(ran('sockOps', `call ${Helper.msg_apply_bytes}\nexit`)).rejects.toThrow(
      'no bpf_msg_apply_bytes for programs of type sockOps',
    );
    await expect(ran('skSkb', `call ${Helper.get_socket_cookie}\nexit`)).rejects.toThrow(
      expect.objectContaining({ hint: 'these are sockets of the kernel: run the pipeline there' }),
    );
  });
});

import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { insn, reg } from '@tailrace/bpf';
import { kernel } from './src/engine.ts';
import { mapSpec, programSpec, u32 } from './src/fixture.ts';
const instance = await kernel({ interfaces: [] }).open();
const sockets = instance.createMap(mapSpec('sockmap', { name: 'sockets', valueSize: 8 }));
const seen = instance.createMap(mapSpec('array', { name: 'seen', maxEntries: 64, valueSize: 8 }));
// parser: 4 bytes each
const parser = await instance.loadProgram(programSpec('parser', [insn.mov(0, 4), insn.exit()], { type: 'skSkb', frags: false, mapReferences: [] }), new Map());
// verdict: seen[0]++ ; seen[n] = first 4 bytes | len << 32
const code = [
  insn.mov(6, reg(1)),
  insn.mov(1, 0), insn.store(4, 10, -4, 1), insn.mov(2, reg(10)), insn.alu64('add', 2, -4), insn.wideMap(1), insn.call(1),
  insn.jump('eq', 0, 0, 24),
  insn.load(8, 7, 0, 0), insn.alu64('add', 7, 1), insn.store(8, 0, 0, 7),
  insn.store(4, 10, -4, 7),
  insn.mov(1, reg(6)), insn.mov(2, 0), insn.mov(3, reg(10)), insn.alu64('add', 3, -8), insn.mov(4, 4), insn.call(26),
  insn.mov(2, reg(10)), insn.alu64('add', 2, -4), insn.wideMap(1), insn.call(1),
  insn.jump('eq', 0, 0, 6),
  insn.load(4, 1, 10, -8), insn.load(4, 2, 6, 0), insn.store(4, 0, 0, 1), insn.store(4, 0, 4, 2),
  insn.mov(1, 0), insn.mov(1, 0),
  insn.mov(0, 1), insn.exit(),
];
const slot = (n: number) => code.slice(0, n).reduce((s, i) => s + (i.opcode === 0x18 ? 2 : 1), 0);
const refs = code.flatMap((i, at) => (i.opcode === 0x18 ? [{ pc: slot(at), map: 'seen' }] : []));
const verdict = await instance.loadProgram(programSpec('verdict', code, { type: 'skSkb', frags: false, mapReferences: refs }), new Map([['seen', seen]]));
await instance.attachToSockets(parser, { hook: 'skSkbParser', map: sockets });
await instance.attachToSockets(verdict, { hook: 'skSkb', map: sockets });
const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const accepted = once(server, 'connection');
const near = new Socket().connect((server.address() as any).port, '127.0.0.1');
const [far] = (await accepted) as [Socket];
far.on('data', (d) => console.log('read', String(d)));
sockets.update(u32(0), Uint8Array.from([...u32((far as any)._handle.fd), ...u32(0)]));
near.setNoDelay();
near.write('AAAABBBBCCCC');
await new Promise((d) => setTimeout(d, 200));
near.write('DD'); await new Promise((d) => setTimeout(d, 50)); near.write('DDEE'); await new Promise((d) => setTimeout(d, 50)); near.write('EEFFFFGG');
await new Promise((d) => setTimeout(d, 200));
for (let i = 1; i < 12; i++) { const v = seen.lookup(u32(i)) as Uint8Array; console.log(i, Buffer.from(v.subarray(0, 4)).toString(), new DataView(v.buffer, v.byteOffset).getUint32(4, true)); }
near.destroy(); far.destroy(); server.close();
await instance.close();

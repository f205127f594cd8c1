/** What the ways out of a foreign program tell of single packets, as lower/observe.ts makes it for stages in TypeScript. */
import { Helper, insn, reg } from '@tailrace/bpf';
import { type CodeWriter, label } from './code-writer.ts';
import { type HookModel, SK_BUFF } from './hook-model.ts';
import type { WayOut } from './lower/observe.ts';
import type { ObservePlacement, RecordRing, StatePlacement } from './placement.ts';
import { GOES_ON, headerRoom, recordField, recordSchema, type WayOutRecord } from './record.ts';

/** What the code works with. Registers are such as calls keep; `record` and `size` are free. */
export interface ObserveParts {
  readonly hook: HookModel;
  readonly state: StatePlacement | undefined;
  readonly registers: Readonly<Record<'context' | 'state' | 'record' | 'size', number>>;
}

/** Tells of a marked packet's way out. */
export function writeTrace(code: CodeWriter, parts: ObserveParts, { place, trace }: ObservePlacement, way: WayOut): void {
  if (!trace) return;
  const { context, state } = parts.registers;
  const [base, offset] = parts.hook.kind === 'tc' ? [context, SK_BUFF.cb + trace.mark] : [state, trace.mark];
  const done = label();
  const loadMark = insn.load(4, 1, base, offset);
  code.push(loadMark);
  code.jump('eq', 1, 0, done);
  writeRecord(code, parts, trace, { ...way, place }, () => code.push(loadMark));
  if (way.verdict === undefined) code.push(loadMark, insn.alu64('add', 1, 1), insn.store(4, base, offset, 1));
  code.place(done);
}

/** Tells of a packet that is dropped, or of one in `every`. */
export function writeDrop(code: CodeWriter, parts: ObserveParts, { place, drops }: ObservePlacement, way: WayOut): void {
  if (!drops) return;
  const { state } = parts.registers;
  const [taken, done] = [label(), label()];
  if (drops.every > 1) {
    code.push(insn.load(4, 1, state, drops.countdown));
    code.jump('eq', 1, 0, taken);
    code.push(insn.alu64('sub', 1, 1), insn.store(4, state, drops.countdown, 1));
    code.goto(done);
    code.place(taken);
    code.push(insn.storeImm(4, state, drops.countdown, drops.every - 1));
  }
  writeRecord(code, parts, drops, { ...way, place }, () => code.push(insn.mov(1, 0)));
  code.place(done);
}

/** `loadPacket` puts the record's `packet` into r1. */
function writeRecord(
  code: CodeWriter,
  { hook, state, registers }: ObserveParts,
  ring: RecordRing,
  { place, outcome, verdict = GOES_ON }: WayOut & { readonly place: number },
  loadPacket: () => void,
): void {
  const { context, record, size } = registers;
  const at = (name: keyof WayOutRecord): number => recordField(ring.headerBytes, name).offset;
  const [made, done] = [label(), label()];
  code.map(1, ring.map);
  code.push(insn.mov(2, recordSchema(ring.headerBytes).layout.size), insn.mov(3, 0), insn.call(Helper.ringbuf_reserve));
  code.jump('ne', 0, 0, made);
  code.push(insn.load(8, 1, registers.state, ring.lost), insn.alu64('add', 1, 1), insn.store(8, registers.state, ring.lost, 1));
  code.goto(done);
  code.place(made);
  code.push(insn.mov(record, reg(0)));
  loadPacket();
  code.push(insn.store(4, record, at('packet'), 1));
  if (hook.kind === 'tc') code.push(insn.load(4, size, context, SK_BUFF.len));
  else if (state?.length !== undefined) code.push(insn.load(8, size, registers.state, state.length));
  else code.push(insn.mov(1, reg(context)), insn.call(Helper.xdp_get_buff_len), insn.mov(size, reg(0)));
  code.push(
    insn.store(4, record, at('length'), size),
    insn.storeImm(4, record, at('verdict'), verdict | 0),
    insn.storeImm(4, record, at('place'), place),
    insn.storeImm(2, record, at('outcome'), outcome),
    insn.call(Helper.ktime_get_ns),
    insn.store(8, record, at('time'), 0),
    insn.call(Helper.get_smp_processor_id),
    insn.store(4, record, at('cpu'), 0),
  );
  if (ring.headerBytes === 0) code.push(insn.storeImm(2, record, at('captured'), 0));
  else {
    const [short, sized, copied] = [label(), label(), label()];
    code.jump('lt', size, ring.headerBytes, short);
    code.push(insn.mov(size, ring.headerBytes));
    code.goto(sized);
    code.place(short);
    code.push(insn.alu64('sub', size, 1), insn.alu64('and', size, headerRoom(ring.headerBytes) - 1), insn.alu64('add', size, 1));
    code.place(sized);
    code.push(insn.mov(1, reg(context)), insn.mov(2, 0), insn.mov(3, reg(record)), insn.alu64('add', 3, at('bytes')));
    code.push(insn.mov(4, reg(size)), insn.call(hook.kind === 'xdp' ? Helper.xdp_load_bytes : Helper.skb_load_bytes));
    code.jump('eq', 0, 0, copied);
    code.push(insn.mov(size, 0));
    code.place(copied);
    code.push(insn.store(2, record, at('captured'), size));
  }
  code.push(insn.mov(1, reg(record)), insn.mov(2, 0), insn.call(Helper.ringbuf_submit));
  code.place(done);
}

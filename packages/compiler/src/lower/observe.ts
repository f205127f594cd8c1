/**
 * What a stage tells of single packets, beside counting them: of those that the root marked, every way out; of dropped ones,
 * the last. A packet that is not marked pays one load and one branch that is never taken.
 */
import { Helper } from '@tailrace/bpf';
import { SK_BUFF } from '../hook-model.ts';
import type { MemorySize, Value } from '../ir.ts';
import type { ObservePlacement, RecordRing } from '../placement.ts';
import { range } from '../range.ts';
import { GOES_ON, headerRoom, recordField, recordSchema, type WayOutRecord } from '../record.ts';
import type { NumberOperand, Operand } from './operand.ts';
import type { Program } from './program.ts';
import { exact } from './scalar.ts';
import { packetLength, stateAddress } from './state.ts';

/** How a packet leaves a stage. */
export interface WayOut {
  /** The outcome's index in `counterNames`. */
  readonly outcome: number;
  /** What the program returns; `undefined` where the packet goes on to another stage. */
  readonly verdict: number | undefined;
}

/** Wakes the reader where it has read all there was, and only then. */
const ADAPTIVE = 0;

/** Tells of a marked packet's way out. */
export function tellTrace(program: Program, observe: ObservePlacement, way: WayOut): void {
  const { lowering } = program;
  const { trace } = observe;
  if (!trace) return;
  const mark = markPlace(program, trace.mark);
  const packet = lowering.load(4, mark.space, mark.base, mark.offset);
  const done = lowering.newJoin();
  lowering.branch(
    'ne',
    packet,
    lowering.constant(0),
    () => {
      record(program, observe.place, trace, way, packet);
      if (way.verdict === undefined) {
        const next = lowering.binary('add', lowering.load(4, mark.space, mark.base, mark.offset), lowering.constant(1));
        lowering.store(4, mark.space, mark.base, mark.offset, next);
      }
      lowering.jump(done);
    },
    () => lowering.jump(done),
    'else',
  );
  lowering.enter(done);
}

/** Tells of a packet that is dropped, or of one in `every`. */
export function tellDrop(program: Program, observe: ObservePlacement, way: WayOut): void {
  const { lowering, placement } = program;
  const { drops } = observe;
  if (!drops) return;
  const none = (): Value => lowering.constant(0);
  if (drops.every === 1) return record(program, observe.place, drops, way, none());
  const state = stateAddress(lowering, placement?.state?.map ?? '');
  const left = lowering.binary('sub', lowering.load(4, 'map', state, drops.countdown), lowering.constant(1));
  const done = lowering.newJoin();
  // whatever a program before has left there, it is not more than this one's
  lowering.branch(
    'lt',
    left,
    lowering.constant(drops.every - 1),
    () => {
      lowering.store(4, 'map', state, drops.countdown, left);
      lowering.jump(done);
    },
    () => {
      lowering.store(4, 'map', state, drops.countdown, lowering.constant(drops.every - 1));
      record(program, observe.place, drops, way, none());
      lowering.jump(done);
    },
    'then',
  );
  lowering.enter(done);
}

/** A packet's mark: in the chain's state at XDP, with the packet at TC, where a copy of it may enter the chain that it is in. */
function markPlace({ lowering, placement }: Program, at: number) {
  return lowering.hook.kind === 'tc'
    ? ({ space: 'skb', base: lowering.graph.context, offset: SK_BUFF.cb + at } as const)
    : ({ space: 'map', base: stateAddress(lowering, placement?.state?.map ?? ''), offset: at } as const);
}

/** Writes a record, or counts it as lost. Between taking its place and handing it over no path may leave. */
function record(program: Program, place: number, ring: RecordRing, { outcome, verdict = GOES_ON }: WayOut, packet: Value): void {
  const { lowering, placement } = program;
  const state = stateAddress(lowering, placement?.state?.map ?? '');
  const length = exact(lowering, packetLength(program));
  const size = recordSchema(ring.headerBytes).layout.size;
  const made = lowering.call(Helper.ringbuf_reserve, [lowering.mapHandle(ring.map), lowering.constant(size), lowering.constant(0)], {
    pointer: 'ring',
  });
  const done = lowering.newJoin();
  const put = (name: keyof WayOutRecord, value: Value): void => {
    const { layout, offset } = recordField(ring.headerBytes, name);
    lowering.store(layout.size as MemorySize, 'ring', made, offset, value);
  };
  lowering.branch(
    'eq',
    made,
    lowering.constant(0),
    () => {
      lowering.store(8, 'map', state, ring.lost, lowering.binary('add', lowering.load(8, 'map', state, ring.lost), lowering.constant(1)));
      lowering.jump(done);
    },
    () => {
      put('packet', packet);
      put('length', length);
      put('verdict', lowering.constant(verdict));
      put('place', lowering.constant(place));
      put('outcome', lowering.constant(outcome));
      put('time', lowering.call(Helper.ktime_get_ns, []));
      put('cpu', lowering.call(Helper.get_smp_processor_id, []));
      put('captured', captured(program, made, ring.headerBytes, length));
      lowering.call(Helper.ringbuf_submit, [made, lowering.constant(ADAPTIVE)]);
      lowering.jump(done);
    },
    'else',
  );
  lowering.enter(done);
}

/** Copies the packet's first bytes; gives how many. */
function captured({ lowering }: Program, made: Value, most: number, length: Value): Value {
  if (most === 0) return lowering.constant(0);
  const room = headerRoom(most);
  const number = (value: Value): NumberOperand => ({ kind: 'number', range: range(0n, BigInt(room)), exact: value });
  const sized = lowering.newJoin();
  lowering.branch(
    'lt',
    length,
    lowering.constant(most),
    () => {
      // what the verifier takes for a length that is not 0 and fits; one of 0 comes out as one that the packet does not have
      const fits = lowering.binary('and', lowering.binary('sub', length, lowering.constant(1)), lowering.constant(room - 1));
      lowering.jump(sized, number(lowering.binary('add', fits, lowering.constant(1))));
    },
    () => lowering.jump(sized, number(lowering.constant(most))),
    'else',
  );
  const wanted = exact(lowering, lowering.enter(sized) as NumberOperand);
  const helper = lowering.hook.kind === 'xdp' ? Helper.xdp_load_bytes : Helper.skb_load_bytes;
  const to = lowering.advance(made, lowering.constant(recordField(most, 'bytes').offset), 'ring');
  const failed = lowering.call(helper, [lowering.graph.context, lowering.constant(0), to, wanted]);
  const told = lowering.newJoin();
  const tell = (operand: Operand) => (): void => lowering.jump(told, operand);
  lowering.branch('eq', failed, lowering.constant(0), tell(number(wanted)), tell(number(lowering.constant(0))), 'then');
  return exact(lowering, lowering.enter(told) as NumberOperand);
}

/** Test runs: one packet through a chain, from bytes to bytes, as the kernel's BPF_PROG_TEST_RUN does it. */
import type { TestRunOptions, TestRunResult } from '@tailrace/bpf';
import type { Chain } from './chain.ts';
import { CLOCK_NOW, SHARED } from './layout.ts';
import { enter, leave, roomBytes } from './packet-state.ts';
import type { WorkerContext } from './worker-context.ts';

/** Runs at a time: records that a program never handed over are thrown away in between. */
const RUN_LIMIT = 1 << 16;

/** Runs a packet through a chain. Throws TrapError, and ArgumentError for options that the program's type does not take. */
export function testRun(chain: Chain, { memory, worker, now }: WorkerContext, options: TestRunOptions): TestRunResult {
  const bytes = roomBytes(chain.spec.type, options.packet.length);
  const floor = memory.allocate(bytes, 64, 'a packet');
  try {
    enter(memory, worker, { floor, ceiling: floor + bytes }, chain.spec, options);
    memory.view.setBigUint64(SHARED + CLOCK_NOW, now(), true);
    chain.prepare();
    const { repeat = 1 } = options;
    const start = process.hrtime.bigint();
    let result = 0n;
    for (let left = repeat; left > 0; left -= RUN_LIMIT) result = chain.run(Math.min(left, RUN_LIMIT));
    const durationNs = Math.round(Number(process.hrtime.bigint() - start) / repeat);
    return { returnValue: Number(BigInt.asUintN(32, result)), durationNs, ...leave(memory, worker, chain.spec, options) };
  } finally {
    memory.free(floor);
  }
}

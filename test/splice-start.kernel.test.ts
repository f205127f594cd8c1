/** A splicer that the kernel does not take: each call of its start refused once. */
import { TailraceError } from '@tailrace/bpf';
import { splicer, TcpSockets } from '@tailrace/functions/splice';
import { kernel, kernelSockets, override, pipeline } from 'tailrace';
import { afterEach, expect, test } from 'vitest';
import { failureTaken, injectFailure } from '../packages/kernel/src/syscall.ts';
import { openFds } from './kernel-objects.ts';

const EACCES = 13;

afterEach(() => injectFailure(0));

test('a start that is refused at any call is an error with its reason, and leaves nothing open', async () => {
  const start = () => pipeline('refused', { skSkb: [splicer()] }).run(kernel(), { services: [override(TcpSockets, kernelSockets())] });
  await (await start()).stop();
  const before = openFds();
  const refused = new Set<string>();
  for (let call = 1; ; call++) {
    injectFailure(call, EACCES);
    const outcome = await start().catch((error: unknown) => error);
    const wasRefused = failureTaken();
    injectFailure(0);
    if (outcome instanceof Error) {
      expect(outcome, `call ${call}`).toBeInstanceOf(TailraceError);
      refused.add(outcome.message.replace(/\d+/g, 'N'));
    } else await (outcome as Awaited<ReturnType<typeof start>>).stop();
    expect(openFds(), `call ${call}`).toBe(before);
    if (!wasRefused) break;
  }
  // maps, programs, the array's slot and the attachment are asked for by calls of their own; a program that is refused once is tried again with a log
  for (const part of ['BPF_MAP_CREATE', 'program splice.carry', 'BPF_MAP_UPDATE_ELEM', 'BPF_PROG_BIND_MAP', 'BPF_PROG_ATTACH'])
    expect(
      [...refused].some((message) => message.includes(part)),
      `${part} in ${[...refused].join('; ')}`,
    ).toBe(true);
});

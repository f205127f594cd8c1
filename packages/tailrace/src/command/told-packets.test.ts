import type { Drop, ObserveOptions, Running, TracedPath } from '@tailrace/pipeline';
import { of, Subject } from 'rxjs';
import { expect, test } from 'vitest';
import type { AnyLayout } from './pipeline-module.ts';
import { dropLine, observeOf, Telling, traceLine } from './told-packets.ts';

const seen = (timeNs: bigint) => ({ timeNs, length: 60 });
const path: TracedPath = {
  hook: 'xdp',
  cpu: 0,
  lost: 0n,
  verdict: 'drop',
  steps: [
    { stage: 'acl', verdict: 'next', ...seen(1000n) },
    { stage: 'steer', verdict: 'exit', exit: 'slow', ...seen(1500n) },
    { stage: 'queue', verdict: 'next', missed: true, ...seen(2250n) },
  ],
};
const drop: Drop = { hook: 'tcIngress', stage: 'acl', verdict: 'drop', by: 'drop', reason: 'blocked', cpu: 1, lost: 0n, ...seen(5n) };

test('a way is a line', () => {
  expect(traceLine(path)).toBe('trace  XDP  acl next, steer slow, queue next (missed) ─▶ drop  60 B  1.25 µs');
  const [first] = path.steps;
  expect(traceLine({ ...path, verdict: 'pass', steps: first ? [first] : [] })).toBe('trace  XDP  acl next ─▶ pass  60 B');
  expect(traceLine({ ...path, steps: [{ stage: 'acl', verdict: 'drop', reason: 'old', ...seen(1n) }] })).toBe(
    "trace  XDP  acl drop 'old' ─▶ drop  60 B",
  );
});

test('a drop is a line', () => {
  expect(dropLine(drop)).toBe("drop   TC ingress  acl drop 'blocked'  60 B");
  const { reason: _, ...plain } = drop;
  expect(dropLine({ ...plain, by: 'exit', exit: 'expired' })).toBe('drop   TC ingress  acl expired ─▶ drop  60 B');
  expect(dropLine({ ...plain, by: 'miss' })).toBe('drop   TC ingress  acl missed ─▶ drop  60 B');
  expect(dropLine(plain)).toBe('drop   TC ingress  acl drop  60 B');
});

test('what is lost is told once', () => {
  const lines: string[] = [];
  const drops = [drop, { ...drop, lost: 3n }, { ...drop, lost: 3n }, { ...drop, lost: 4n }];
  const running = { trace$: of(path), drops$: of(...drops) } as unknown as Running<AnyLayout>;
  using telling = new Telling(
    running,
    (line) => lines.push(line.slice(0, 10)),
    () => undefined,
  );
  telling.begin({ trace: 1, drops: true });
  expect(lines).toEqual(['trace  XDP', 'drop   TC ', 'lost   3 d', 'drop   TC ', 'drop   TC ', 'lost   1 d', 'drop   TC ']);
  expect(observeOf({ trace: 100, drops: true })).toEqual({ trace: { every: 100 }, drops: true });
  expect(observeOf({ drops: false })).toEqual({});
});

test('what is told is switched on and off with the pipeline, and what fails is handed over', async () => {
  const asked: ObserveOptions[] = [];
  const [lines, failures]: [string[], unknown[]] = [[], []];
  const [traces, drops] = [new Subject<TracedPath>(), new Subject<Drop>()];
  const observe = async (options: ObserveOptions): Promise<void> => void asked.push(options);
  const running = { trace$: traces, drops$: drops, observe } as unknown as Running<AnyLayout>;
  using telling = new Telling(
    running,
    (line) => lines.push(line.slice(0, 5)),
    (error) => failures.push(error),
  );
  telling.begin({ trace: 5, drops: false });
  traces.next(path);
  await telling.switchTraces(5);
  await telling.switchDrops();
  drops.next(drop);
  await telling.switchTraces(7);
  await telling.switchDrops();
  expect(asked).toEqual([{ trace: false }, { drops: true }, { trace: { every: 7 } }, { drops: false }]);
  expect(lines).toEqual(['trace', 'drop ']);
  traces.error(new RangeError('gone'));
  expect(failures).toEqual([new RangeError('gone')]);
});

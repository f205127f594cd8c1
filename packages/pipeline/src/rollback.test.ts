import { ClosingError, RollbackError, TailraceError } from '@tailrace/bpf';
import { expect, test } from 'vitest';
import { allDone, takenBack, tellingBoth } from './rollback.ts';
import { makeAll, type Step } from './transition.ts';

const fails = (message: string) => async (): Promise<never> => {
  throw new TailraceError('syscall', message);
};
const log: string[] = [];
const step = (name: string, own: Partial<Step> = {}): Step => ({
  make: async () => void log.push(`make ${name}`),
  undo: async () => void log.push(`undo ${name}`),
  left: name,
  ...own,
});
const caught = (made: Promise<unknown>): Promise<RollbackError> =>
  made.then(
    () => expect.unreachable(),
    (error: RollbackError) => error,
  );

test('steps behind one that cannot be taken back are taken back all the same, and the error tells both', async () => {
  log.length = 0;
  const steps = [
    step('a'),
    step('the next chain at TC ingress', { undo: fails('no memory') }),
    step('the next chain at TC egress', { undo: fails('no memory there') }),
    step('xdp', { make: fails('slot is taken') }),
  ];
  const error = await caught(makeAll(steps));
  expect(error).toBeInstanceOf(RollbackError);
  expect(error).toMatchObject({
    code: 'rollback',
    cause: { message: 'slot is taken' },
    failures: [{ code: 'rollback' }, { code: 'rollback' }],
  });
  expect(error.message).toMatchInlineSnapshot(
    `"slot is taken; and taking that back failed: the next chain at TC egress stays: no memory there; the next chain at TC ingress stays: no memory"`,
  );
  expect(error.hint).toMatchInlineSnapshot(`"stop it, or run it again where it is persistent: what is left goes with that"`);
  expect(log.at(-1)).toBe('undo a');
});

test('what is taken back whole is told as what failed', async () => {
  const first = new TailraceError('syscall', 'first');
  expect(await takenBack(first, () => undefined)).toBe(first);
  await expect(tellingBoth(fails('first'))).rejects.toMatchObject({ code: 'syscall', message: 'first' });
  expect(await tellingBoth(async () => 7)).toBe(7);
});

test('what disposing suppresses is told first, however often it is taken back', async () => {
  const error = await caught(
    tellingBoth(async () => {
      await using undo = new AsyncDisposableStack();
      undo.defer(fails('third'));
      undo.defer(fails('second'));
      throw await takenBack(new TailraceError('syscall', 'first'), fails('at once'));
    }),
  );
  expect(error.message).toBe('first; and taking that back failed: at once; second; third');
  expect(error.cause).toMatchObject({ message: 'first' });
  expect(error.failures).toHaveLength(3);
});

test('all steps of an end are made, and one error tells of those that failed', async () => {
  log.length = 0;
  const closing = async () => {
    await using stack = new AsyncDisposableStack();
    for (const message of ['third', 'second']) stack.defer(fails(message));
  };
  const error = await caught(allDone("pipeline 'edge'", fails('first'), closing, () => void log.push('closed')));
  expect(error).toBeInstanceOf(ClosingError);
  expect(error.message).toMatchInlineSnapshot(`"pipeline 'edge' was closed, but for 3 parts of it: first; second; third"`);
  expect(error).toMatchObject({ code: 'closing', failures: [{ message: 'first' }, { message: 'second' }, { message: 'third' }] });
  expect(log).toEqual(['closed']);
  await expect(allDone('it', fails('alone'))).rejects.toMatchObject({ code: 'syscall', message: 'alone' });
  await allDone('it', () => 7);
});

/**
 * What ends a run: a signal, its time, or nobody who reads any more. A terminal's Ctrl-C can come twice, once from the
 * terminal and once from whoever started this process, so a second signal does not cut the clean end short: it only gives
 * it a last term.
 */
import { constants } from 'node:os';
import { ExitCode } from './arguments.ts';
import type { Output } from './output.ts';

/** SIGHUP comes where the terminal is gone. */
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Time that a second signal leaves. */
const lastTermMs = 3_000;

/** Why a run ends. */
export type StopReason = { readonly signal: string; readonly exitCode: number } | 'time' | 'closed';

/** The exit code of a run that ended for a reason. */
export function exitCodeOf(reason: StopReason): number {
  return reason === 'time' || reason === 'closed' ? ExitCode.fine : reason.exitCode;
}

/** Waits for the end of a run. Signals have their usual effect again once it is disposed of. */
export class StopSignal implements Disposable {
  /** Resolves with the first reason; never rejects. */
  readonly reason: Promise<StopReason>;
  readonly #resolve: (reason: StopReason) => void;
  #stopped: StopReason | undefined;
  readonly #onLate: () => void;
  readonly #stack = new DisposableStack();
  #first: number | undefined;

  /** `onLate` is called where a second signal's term is over, right before the process ends. */
  constructor(output: Pick<Output, 'onClosed'>, onLate: () => void) {
    const { promise, resolve } = Promise.withResolvers<StopReason>();
    this.reason = promise;
    this.#resolve = (reason) => {
      this.#stopped ??= reason;
      resolve(reason);
    };
    this.#onLate = onLate;
    for (const signal of signals) {
      const listener = (): void => this.#take(signal);
      process.on(signal, listener);
      this.#stack.defer(() => process.off(signal, listener));
    }
    this.#stack.defer(output.onClosed(() => this.#resolve('closed')));
  }

  /** The first reason, where there is one already. */
  get stopped(): StopReason | undefined {
    return this.#stopped;
  }

  /** Ends the run by itself after a time. */
  after(ms: number): void {
    const timer = setTimeout(() => this.#resolve('time'), ms);
    this.#stack.defer(() => clearTimeout(timer));
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }

  #take(signal: (typeof signals)[number]): void {
    const exitCode = 128 + constants.signals[signal];
    if (this.#first === undefined) {
      this.#first = exitCode;
      this.#resolve({ signal, exitCode });
      return;
    }
    const code = this.#first;
    const timer = setTimeout(() => {
      this.#onLate();
      process.exit(code);
    }, lastTermMs);
    this.#stack.defer(() => clearTimeout(timer));
  }
}

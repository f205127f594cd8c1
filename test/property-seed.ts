/**
 * Properties take their cases from one seed, so that a run can be repeated and what guards main does not depend on luck.
 * `TAILRACE_SEED=N` takes others; `TAILRACE_SEED=random` new ones each time.
 */
import fc from 'fast-check';

const wanted = process.env.TAILRACE_SEED ?? '20261122';
if (wanted !== 'random') fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(wanted) });

/** Two projects: `unit` runs anywhere and in parallel; `kernel` needs root and eBPF and runs one file at a time. */
import { defineConfig } from 'vitest/config';

/** Where to write a JSON report beside the usual output; unset: nowhere. */
const report = process.env.TAILRACE_TEST_REPORT;

export default defineConfig({
  test: {
    reporters: report ? ['default', ['json', { outputFile: report }]] : ['default'],
    projects: [
      {
        test: {
          name: 'unit',
          setupFiles: ['test/property-seed.ts'],
          // not beside the kernel's tests: those watch real time and want the machine for themselves
          sequence: { groupOrder: 0 },
          include: ['{packages,examples,bench}/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: ['**/node_modules/**', '**/*.kernel.test.ts'],
          // as many at a time as there are cores, each of them for many files: to load the packages takes longer than most of the tests
          maxWorkers: '100%',
          isolate: false,
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'kernel',
          setupFiles: ['test/property-seed.ts'],
          sequence: { groupOrder: 1 },
          include: ['{packages,examples,bench}/**/*.kernel.test.ts', 'test/**/*.kernel.test.ts'],
          exclude: ['**/node_modules/**'],
          pool: 'forks',
          maxWorkers: 1,
          fileParallelism: false,
          testTimeout: 30_000,
          hookTimeout: 30_000,
        },
      },
    ],
  },
});

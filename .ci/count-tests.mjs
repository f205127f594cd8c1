// node .ci/count-tests.mjs REPORT: the last line of a CI run, from vitest's JSON report. Exits with 1 where a test
// failed, a kernel test was skipped (CI is root and has clang), a file could not be run, or there is no report.
import { existsSync, readFileSync } from 'node:fs';

const [path = ''] = process.argv.slice(2);
const files = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).testResults : [];
const tests = files.flatMap((file) => file.assertionResults.map((test) => ({ ...test, file: file.name })));
const passed = tests.filter((test) => test.status === 'passed');
const broken = tests.filter((test) => test.status === 'failed');
const skipped = tests.filter((test) => test.status !== 'passed' && test.status !== 'failed');
const unrun = files.filter((file) => file.status !== 'passed' && file.assertionResults.every((test) => test.status !== 'failed'));

for (const test of skipped) console.log(`skipped: ${test.file}: ${test.fullName}`);
for (const test of broken) console.log(`failed: ${test.file}: ${test.fullName}`);
for (const file of unrun) console.log(`failed: ${file.name}: ${file.message}`);
const failures = broken.length + unrun.length + (passed.length === 0 ? 1 : 0);
console.log(`${passed.length} passed, ${failures} failed`);
process.exitCode = failures > 0 || skipped.some((test) => test.file.endsWith('.kernel.test.ts')) ? 1 : 0;

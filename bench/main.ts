/** `npx pnpm@12 bench [--quick] [--json FILE] [--filter NAME]`: runs the suites and shows what they measured. */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { TailraceError } from '@tailrace/bpf';
import { judge } from './aims.ts';
import { FULL, type Outcome, QUICK, type Row, type Suite } from './row.ts';
import { suites } from './suites/index.ts';
import { coloured, plain, renderAims, renderSuite } from './table.ts';

const values = options();
const effort = values.quick ? QUICK : FULL;
const palette = process.stdout.isTTY && !process.env.NO_COLOR ? coloured : plain;

const rows: Row[] = [];
let failures = 0;
for (const suite of suites) {
  // where a word begins: `tc` is for what runs at TC, and not for a batch
  const wanted = (name: string) => ` ${suite.name} ${suite.hook ?? ''} ${name}`.includes(` ${values.filter}`);
  if (!suite.cases.some(wanted)) continue;
  const outcome = await attempt(suite, wanted);
  rows.push(...outcome.rows);
  process.stdout.write(renderSuite(suite, outcome, palette));
}
if (rows.length === 0 && failures === 0) {
  process.stderr.write(
    `no suite has a case with '${values.filter}' in its name; suites: ${[...new Set(suites.map(({ name }) => name))].join(', ')}\n`,
  );
  failures++;
}
if (values.quick) process.stdout.write('quick: shows that everything runs; these figures mean little, so no aims are judged\n');
else process.stdout.write(renderAims(judge(rows), palette));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
process.exitCode = failures === 0 ? 0 : 1;

/** Runs a suite; what it throws becomes its note, so that the other suites still run. */
async function attempt(suite: Suite, wanted: (name: string) => boolean): Promise<Outcome> {
  try {
    return await suite.run(effort, wanted);
  } catch (error) {
    if (!(error instanceof TailraceError)) throw error;
    failures++;
    return { rows: [], notes: [`failed: ${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}`] };
  }
}

/** The command line. Ends the process where it is wrong. */
function options() {
  try {
    return parseArgs({
      options: { quick: { type: 'boolean', default: false }, json: { type: 'string' }, filter: { type: 'string', default: '' } },
    }).values;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    process.stderr.write(
      `${error.message.charAt(0).toLowerCase()}${error.message.slice(1)}\nusage: bench [--quick] [--json FILE] [--filter NAME]\n`,
    );
    process.exit(1);
  }
}

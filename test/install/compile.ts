/** Needs no privileges: plans the pipeline, compiles its stages, and shows places of installed sources. */
import { aclMaps, aclStage } from '@tailrace/functions/acl';
import { CompileError, compileStage, type Diagnostic, stage } from 'tailrace';
import { edge, minTtl } from './edge.ts';

const { blocked4, blocked6 } = aclMaps(16);
/** A mistake in an installed stage's body: it counts with a function that it is not given. */
const countless = stage({ name: 'countless', hook: 'xdp', uses: { blocked4, blocked6 }, program: aclStage.program as never });

function mistakeIn(subject: Parameters<typeof compileStage>[0]): Diagnostic['place'] {
  try {
    compileStage(subject);
  } catch (error) {
    if (error instanceof CompileError) return error.diagnostic.place;
    throw error;
  }
  return undefined;
}

const filesOf = (subject: Parameters<typeof compileStage>[0]): string[] => [
  ...new Set(compileStage(subject).program.lines.map(({ file }) => file)),
];

console.log(
  JSON.stringify({
    chains: edge.describe(),
    own: filesOf(minTtl),
    installed: filesOf(aclStage),
    mistake: mistakeIn(countless),
  }),
);

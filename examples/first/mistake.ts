import { CompileError, compileStage, formatDiagnostic, stage } from 'tailrace';

const LIMIT = 2;
const short = stage({
  name: 'short',
  hook: 'xdp',
  program(ctx) {
    const ip = ctx.ipv4();
    if (!ip) return ctx.next();
    if (ip.ttl < LIMIT) return ctx.drop();
    return ctx.next();
  },
});

try {
  compileStage(short);
} catch (error) {
  if (!(error instanceof CompileError)) throw error;
  console.error(formatDiagnostic(error.diagnostic));
}

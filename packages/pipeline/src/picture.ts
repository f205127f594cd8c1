/** Chains as pictures for the terminal: a box for each stage, its edges with the packets that took them. */
import { type ChainHook, chainHooks, hookTitle } from './chain-hook.ts';
import type { ChainDescription, EdgeDescription, PipelineDescription, StageDescription } from './description.ts';
import { bytes, number } from './figure.ts';
import type { StageStats } from './stats.ts';

export interface PictureOptions {
  /** Counters by the stage's name; without them the picture shows the chain alone. */
  readonly stats?: Readonly<Record<string, StageStats>>;
  /** Where packets come from, shown above the first stage, e.g. `eth0`. */
  readonly from?: string;
  /** ANSI colours; leave it off where the output is no terminal. */
  readonly color?: boolean;
}

/** How to draw a pipeline. */
export interface PipelinePictureOptions extends Pick<PictureOptions, 'color'> {
  /** What `running.stats()` gives. */
  readonly stats?: { readonly [K in ChainHook]?: Readonly<Record<string, StageStats>> };
  /** What packets come from and go to, e.g. `eth0`. */
  readonly wire?: string;
}

type Paint = (text: string) => string;

/** Draws all chains of a pipeline as packets meet them, from the wire to the stack and back: lines without a trailing newline. */
export function drawPipeline<L>(pipeline: PipelineDescription<L>, options: PipelinePictureOptions = {}): string {
  const { stats, wire = 'the wire', color = false } = options;
  const dim: Paint = color ? (text) => `\u001b[2m${text}\u001b[0m` : (text) => text;
  const chains: { readonly [K in ChainHook]?: ChainDescription } = pipeline.chains as Readonly<Record<string, ChainDescription>>;
  const stop = (text: string): string => `   ${dim(text)}`;
  const lines = chains.xdp || chains.tcIngress ? [stop(wire)] : [stop('the network stack')];
  for (const hook of chainHooks) {
    const chain = chains[hook];
    if (chain === undefined) continue;
    if (hook === 'tcEgress' && (chains.xdp || chains.tcIngress)) lines.push('   │', stop('the network stack'));
    const carried = hook === 'tcIngress' && pipeline.crossing.length > 0 ? dim(`  with ${pipeline.crossing.join(', ')}`) : '';
    const counted = stats?.[hook];
    lines.push('   │', `   ▼ ${hookTitle[hook]}${carried}`, drawChain(chain, { color, ...(counted ? { stats: counted } : {}) }));
  }
  return [...lines, '   │', stop(chains.tcEgress ? wire : 'the network stack')].join('\n');
}

/** Draws a chain: lines without a trailing newline. */
export function drawChain(chain: ChainDescription, options: PictureOptions = {}): string {
  const { stats, from, color = false } = options;
  const paint = (code: number): Paint => (color ? (text) => `\u001b[${code}m${text}\u001b[0m` : (text) => text);
  const [bold, dim, red, green] = [paint(1), paint(2), paint(31), paint(32)];
  const width = Math.max(...chain.stages.map((s) => title(s).length), 8);
  const lines: string[] = from ? [`  ${dim(from)}`, '   │'] : [];
  chain.stages.forEach((stage, i) => {
    const following = chain.stages[i + 1];
    const counts = stats?.[stage.name];
    const next = stage.edges.find((e) => e.kind === 'next');
    const falls = following !== undefined && next?.to === following.name;
    const exits = stage.edges.filter((e) => e !== next || !falls).map((e) => edgeText(e, counts, dim));
    lines.push(
      `╭──${'─'.repeat(width)}╮`,
      `│ ${bold(title(stage).padEnd(width))} │  ${counts ? summary(counts, red, green) : ''}`.trimEnd(),
      `╰──${falls ? '┬' : '─'}${'─'.repeat(width - 1)}╯  ${exits.join(dim(' · '))}`.trimEnd(),
    );
    if (falls) lines.push(`   │ ${counts ? dim(number(counts.next)) : ''}`.trimEnd());
  });
  return lines.join('\n');
}

const title = (stage: StageDescription): string =>
  stage.stage === stage.name || stage.name.endsWith(`.${stage.stage}`) ? stage.name : `${stage.name} = ${stage.stage}`;

/** What the stage itself did: how many packets, which verdicts. */
function summary(counts: StageStats, red: Paint, green: Paint): string {
  const verdicts = Object.entries(counts.verdicts)
    .filter(([, packets]) => packets > 0n)
    .map(([name, packets]) => (name === 'drop' || name === 'abort' ? red : green)(`${name} ${number(packets)}`));
  const misses = counts.misses > 0n ? [red(`missed ${number(counts.misses)}`)] : [];
  return [`${number(counts.packets)} packets`, bytes(counts.bytes), ...verdicts, ...misses].join(' · ');
}

function edgeText(edge: EdgeDescription, counts: StageStats | undefined, dim: Paint): string {
  const taken = counts && (edge.kind === 'next' ? counts.next : (counts.exits[edge.label] ?? 0n));
  return `${edge.label}${taken === undefined ? '' : ` ${number(taken)}`} ${dim('─▶')} ${edge.to ?? edge.verdict ?? ''}`;
}

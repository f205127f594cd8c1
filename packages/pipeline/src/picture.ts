/** Chains as pictures for the terminal: a box for each stage, its edges with the packets that took them. */
import { type CanaryPicture, canaryChain, type StatsByHook, sideFigures, trafficText } from './canary-picture.ts';
import { type ChainHook, chainHooks, hookTitle, isPacketHook } from './chain-hook.ts';
import type { ChainDescription, EdgeDescription, PipelineDescription, StageDescription } from './description.ts';
import { bytes, number, reasonsMet } from './figure.ts';
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
  /** What `running.stats()` gives, or `present` of a canary's `stats()`. */
  readonly stats?: StatsByHook;
  /** A canary that runs: where packets are sorted, both chains are drawn, and how packets fare on each side. */
  readonly canary?: CanaryPicture;
  /** What packets come from and go to, e.g. `eth0`. */
  readonly wire?: string;
}

type Paint = (text: string) => string;

/** Draws all chains of a pipeline as packets meet them, from the wire to the stack and back: lines without a trailing newline. */
export function drawPipeline<L>(pipeline: PipelineDescription<L>, options: PipelinePictureOptions = {}): string {
  const { stats, canary, wire = 'the wire', color = false } = options;
  const dim: Paint = color ? (text) => `\u001b[2m${text}\u001b[0m` : (text) => text;
  const chains: { readonly [K in ChainHook]?: ChainDescription } = pipeline.chains as Readonly<Record<string, ChainDescription>>;
  const stop = (text: string): string => `   ${dim(text)}`;
  const draw = (hook: ChainHook, chain: ChainDescription, carried = ''): readonly string[] => {
    const head = `   ▼ ${hookTitle[hook]}${carried}`;
    const next = canary && canaryChain(canary, hook);
    if (canary === undefined || next === undefined) return [head, drawChain(chain, { color, ...counted(stats, hook) })];
    const who = dim(`, ${trafficText(canary)}`);
    return [
      head,
      ...drawSide('present', chain, { color, ...counted(stats, hook) }),
      '   │',
      ...drawSide(`canary${who}`, next, { color, ...counted(canary.stats, hook) }),
    ];
  };
  const packets: string[] = [];
  const sockets: string[] = [];
  for (const hook of chainHooks) {
    const chain = chains[hook];
    if (chain === undefined) continue;
    if (!isPacketHook(hook)) {
      sockets.push(...draw(hook, chain));
      continue;
    }
    if (hook === 'tcEgress' && (chains.xdp || chains.tcIngress)) packets.push('   │', stop('the network stack'));
    const carried = hook === 'tcIngress' && pipeline.crossing.length > 0 ? dim(`  with ${pipeline.crossing.join(', ')}`) : '';
    packets.push('   │', ...draw(hook, chain, carried));
  }
  if (packets.length === 0) return sockets.join('\n');
  const [from, to] = [chains.xdp || chains.tcIngress, chains.tcEgress].map((there) => stop(there ? wire : 'the network stack'));
  return [from, ...packets, '   │', to, ...sockets].join('\n');
}

/** A chain of one side, on a branch of the packets' way. */
function drawSide(name: string, chain: ChainDescription, options: Pick<PictureOptions, 'color' | 'stats'>): readonly string[] {
  const { stats } = options;
  const figures = stats ? `  ${sideFigures(chain, stats).join(' · ')}` : '';
  const lines = drawChain(chain, options).split('\n');
  return [`   ├──▶ ${name}${figures}`, ...lines.map((line) => `   │  ${line}`)];
}

function counted(stats: StatsByHook | undefined, hook: ChainHook): Pick<PictureOptions, 'stats'> {
  const chain = stats?.[hook];
  return chain ? { stats: chain } : {};
}

/**
 * Draws a chain: lines without a trailing newline. With counters it shows what packets did: exits that none took are left
 * out, and so are stages behind them, but for a line that tells how many. Stages with double lines are fused, those that a
 * double line joins in one program.
 */
export function drawChain(chain: ChainDescription, options: PictureOptions = {}): string {
  const { stats, from, color = false } = options;
  const paint = (code: number): Paint => (color ? (text) => `\u001b[${code}m${text}\u001b[0m` : (text) => text);
  const [bold, dim, red, green] = [paint(1), paint(2), paint(31), paint(32)];
  const stages = stats ? busyStages(chain, stats) : chain.stages;
  const width = Math.max(...stages.map((s) => title(s).length), 8);
  const lines: string[] = from ? [`  ${dim(from)}`, '   │'] : [];
  stages.forEach((stage, i) => {
    const following = stages[i + 1];
    const counts = stats?.[stage.name];
    const next = stage.edges.find((e) => e.kind === 'next');
    const falls = following !== undefined && next?.to === following.name;
    const shown = stage.edges.filter((e) => (e !== next || !falls) && (!counts || e === next || taken(e, counts) > 0n));
    const line = stage.program === undefined ? single : double;
    const jumps = stage.program !== undefined && stage.program === following?.program && next?.slot === undefined;
    const down = jumps ? '║' : '│';
    const [exits = '', ...more] = wrapped(shown.map((e) => edgeText(e, counts)));
    lines.push(
      `${line.top[0]}${line.flat.repeat(width + 2)}${line.top[1]}`,
      `${line.side} ${bold(title(stage).padEnd(width))} ${line.side}  ${counts ? summary(counts, red, green) : ''}`.trimEnd(),
      `${line.bottom[0]}${line.flat.repeat(2)}${falls ? (jumps ? '╦' : line.tail) : line.flat}${line.flat.repeat(width - 1)}${line.bottom[1]}  ${dim(exits)}`.trimEnd(),
      ...more.map((text) => `   ${falls ? down : ' '}${' '.repeat(width + 2)}${dim(text)}`),
    );
    if (falls) lines.push(`   ${down} ${counts ? dim(number(counts.next)) : ''}`.trimEnd());
  });
  const idle = chain.stages.length - stages.length;
  if (idle > 0) lines.push(`   ${dim(`and ${idle} ${idle === 1 ? 'stage' : 'stages'} behind exits that no packet took`)}`);
  return lines.join('\n');
}

const single = { top: '╭╮', side: '│', flat: '─', tail: '┬', bottom: '╰╯' } as const;
const double = { top: '╔╗', side: '║', flat: '═', tail: '╤', bottom: '╚╝' } as const;

/** The way of those that never leave through an exit, and every stage that packets came to. */
function busyStages({ stages, first }: ChainDescription, stats: NonNullable<PictureOptions['stats']>): readonly StageDescription[] {
  const trunk = new Set<string>();
  for (let name: string | undefined = first; name !== undefined && !trunk.has(name); ) {
    trunk.add(name);
    name = stages.find((stage) => stage.name === name)?.edges.find(({ kind }) => kind === 'next')?.to;
  }
  return stages.filter(({ name }) => trunk.has(name) || (stats[name]?.packets ?? 0n) > 0n);
}

/** Columns that a line of exits takes at most. */
const EXITS_WIDTH = 100;

/** As few lines as hold them. */
function wrapped(texts: readonly string[]): readonly string[] {
  const lines: string[] = [];
  for (const text of texts) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 3 + text.length <= EXITS_WIDTH) lines[lines.length - 1] = `${last} · ${text}`;
    else lines.push(text);
  }
  return lines;
}

const title = (stage: StageDescription): string =>
  stage.stage === stage.name || stage.name.endsWith(`.${stage.stage}`) ? stage.name : `${stage.name} = ${stage.stage}`;

/** What the stage itself did: how many packets, which verdicts. */
function summary(counts: StageStats, red: Paint, green: Paint): string {
  const verdicts = Object.entries(counts.verdicts)
    .filter(([, packets]) => packets > 0n)
    .map(([name, packets]) => (name === 'drop' || name === 'abort' ? red : green)(`${name} ${number(packets)}`));
  const met = reasonsMet(counts);
  const reasons = met.length > 0 ? [red(`for ${met.join(', ')}`)] : [];
  const misses = counts.misses > 0n ? [red(`missed ${number(counts.misses)}`)] : [];
  return [`${number(counts.packets)} packets`, bytes(counts.bytes), ...verdicts, ...reasons, ...misses].join(' · ');
}

const taken = (edge: EdgeDescription, counts: StageStats): bigint =>
  edge.kind === 'next' ? counts.next : (counts.exits[edge.label] ?? 0n);

function edgeText(edge: EdgeDescription, counts: StageStats | undefined): string {
  return `${edge.label}${counts ? ` ${number(taken(edge, counts))}` : ''} ${edge.back ? '↺' : '─▶'} ${edge.to ?? edge.verdict ?? ''}`;
}

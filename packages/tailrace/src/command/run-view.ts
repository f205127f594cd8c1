/** What `tailrace run` shows of a running pipeline: a picture on a terminal, tables elsewhere, or lines of JSON. */
import { type CanaryPicture, drawPipeline, type PipelineDescription, type Running, type Stats, trafficText } from '@tailrace/pipeline';
import type { RunCommandOptions } from './arguments.ts';
import { LiveBlock, type Output, palette } from './output.ts';
import type { AnyLayout } from './pipeline-module.ts';
import { drawTable } from './stats-table.ts';

/** A pipeline at a moment. */
export interface Moment {
  readonly stats: Stats<AnyLayout>;
  readonly description: PipelineDescription<AnyLayout>;
  /** One that runs. */
  readonly canary?: CanaryPicture | undefined;
  /** What keys do now. */
  readonly keys?: string | undefined;
}

/** What is shown while it runs, and at its end. */
export interface View {
  readonly update: (now: Moment) => void;
  /** A packet that is told of, or what became of a canary. */
  readonly tell: (line: string, data: object) => void;
  end(last: Moment): void;
}

/** The view that the options and the output ask for. */
export function viewOf({ json }: Pick<RunCommandOptions, 'json'>, running: Running<AnyLayout>, output: Output): View {
  if (json) return jsonLines(running, output);
  return output.live ? picture(running, output) : tables(running, output);
}

function picture({ interfaces }: Running<AnyLayout>, output: Output): View {
  const wire = interfaces.join(', ');
  const block = new LiveBlock(output);
  const { dim } = palette(output.color);
  const draw = ({ stats, description, canary, keys }: Moment): readonly string[] => [
    ...drawPipeline(description, { stats, wire, color: output.color, ...(canary ? { canary } : {}) }).split('\n'),
    ...(keys === undefined ? [] : ['', dim(keys)]),
  ];
  return {
    update: (now) => block.draw(draw(now)),
    tell: (line) => block.above(line),
    end: (last) => block.end(draw(last)),
  };
}

function tables({ name, interfaces }: Running<AnyLayout>, output: Output): View {
  const tell = (line: string): void => output.write(`${line}\n`);
  tell(`${name} runs on ${interfaces.join(', ')}`);
  return {
    update: () => undefined,
    tell,
    end({ stats, description, canary }) {
      tell(drawTable(stats, description));
      if (canary) tell(`\n${canaryTable(canary)}`);
    },
  };
}

/** The chains of a canary, where they are others than the pipeline's. */
function canaryTable(canary: CanaryPicture): string {
  const chains = Object.entries(canary.pipeline.chains).filter(([hook]) => canary.hooks.some((other) => other === hook));
  const table = drawTable(canary.stats ?? {}, { ...canary.pipeline, chains: Object.fromEntries(chains) });
  return `canary, ${trafficText(canary)}\n${table}`;
}

/** A line for each interval, and for each packet that is told of; numbers of 64 bits are strings, which keep all of their digits. */
function jsonLines({ name, interfaces }: Running<AnyLayout>, output: Output): View {
  const write = (data: object): void => {
    const line = { time: new Date().toISOString(), pipeline: name, interfaces, ...data };
    output.write(`${JSON.stringify(line, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))}\n`);
  };
  const update = ({ stats, canary }: Moment): void => {
    write({ stats, ...(canary ? { canary: { traffic: canary.traffic, hooks: canary.hooks, stats: canary.stats } } : {}) });
  };
  return { update, tell: (_, data) => write(data), end: update };
}

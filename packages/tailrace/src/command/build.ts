/** `tailrace build`: the compiled programs of a pipeline, disassembled below their source lines. Nothing is loaded. */
import { ArgumentError, disassemble, slotCount } from '@tailrace/bpf';
import { type ChainDescription, type CompiledProgram, type EdgeDescription, hookTitle, IMPORT_PLACE, ROOT_PLACE } from '@tailrace/pipeline';
import { type BuildOptions, ExitCode } from './arguments.ts';
import { type Output, type Palette, palette } from './output.ts';
import { type AnyPipeline, importPipeline } from './pipeline-module.ts';
import { tailCalls } from './tail-call.ts';

/** A program, ready to be shown. */
interface Listing {
  readonly compiled: CompiledProgram;
  /** What each tail call follows, by the slot of the call's instruction: `next ─▶ account`. */
  readonly edges: ReadonlyMap<number, string>;
}

/** Imports, compiles and shows. Returns the exit code. */
export async function build({ file, stage, json }: BuildOptions, output: Output): Promise<number> {
  const { pipeline } = await importPipeline(file);
  const listings = chosen(listingsOf(pipeline), pipeline.name, stage);
  if (json) output.write(`${JSON.stringify(listings.map(asData), undefined, 2)}\n`);
  else output.write(`${listings.map((listing) => drawListing(listing, palette(output.color))).join('\n\n')}\n`);
  return ExitCode.fine;
}

function listingsOf(pipeline: AnyPipeline): readonly Listing[] {
  const { chains } = pipeline.describe();
  return pipeline.compile().map((compiled) => ({ compiled, edges: edgesIn(compiled, chains[compiled.hook]) }));
}

function edgesIn({ place, places, program }: CompiledProgram, chain: ChainDescription): ReadonlyMap<number, string> {
  const first: EdgeDescription = { label: 'first', kind: 'next', to: chain.first };
  const edges = isOwn(place) ? [first] : chain.stages.filter(({ name }) => places.includes(name)).flatMap((stage) => stage.edges);
  return new Map(
    tailCalls(program.instructions).flatMap(({ pc, slot }) => {
      const edge = isOwn(place) ? edges[0] : edges.find((one) => one.slot === slot);
      return edge?.to === undefined ? [] : [[pc, `${edge.label} ─▶ ${edge.to}`] as const];
    }),
  );
}

/** Of the chain itself, and no stage. It has one edge. */
const isOwn = (place: string): boolean => place === ROOT_PLACE || place === IMPORT_PLACE;

function chosen(listings: readonly Listing[], pipeline: string, stage: string | undefined): readonly Listing[] {
  if (stage === undefined) return listings;
  const found = listings.filter(({ compiled: { place, places, program } }) => [place, program.name, ...places].includes(stage));
  if (found.length > 0) return found;
  const names = new Set(listings.map(({ compiled: { place, program } }) => (isOwn(place) ? program.name : place)));
  throw new ArgumentError(`pipeline '${pipeline}' has no stage '${stage}'`, { hint: `it has ${[...names].join(', ')}` });
}

/** Heading, then source lines with their instructions. */
function drawListing({ compiled, edges }: Listing, { bold, dim, green }: Palette): string {
  const { hook, place, places, program, stackSize, maps } = compiled;
  const used = [...maps].map(([reference, map]) => (reference === map.name ? reference : `${reference} (${map.name})`));
  const sizes = [
    ...(places.length > 1 ? [`one program of ${places.join(', ')}`] : []),
    `${slotCount(program.instructions)} instructions`,
    `${stackSize} bytes of stack`,
    ...(used.length > 0 ? [`maps ${used.join(', ')}`] : []),
  ];
  const heading = `${bold(`${hookTitle[hook]}: ${isOwn(place) ? program.name : place}`)}  ${dim(sizes.join(' · '))}`;
  const text = disassemble(program.instructions, {
    mapReferences: program.mapReferences,
    lines: program.lines,
  });
  let above = '';
  const lines = text.split('\n').flatMap((line) => {
    if (line.startsWith('; ')) {
      // two places of one line
      const again = line === above;
      above = line;
      return again ? [] : [`  ${dim(line.slice(2))}`];
    }
    const edge = edges.get(Number.parseInt(line, 10));
    return [`    ${line}${edge === undefined ? '' : `  ${green(edge)}`}`];
  });
  return [heading, ...lines].join('\n');
}

/** The same as data: every instruction with the place that it comes from. */
function asData({ compiled, edges }: Listing): object {
  const { hook, place, places, program, stackSize, maps } = compiled;
  const { name, type, frags, license } = program;
  const lines = new Map(program.lines.map(({ pc, ...line }) => [pc, line]));
  let from: Omit<(typeof program.lines)[number], 'pc'> | undefined;
  const instructions = disassemble(program.instructions, { mapReferences: program.mapReferences })
    .split('\n')
    .map((line) => {
      const pc = Number.parseInt(line, 10);
      from = lines.get(pc) ?? from;
      const edge = edges.get(pc);
      const source = from && { file: from.file, line: from.line, column: from.column };
      return { pc, text: line.slice(line.indexOf(':') + 2), ...(edge === undefined ? {} : { edge }), ...(source ? { source } : {}) };
    });
  return {
    hook,
    place,
    ...(places.length > 1 ? { places } : {}),
    program: { name, type, frags, license },
    slots: slotCount(program.instructions),
    stackBytes: stackSize,
    maps: [...maps].map(([reference, { name, type, maxEntries }]) => ({ reference, name, type, maxEntries })),
    instructions,
  };
}

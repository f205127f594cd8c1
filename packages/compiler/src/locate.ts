/**
 * Where a function value was written: file, line and column, through the inspector's [[FunctionLocation]] and the
 * script's source map. Node's type stripping keeps positions; bundlers and vitest bring a map.
 */
import { readFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { SourceMap } from 'node:module';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { originalPlace } from './call-site.ts';
import type { Place } from './ir.ts';

export interface Located {
  /** The place of a character of the function's text. */
  place(offset: number): Place;
}

interface Script {
  readonly scriptId: string;
  readonly url: string;
  readonly sourceMapURL?: string;
}

/** Finds where `text`, the source of `fn`, stands. Falls back to positions within the text itself where it cannot be found. */
export function locate(fn: (...args: never[]) => unknown, text: string): Located {
  const found = inspect(fn);
  const own = (offset: number): Place => placeIn(text, offset, `<${fn.name || 'program'}>`);
  // functions made of strings have no file
  if (!found?.script.url) return { place: own };
  const { source, script, line, column } = found;
  const starts = lineStarts(source);
  const near = (starts[line] ?? 0) + column;
  // the inspector points at the parameter list of a method: walk back to where the text begins
  let base = source.lastIndexOf(text, near);
  if (base < 0 || base + text.length < near) base = source.indexOf(text);
  if (base < 0) return { place: own };
  const file = script.url.startsWith('file:') ? fileURLToPath(script.url) : script.url;
  const map = sourceMapOf(script, source, file);
  // type stripping leaves blanks in place of types: what runs is as long as what was written, and every place is its own
  const isAsWritten = !map && isStripped(source, read(file));
  const shown = display(file);
  return {
    place(offset) {
      const at = base + offset;
      const row = rowOf(starts, at);
      if (!map) {
        const mapped = isAsWritten ? undefined : originalPlace(file, row + 1, at - (starts[row] ?? 0) + 1);
        const original = mapped?.file.startsWith('file:') ? fileURLToPath(mapped.file) : mapped?.file;
        const as = original === undefined || mapped === undefined ? undefined : written(original, mapped.line - 1);
        if (mapped && original !== undefined && as) return { file: display(original), line: mapped.line, column: mapped.column, ...as };
        // type stripping leaves blanks: show the line as it was written
        return { ...placeIn(source, at, shown), ...written(file, row) };
      }
      const entry = map.findEntry(row, at - (starts[row] ?? 0)) as {
        originalSource?: string;
        originalLine?: number;
        originalColumn?: number;
      };
      if (entry.originalLine === undefined || entry.originalColumn === undefined) return placeIn(source, at, shown);
      const original = entry.originalSource ? resolve(dirname(file), entry.originalSource.replace(/^file:\/\//, '')) : file;
      return {
        file: display(original),
        line: entry.originalLine + 1,
        column: entry.originalColumn + 1,
        text: '',
        ...written(original, entry.originalLine),
      };
    },
  };
}

/** Whether what runs is what was written but for blanks, and a name for it behind its end. */
function isStripped(source: string, file: string | undefined): boolean {
  if (file === undefined || source.length < file.length) return false;
  const rest = source.slice(file.length).trim();
  return rest === '' || rest.startsWith('//# sourceURL=');
}

/** What is known of a script: its ids never come again. */
interface KnownScript {
  readonly script: Script;
  readonly source: string;
}
const knownScripts = new Map<string, KnownScript>();

type Call = (method: string, params?: object) => unknown;

/** Asks V8 for the place of a function. The inspector answers within the call. */
function inspect(fn: unknown): { source: string; script: Script; line: number; column: number } | undefined {
  inspector ??= new Inspector();
  const handover = globalThis as { __tailraceLocate?: unknown };
  try {
    handover.__tailraceLocate = fn;
    const object = inspector.call('Runtime.evaluate', { expression: 'globalThis.__tailraceLocate' }) as { result: { objectId: string } };
    const properties = inspector.call('Runtime.getProperties', { objectId: object.result.objectId, ownProperties: true }) as {
      internalProperties?: { name: string; value?: { value?: { scriptId: string; lineNumber: number; columnNumber: number } } }[];
    };
    const location = properties.internalProperties?.find((p) => p.name === '[[FunctionLocation]]')?.value?.value;
    const known = location && (knownScripts.get(location.scriptId) ?? inspector.learn(location.scriptId));
    return location && known && { ...known, line: location.lineNumber, column: location.columnNumber };
  } finally {
    delete handover.__tailraceLocate;
    forgetLater();
  }
}

let inspector: Inspector | undefined;

/** A session for as long as functions are compiled without a pause. */
class Inspector {
  readonly #session = new Session();
  /** Every script that there is, once the debugger told of them. */
  #scripts: Map<string, Script> | undefined;

  constructor() {
    this.#session.connect();
  }

  readonly call: Call = (method, params) => {
    let answer: unknown;
    this.#session.post(method as 'Debugger.enable', params as never, (_error: unknown, result: unknown) => {
      answer = result;
    });
    return answer;
  };

  learn(scriptId: string): KnownScript | undefined {
    const script = this.#enabled().get(scriptId);
    if (script === undefined) return undefined;
    const { scriptSource: source } = this.call('Debugger.getScriptSource', { scriptId }) as { scriptSource: string };
    const known = { script, source };
    knownScripts.set(scriptId, known);
    return known;
  }

  close(): void {
    this.#session.disconnect();
  }

  /** Enabling the debugger tells of every script there is, which takes milliseconds: once, and only for scripts that are not known yet. */
  #enabled(): ReadonlyMap<string, Script> {
    if (this.#scripts) return this.#scripts;
    const scripts = new Map<string, Script>();
    this.#session.on('Debugger.scriptParsed', ({ params }) => {
      scripts.set(params.scriptId, params as Script);
    });
    this.call('Debugger.enable');
    this.#scripts = scripts;
    return scripts;
  }
}

let forgets = false;
/** Files may change until the next function is compiled, and WebAssembly is slow while a debugger is there. */
function forgetLater(): void {
  if (forgets) return;
  forgets = true;
  queueMicrotask(() => {
    forgets = false;
    inspector?.close();
    inspector = undefined;
    files.clear();
    lines.clear();
  });
}

function written(file: string, row: number): { text: string } | undefined {
  const text = linesOf(file)?.[row];
  return text === undefined ? undefined : { text };
}

function sourceMapOf(script: Script, source: string, file: string): SourceMap | undefined {
  const url = script.sourceMapURL || [...source.matchAll(/^\/\/[#@] sourceMappingURL=(\S+)\s*$/gm)].at(-1)?.[1];
  if (!url) return undefined;
  const data = /^data:[^,]*?(;base64)?,(.*)$/s.exec(url);
  const json = data
    ? data[1]
      ? Buffer.from(data[2] ?? '', 'base64').toString()
      : decodeURIComponent(data[2] ?? '')
    : read(url.startsWith('file:') ? fileURLToPath(url) : resolve(dirname(file), url));
  return json === undefined ? undefined : new SourceMap(JSON.parse(json));
}

const lines = new Map<string, readonly string[] | undefined>();
function linesOf(file: string): readonly string[] | undefined {
  if (!lines.has(file)) lines.set(file, read(file)?.split('\n'));
  return lines.get(file);
}

const files = new Map<string, string | undefined>();
function read(file: string): string | undefined {
  if (!files.has(file)) {
    try {
      files.set(file, readFileSync(file, 'utf8'));
    } catch {
      files.set(file, undefined);
    }
  }
  return files.get(file);
}

/** Files below the working directory are shown relative to it. */
function display(file: string): string {
  const short = relative(process.cwd(), file);
  return short.startsWith('..') || !file.startsWith('/') ? file : short;
}

function placeIn(text: string, offset: number, file: string): Place {
  const starts = lineStarts(text);
  const row = rowOf(starts, offset);
  const start = starts[row] ?? 0;
  const end = text.indexOf('\n', start);
  return { file, line: row + 1, column: offset - start + 1, text: text.slice(start, end < 0 ? undefined : end) };
}

const startsCache = new Map<string, number[]>();
function lineStarts(text: string): number[] {
  let starts = startsCache.get(text);
  if (!starts) {
    starts = [0];
    for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) starts.push(i + 1);
    startsCache.clear();
    startsCache.set(text, starts);
  }
  return starts;
}

function rowOf(starts: readonly number[], offset: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}

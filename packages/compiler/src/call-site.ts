/**
 * Places as the runtime itself maps them: tools that transform modules without leaving a source map in them (vitest)
 * install `Error.prepareStackTrace`. A made-up call site at a place of the transformed code, handed to that function,
 * comes back as a line of a stack trace with the original place.
 */

/** A call site that stands at one place; its methods are on the prototype, where such functions copy them from. */
class CallSite {
  readonly #url: string;
  readonly #line: number;
  readonly #column: number;

  constructor(url: string, line: number, column: number) {
    this.#url = url;
    this.#line = line;
    this.#column = column;
  }

  getFileName(): string {
    return this.#url;
  }
  getScriptNameOrSourceURL(): string {
    return this.#url;
  }
  getLineNumber(): number {
    return this.#line;
  }
  getColumnNumber(): number {
    return this.#column;
  }
  getFunctionName(): string {
    return 'program';
  }
  getTypeName(): null {
    return null;
  }
  getMethodName(): null {
    return null;
  }
  getThis(): undefined {
    return undefined;
  }
  getFunction(): undefined {
    return undefined;
  }
  getEvalOrigin(): undefined {
    return undefined;
  }
  isNative(): boolean {
    return false;
  }
  isToplevel(): boolean {
    return true;
  }
  isEval(): boolean {
    return false;
  }
  isConstructor(): boolean {
    return false;
  }
  isAsync(): boolean {
    return false;
  }
  isPromiseAll(): boolean {
    return false;
  }
  getPromiseIndex(): null {
    return null;
  }
  toString(): string {
    return `program (${this.#url}:${this.#line}:${this.#column})`;
  }
}

/** The original place of one in transformed code, lines and columns from 1; undefined where nobody maps it. */
export function originalPlace(
  url: string,
  line: number,
  column: number,
): { readonly file: string; readonly line: number; readonly column: number } | undefined {
  const prepare: unknown = Error.prepareStackTrace;
  if (typeof prepare !== 'function') return undefined;
  const trace: unknown = prepare(new SyntaxError('where'), [new CallSite(url, line, column)]);
  const match = typeof trace === 'string' ? /\((.+):(\d+):(\d+)\)\s*$/.exec(trace) : null;
  const [, file, atLine, atColumn] = match ?? [];
  if (file === undefined || atLine === undefined || atColumn === undefined) return undefined;
  return { file, line: Number(atLine), column: Number(atColumn) };
}

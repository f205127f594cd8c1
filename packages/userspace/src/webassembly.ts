/** The part of WebAssembly's JavaScript interface that the engine uses: neither the language's library nor Node's types have it. */

/** Shared memory: its buffer is another one after it grew, and the old one goes on showing the part that it had. */
export interface WebAssemblyMemory {
  readonly buffer: SharedArrayBuffer;
  /** Grows by so many pages of 65,536 bytes. Throws RangeError where there are no more. */
  grow(pages: number): number;
}

/** A module, compiled. */
export interface WebAssemblyModule {
  readonly [Symbol.toStringTag]: string;
}

/** A module over a memory. */
export interface WebAssemblyInstance {
  readonly exports: Readonly<Record<string, unknown>>;
}

/** What `globalThis.WebAssembly` has. */
export interface WebAssemblyApi {
  readonly Memory: new (descriptor: { readonly initial: number; readonly maximum: number; readonly shared: true }) => WebAssemblyMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => WebAssemblyModule;
  compile(bytes: Uint8Array<ArrayBuffer>): Promise<WebAssemblyModule>;
  readonly Instance: new (
    module: WebAssemblyModule,
    imports: { readonly env: { readonly memory: WebAssemblyMemory } },
  ) => WebAssemblyInstance;
  readonly RuntimeError: new (message?: string) => Error;
}

export const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyApi };

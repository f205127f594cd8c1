/**
 * For tests of places: stages with mistakes behind types, generics and lines that only TypeScript has. Each mistake is a
 * member of ctx that there is not, by the name of its stage.
 */
import { type AnyStage, fn, stage, u32 } from '@tailrace/stage';

interface Wrapped<T extends { readonly a: number }> {
  readonly value: T;
}
type Mapped<T> = { readonly [K in keyof T]: Wrapped<{ a: number }> | undefined };

/** Any member of a value. */
type Anything = Readonly<Record<string, unknown>>;

const misspelt = fn([u32], u32, (x: number): number => {
  const wide = x as unknown as Anything satisfies Mapped<unknown>;
  return wide.mistakeInFn as number;
});

const nested = {
  deep: [
    stage({
      name: 'method',
      hook: 'xdp',
      program(ctx) {
        const all: Anything = ctx as unknown as Anything;

        // a comment, and a line that is only there for TypeScript
        let typed: Mapped<{ a: 1 }> | undefined;
        if (ctx.length > 9 && (all.mistakeInMethod as boolean)) return ctx.drop();
        return typed === undefined ? ctx.next() : ctx.drop();
      },
    }),
  ],
} as const;

/** The stages, by their mistake. */
export const located: Readonly<Record<string, AnyStage>> = {
  mistakeInMethod: nested.deep[0],
  mistakeInArrow: stage({ name: 'arrow', hook: 'xdp', program: (ctx) => (ctx as unknown as Anything).mistakeInArrow as never }),
  mistakeInFunction: stage({
    name: 'whole',
    hook: 'xdp',
    program: function whole(ctx: unknown) {
      return (ctx as Anything).mistakeInFunction satisfies unknown as never;
    },
  }),
  mistakeInFn: stage({
    name: 'caller',
    hook: 'xdp',
    uses: { misspelt },
    program: (ctx, { misspelt }) => (misspelt(1) === 1 ? ctx.drop() : ctx.next()),
  }),
};

/**
 * A pipeline whose map of entries has two forms, each for a process that finds the other: for migrate.kernel.test.ts. Numbered frames
 * tell what becomes of the entries, each of one of them alone: at XDP one comes, at TC ingress one changes and one goes. At XDP the form
 * is written into the frame, 1 or 2.
 */
import { TailraceError } from '@tailrace/bpf';
import { migrate, pipeline } from '@tailrace/pipeline';
import { be32, bool, type Fn, fn, hash, type MapDecl, stage, struct, u8, u32, u64 } from '@tailrace/stage';

/** What becomes of an entry. The key has the number of the frame beside it. */
export const KIND = { comes: 1, changes: 2, goes: 3 } as const;
/** What an entry that a frame changes holds before. */
export const UNCHANGED = 0x7000_0000;

const Key = struct({ kind: u32, number: u32 });
const Narrow = struct({ of: u32 });
/** `check` is made of `of`. */
const Wide = struct({ check: u8, of: u64 });
const numbered = struct({ number: be32, first: be32, last: be32 });

/** An entry, whichever form it has. */
export interface PlainEntry {
  readonly kind: number;
  readonly number: number;
  readonly of: number;
}

/** What becomes of the entries of a frame, by its number. */
interface Changes {
  readonly come: Fn<[number], boolean>;
  readonly change: Changes['come'];
  readonly go: Changes['come'];
}

/** The stages of a form. */
function formed(form: number, { come, change, go }: Changes) {
  const begin = stage({
    name: 'begin',
    hook: 'xdp',
    uses: { numbered, come, form },
    onMiss: 'drop',
    program(ctx, { numbered, come, form }) {
      const ethernet = ctx.ethernet();
      if (!ethernet) return ctx.next();
      if (ethernet.etherType !== 0x88b5) return ctx.next();
      const at = ctx.at(numbered, 14);
      if (!at) return ctx.next();
      come(at.number);
      at.first = form;
      at.last = form;
      return ctx.next();
    },
  });
  const end = stage({
    name: 'end',
    hook: 'tcIngress',
    uses: { numbered, change, go },
    program(ctx, { numbered, change, go }) {
      const ethernet = ctx.ethernet();
      if (!ethernet) return ctx.next();
      if (ethernet.etherType !== 0x88b5) return ctx.next();
      const at = ctx.at(numbered, 14);
      if (!at) return ctx.next();
      change(at.number);
      go(at.number);
      return ctx.next();
    },
  });
  return { begin, end };
}

/** One process's declarations: the narrow form is 0, the wide one 1. */
export function migratingEdge(name: string, maxEntries: number) {
  const narrow = hash({ name: 'entries', key: Key, value: Narrow, maxEntries });
  const wide = hash({ name: 'entries', key: Key, value: Wide, maxEntries });
  const inNarrow = formed(1, {
    come: fn([u32], bool, { narrow }, (number, { narrow }) => narrow.update({ kind: 1, number }, { of: number }, 'noexist')),
    change: fn([u32], bool, { narrow }, (number, { narrow }) => narrow.update({ kind: 2, number }, { of: number }, 'exist')),
    go: fn([u32], bool, { narrow }, (number, { narrow }) => narrow.delete({ kind: 3, number })),
  });
  const inWide = formed(2, {
    come: fn([u32], bool, { wide }, (number, { wide }) =>
      wide.update({ kind: 1, number }, { check: number & 0x7f, of: BigInt(number) }, 'noexist'),
    ),
    change: fn([u32], bool, { wide }, (number, { wide }) =>
      wide.update({ kind: 2, number }, { check: number & 0x7f, of: BigInt(number) }, 'exist'),
    ),
    go: fn([u32], bool, { wide }, (number, { wide }) => wide.delete({ kind: 3, number })),
  });
  const checked = ({ check, of }: { readonly check: number; readonly of: bigint }): number => {
    if (check !== Number(of & 0x7fn)) throw new TailraceError('conflict', `an entry of ${of} has the check ${check}`);
    return Number(of);
  };
  return {
    edge(form: number) {
      const { begin, end } = form === 0 ? inNarrow : inWide;
      return pipeline(name, { xdp: [begin], tcIngress: [end] });
    },
    /** What the process of a form needs, with a look at each entry. */
    migrations(form: number, look: () => void = () => undefined) {
      const toNarrow = migrate(wide, narrow, (key, value) => {
        look();
        return [key, { of: checked(value) }];
      });
      const toWide = migrate(narrow, wide, (key, { of }) => {
        look();
        return [key, { check: of & 0x7f, of: BigInt(of) }];
      });
      return [form === 0 ? toNarrow : toWide];
    },
    /** Writes entries, in whichever form. */
    fill(running: Maps, form: number, entries: readonly PlainEntry[]): void {
      if (form === 0) running.map(narrow).setMany(entries.map(({ of, ...key }) => [key, { of }] as const));
      else running.map(wide).setMany(entries.map(({ of, ...key }) => [key, { check: of & 0x7f, of: BigInt(of) }] as const));
    },
    /** All entries, in whichever form. Throws where one of the wide form is none. */
    entries(running: Maps, form: number): readonly PlainEntry[] {
      if (form === 0)
        return running
          .map(narrow)
          .getAll()
          .map(([key, { of }]) => ({ ...key, of }));
      return running
        .map(wide)
        .getAll()
        .map(([key, value]) => ({ ...key, of: checked(value) }));
    },
    size: (running: Maps, form: number): number => running.map(form === 0 ? narrow : (wide as never as typeof narrow)).size,
  };
}

interface Maps {
  map<H>(map: MapDecl<unknown, H>): H;
}

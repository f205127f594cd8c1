/**
 * Programs as filters of clsact, for kernels without TCX. Filters run by priority, and each of ours is alone at its own, so
 * that others can stand between. Its handle is a random number: whoever deletes by priority and handle hits no filter that
 * came since. A filter outlives the process that added it: its name tells the owner, and
 * filters whose owner is gone for certain are removed by whoever attaches next.
 */
import { randomInt } from 'node:crypto';
import { TailraceError } from '@tailrace/bpf';
import { type FilterOwner, filterName, ownerIsGone, parseFilterName } from './filter-owner.ts';
import type { RouteSocket } from './netlink.ts';
import {
  AlreadyAttachedError,
  type AttachedTc,
  missing,
  type TcHook,
  type TcOrder,
  TcOrderError,
  type TcProgram,
  type TcTarget,
} from './tc-order.ts';
import { addClsact, addFilter, clsactKind, deleteClsact, deleteFilter, listFilters, type TcFilter } from './traffic-control.ts';

const hooks: readonly TcHook[] = ['tcIngress', 'tcEgress'];
/** Priorities are 1 to 65,535. */
const priorityEnd = 0x1_0000;
const handleEnd = 0x8000_0000;
/** Room that is left beside a neighbour, for programs that come between later. */
const stride = 0x100;
/** Others that add filters at the same time can take the chosen priority this often. */
const attempts = 8;

/** Another qdisc is where clsact goes. */
export class QdiscConflictError extends TailraceError {
  readonly interface: string;
  /** Its kind, e.g. `ingress`. */
  readonly qdisc: string;

  constructor(name: string, qdisc: string) {
    super('conflict', `interface ${name} has the qdisc ${qdisc} where clsact goes`, {
      hint: `tc qdisc del dev ${name} ingress removes it, with the filters that it has`,
    });
    this.interface = name;
    this.qdisc = qdisc;
  }
}

/** One engine's filters. All of it is synchronous, over a socket that stays in the engine's namespace. */
export class Clsact {
  readonly #socket: RouteSocket;
  /** Indices of interfaces whose clsact is to go when nothing is on it any more. */
  readonly #made = new Set<number>();

  constructor(socket: RouteSocket) {
    this.#socket = socket;
  }

  /**
   * Adds a filter and returns what removes it, and the qdisc with it if that was made for such filters
   * and nothing else is on it. Throws TcOrderError, AlreadyAttachedError, QdiscConflictError, NetlinkError, leaving
   * nothing behind.
   */
  attach(program: TcProgram, target: TcTarget, order: TcOrder): () => void {
    let tried: OwnFilter | undefined;
    const undo = () => {
      if (tried) this.#remove(tried, target);
      this.tidy(target);
    };
    try {
      this.#requireQdisc(target);
      this.#shareQdisc(target);
      for (let attempt = 0; attempt < attempts; attempt += 1) {
        const filters = listFilters(this.#socket, target);
        if (filters.some(({ programId }) => programId === program.id)) throw new AlreadyAttachedError(program, target);
        const filter = {
          priority: choosePriority(filters, order, target),
          handle: randomInt(1, handleEnd),
          programId: program.id,
          name: filterName(program.name, this.#made.has(target.index)),
        };
        tried = filter;
        const added = addFilter(this.#socket, target, { ...filter, fd: program.fd });
        if (added && this.#isAlone(filter, target)) return () => twice(undo);
        this.#remove(filter, target);
      }
      throw new TcOrderError(target, 'is being changed by others all the time', this.#programs(target));
    } catch (error) {
      // The error that counts is the first one.
      quietly(() => twice(undo));
      throw error;
    }
  }

  /** Removes filters that dead processes left on either hook of an interface; `tidy` removes their qdisc. Throws NetlinkError. */
  removeLeftovers({ index, name }: TcTarget): void {
    if (clsactKind(this.#socket, index) !== 'clsact') return;
    for (const hook of hooks) {
      const target = { index, name, hook };
      for (const filter of listFilters(this.#socket, target)) {
        const owner = leftBy(filter);
        if (!owner) continue;
        deleteFilter(this.#socket, target, filter);
        if (owner.madeQdisc) this.#made.add(index);
      }
    }
  }

  /** Removes a qdisc that was made for filters like ours, if nothing is on it. Throws NetlinkError. */
  tidy({ index, name }: Pick<TcTarget, 'index' | 'name'>): void {
    if (!this.#made.has(index)) return;
    if (clsactKind(this.#socket, index) === 'clsact') {
      // Between this look and the deletion another process could add a filter; netlink has no way to say `if empty`.
      if (hooks.some((hook) => listFilters(this.#socket, { index, name, hook }).length > 0)) return;
      deleteClsact(this.#socket, { index, name });
    }
    this.#made.delete(index);
  }

  #requireQdisc(target: TcTarget): void {
    let kind = clsactKind(this.#socket, target.index);
    if (kind === undefined) {
      // Noted before: a request may be carried out although its answer is not received.
      this.#made.add(target.index);
      if (addClsact(this.#socket, target)) return;
      this.#made.delete(target.index);
      kind = clsactKind(this.#socket, target.index);
    }
    if (kind !== undefined && kind !== 'clsact') throw new QdiscConflictError(target.name, kind);
  }

  /** Where a filter says that the qdisc was made for filters like ours, the last of us is to remove it, whoever that is. */
  #shareQdisc({ index, name }: TcTarget): void {
    const filters = hooks.flatMap((hook) => listFilters(this.#socket, { index, name, hook }));
    if (filters.some((filter) => parseFilterName(filter.name)?.madeQdisc)) this.#made.add(index);
  }

  /** False where another took the same priority at the same time. */
  #isAlone({ priority }: OwnFilter, target: TcTarget): boolean {
    return listFilters(this.#socket, target).filter((filter) => filter.chain === 0 && filter.priority === priority).length === 1;
  }

  /** Removes a filter if it is there and the very one. */
  #remove({ priority, handle, programId, name }: OwnFilter, target: TcTarget): void {
    const own = (filter: TcFilter) =>
      filter.priority === priority && filter.handle === handle && filter.programId === programId && filter.name === name;
    const found = listFilters(this.#socket, target).find(own);
    if (found) deleteFilter(this.#socket, target, found);
  }

  #programs(target: TcTarget): AttachedTc[] {
    return listFilters(this.#socket, target).map(({ programId, name }) => ({ programId, name }));
  }
}

type OwnFilter = Pick<TcFilter, 'priority' | 'handle' | 'programId' | 'name'>;

/** Who left a filter behind; undefined for filters of others and of processes that live or may live. */
function leftBy(filter: TcFilter): FilterOwner | undefined {
  const owner = filter.kind === 'bpf' ? parseFilterName(filter.name) : undefined;
  return owner && ownerIsGone(owner) ? owner : undefined;
}

/** A free priority for that order among the filters there, which come in the order in which they run. Throws TcOrderError. */
export function choosePriority(filters: readonly TcFilter[], order: TcOrder, target: TcTarget): number {
  const chain = filters.filter((filter) => filter.chain === 0);
  const taken = [...new Set(chain.map(({ priority }) => priority))].sort((a, b) => a - b);
  const [low, high] = gap(chain, taken, order, target);
  const middle = (low + high) >>> 1;
  if (middle > low) {
    if (high === priorityEnd) return low === 0 ? middle : Math.min(low + stride, middle);
    return low === 0 ? Math.max(high - stride, middle) : middle;
  }
  const where = typeof order === 'string' ? order : 'before' in order ? `before ${order.before}` : `after ${order.after}`;
  const programs = chain.map(({ programId, name }) => ({ programId, name }));
  throw new TcOrderError(target, `has no priority left for a filter ${where}`, programs, 'move the neighbour to another priority');
}

/** The priorities of the neighbours: the new one lies between, and equals neither. */
function gap(chain: readonly TcFilter[], taken: readonly number[], order: TcOrder, target: TcTarget): readonly [low: number, high: number] {
  if (order === 'first') return [0, taken[0] ?? priorityEnd];
  if (order === 'last') return [taken.at(-1) ?? 0, priorityEnd];
  const id = 'before' in order ? order.before : order.after;
  const neighbour = chain.find(({ programId }) => programId === id);
  if (!neighbour) {
    const programs = chain.map(({ programId, name }) => ({ programId, name }));
    throw new TcOrderError(target, missing(order), programs);
  }
  const at = taken.indexOf(neighbour.priority);
  return 'before' in order ? [taken[at - 1] ?? 0, neighbour.priority] : [neighbour.priority, taken[at + 1] ?? priorityEnd];
}

/** Runs `act` again where it fails: what stays behind here outlives the process. */
function twice(act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof TailraceError)) throw error;
    act();
  }
}

function quietly(act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof TailraceError)) throw error;
  }
}

/** Rules by name, and the routes of connections that wait. */
import type { Socket } from 'node:net';
import { ArgumentError, type HandleOf, TailraceError } from '@tailrace/stage';
import { connectionKeyOf } from '../connection.ts';
import { checkName, keyOfName } from './domain.ts';
import { type By, findStage, WAYS } from './find.ts';
import { type routeMaps, State } from './stage.ts';

type Maps = ReturnType<typeof routeMaps>;

/** What the controller works on. */
export interface RouteNeeds {
  readonly waiting: HandleOf<Maps['waiting']>;
  readonly names: HandleOf<Maps['names']>;
}

/** What it starts with. */
export interface RouteSetup<R> {
  readonly maps: Maps;
  readonly rules: Readonly<Record<string, R>>;
  readonly otherwise: R;
}

/** Has programs see a connection: a splicer's controller. */
export interface Holder {
  hold(socket: Socket): 'kernel' | { readonly process: string };
}

/** Why a connection goes where it goes: a rule, no rule for its name, no name in its first bytes, or no answer to that. */
export type Reason = 'rule' | 'unknown' | 'nameless' | 'late' | 'ended' | 'unseen' | 'full';

/** Where a connection goes. */
export interface Routed<R> {
  readonly route: R;
  readonly reason: Reason;
}

/** How long to wait. */
export interface RouteOptions {
  /** For the bytes that tell, in ms; default 5,000. */
  readonly timeoutMs?: number;
}

/** How long a program may be at work on a connection that nobody waits for any more, in ms: microseconds, and room. */
const AT_WORK_MS = 100;

/** Tells connections their routes, and keeps the rules. */
export class RouteController<R> {
  readonly #needs: RouteNeeds;
  readonly #policies: Readonly<Record<By, ReturnType<typeof findStage.with>>>;
  readonly #otherwise: R;
  readonly #numbers = new Map<string, number>();
  readonly #routes = new Map<number, R>();
  readonly #free: number[];
  readonly #counts: Record<Reason, number> = { rule: 0, unknown: 0, nameless: 0, late: 0, ended: 0, unseen: 0, full: 0 };
  #made = 0;

  constructor(needs: RouteNeeds, { maps, rules, otherwise }: RouteSetup<R>) {
    this.#needs = needs;
    const policy = (by: By) => findStage.with({ ...maps, ...WAYS[by] });
    // each once: a stage is compiled once
    this.#policies = { sni: policy('sni'), host: policy('host'), name: policy('name') };
    this.#otherwise = otherwise;
    this.#free = Array.from({ length: maps.waiting.maxEntries }, (_, index) => index);
    this.replace(rules);
  }

  /** Routes by name. */
  get rules(): ReadonlyMap<string, R> {
    return new Map([...this.#numbers].map(([name, number]) => [name, this.#routes.get(number) as R]));
  }

  /** Connections so far, by the reason of their route. */
  get counts(): Readonly<Record<Reason, number>> {
    return { ...this.#counts };
  }

  /** The stage that looks for names in this way, for the place of the one that does now: `running.replace(router.stage(findStage), …)`. */
  policy(by: By) {
    return this.#policies[by];
  }

  /**
   * Sends connections for a name, or for all below a domain (`*.example.com`), another way from now on; the longest name counts. Throws
   * ArgumentError for text that is no name, SyscallError where there is no room.
   */
  set(name: string, route: R): void {
    const rule = checkName(name);
    const known = this.#numbers.get(rule);
    const number = known ?? this.#made++;
    if (known === undefined) this.#needs.names.set(keyOfName(rule), number);
    this.#numbers.set(rule, number);
    this.#routes.set(number, route);
  }

  /** False where there is no rule for the name. Throws ArgumentError. */
  delete(name: string): boolean {
    const rule = checkName(name);
    const number = this.#numbers.get(rule);
    if (number === undefined) return false;
    this.#needs.names.delete(keyOfName(rule));
    this.#numbers.delete(rule);
    this.#routes.delete(number);
    return true;
  }

  /**
   * These rules and no others: sets all, and then deletes what is not among them, so that there must be room for both. Throws as `set`
   * does: for text that is no name before anything has changed.
   */
  replace(rules: Readonly<Record<string, R>>): void {
    const wanted = new Set(Object.keys(rules).map(checkName));
    for (const [name, route] of Object.entries(rules)) this.set(name, route);
    for (const name of this.#numbers.keys()) if (!wanted.has(name)) this.delete(name);
  }

  /**
   * The route of a new connection, by its first bytes, of which none is lost: the splicer that holds it joins it from the first one on.
   * Where they do not tell it in time it is the one for all others, and `reason` says why. Throws ArgumentError for a
   * socket that is closed, and what `hold` throws.
   */
  async routeOf(socket: Socket, holder: Holder, options: RouteOptions = {}): Promise<Routed<R>> {
    const { timeoutMs = 5_000 } = options;
    if (!(timeoutMs >= 0)) throw new ArgumentError(`route: timeoutMs is ${timeoutMs}, expected 0 or more`);
    if (socket.destroyed || socket.remoteAddress === undefined) throw new ArgumentError('route: the socket is closed');
    const head = this.#free.shift();
    if (head === undefined) return this.#told('full');
    const key = connectionKeyOf(socket);
    try {
      this.#needs.waiting.set(key, { ...NEW, head }, 'noexist');
    } catch (error) {
      this.#free.push(head);
      if (error instanceof TailraceError) return this.#told('unseen');
      throw error;
    }
    let isDecided = false;
    try {
      if (holder.hold(socket) !== 'kernel') return this.#told('unseen');
      const outcome = await this.#outcome(socket, key, timeoutMs);
      isDecided = typeof outcome !== 'string';
      if (typeof outcome === 'string') return this.#told(outcome);
      if (outcome.state !== State.ruled) return this.#told(outcome.state === State.unknown ? 'unknown' : 'nameless');
      const route = this.#routes.get(outcome.route);
      // the rule is gone meanwhile
      return route === undefined ? this.#told('unknown') : this.#told('rule', route);
    } finally {
      this.#needs.waiting.delete(key);
      if (isDecided) this.#free.push(head);
      else setTimeout(() => this.#free.push(head), AT_WORK_MS).unref();
    }
  }

  #told(reason: Reason, route = this.#otherwise): Routed<R> {
    this.#counts[reason]++;
    return { route, reason };
  }

  /** Waits for the program's word on a connection; each time that data have come, it may have said it. */
  #outcome(socket: Socket, key: ReturnType<typeof connectionKeyOf>, timeoutMs: number) {
    const look = () => {
      const known = this.#needs.waiting.get(key);
      return known && known.state >= State.ruled ? known : undefined;
    };
    return new Promise<NonNullable<ReturnType<typeof look>> | 'late' | 'ended'>((resolve) => {
      const settle = (outcome: NonNullable<ReturnType<typeof look>> | 'late' | 'ended'): void => {
        clearTimeout(timer);
        socket.off('readable', onData).off('close', onEnd);
        // Node takes note of listeners that are gone in its next turn, and would not let data flow before
        setImmediate(() => resolve(outcome));
      };
      const onData = (): void => {
        const known = look();
        if (known) settle(known);
        else if (socket.readableEnded) settle('ended');
      };
      const onEnd = (): void => settle('ended');
      const timer = setTimeout(() => settle(look() ?? 'late'), timeoutMs);
      socket.on('readable', onData).on('close', onEnd);
    });
  }
}

const NEW = { last: 0n, at: 0, have: 0, state: State.more, start: 0, length: 0, route: 0 };

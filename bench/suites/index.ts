/** All suites, in the order in which they are shown: what runs in Node, sockets, then each hook with what its features cost. */
import { HOOKS } from '../hook.ts';
import type { Suite } from '../row.ts';
import { acl } from './acl.ts';
import { bypass } from './bypass.ts';
import { chain } from './chain.ts';
import { change } from './change.ts';
import { compile } from './compile.ts';
import { count } from './count.ts';
import { counters } from './counters.ts';
import { decap } from './decap.ts';
import { event } from './event.ts';
import { l4lb } from './l4lb.ts';
import { map } from './map.ts';
import { metadata } from './metadata.ts';
import { observe } from './observe.ts';
import { ring } from './ring.ts';
import { splice } from './splice.ts';
import { userspaceSuite } from './userspace.ts';

export const suites: readonly Suite[] = [
  compile,
  map,
  ring,
  userspaceSuite,
  change,
  splice,
  bypass,
  ...HOOKS.flatMap((hook) => [
    chain(hook),
    count(hook),
    acl(hook),
    ...(hook === 'xdp' ? [decap, l4lb] : []),
    counters(hook),
    observe(hook),
    metadata(hook),
    event(hook),
  ]),
];

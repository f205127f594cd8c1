/** All suites, in the order in which they are shown. */
import type { Suite } from '../row.ts';
import { acl } from './acl.ts';
import { chain } from './chain.ts';
import { compile } from './compile.ts';
import { count } from './count.ts';
import { decap } from './decap.ts';
import { event } from './event.ts';
import { l4lb } from './l4lb.ts';
import { map } from './map.ts';

export const suites: readonly Suite[] = [compile, map, chain, count, event, acl, decap, l4lb];

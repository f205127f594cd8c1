/** What a user writes: a stage, and a pipeline of it with functions out of three packages. */
import { acl } from '@tailrace/functions/acl';
import { gate } from 'gate';
import { pipeline, stage } from 'tailrace';

export const minTtl = stage({
  name: 'minTtl',
  hook: 'xdp',
  uses: { least: 2 },
  program(ctx, { least }) {
    const ip = ctx.ipv4();
    if (ip && ip.ttl < least) return ctx.exit('expired');
    return ctx.next();
  },
});

export const filter = acl({ blocked: ['203.0.113.0/24'] });
export const ports = gate().on({ closed: 'drop' });
export const edge = pipeline('edge', { xdp: [minTtl.on({ expired: 'drop' }), filter, ports] });

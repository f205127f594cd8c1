/** Starts the balancer in the userspace engine, as a process of its own; prints the nanoseconds from its start until it is ready. */
import { l4lb } from '@tailrace/functions/l4lb';
import { pipeline } from '@tailrace/pipeline';
import { userspace } from '@tailrace/userspace';

const reals = [{ address: '10.0.1.1', nextHop: '02:00:00:00:01:01' }];
const vips = [{ address: '198.51.100.1', port: 80, protocol: 'tcp', health: false, reals }] as const;
const balancer = l4lb({ source: '10.0.0.1', vips }).on({ notVip: 'pass' });
await using _running = await pipeline('start', { xdp: [balancer] }).run(userspace());
process.stdout.write(`${Math.round(performance.now() * 1e6)}\n`);

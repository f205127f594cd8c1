/** Runs a bypass for the cgroup that it is given, until it is killed. */
import { bypass } from '@tailrace/functions/bypass';
import { kernel, pipeline } from 'tailrace';

const local = bypass();
await pipeline('local', { sockOps: [local], skMsg: [local] }).run(kernel({ cgroup: process.argv[2] as string }));
console.log('running');
setInterval(() => undefined, 1_000);

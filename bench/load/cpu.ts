/** CPU time, as /proc tells it: of processes exactly, of the machine in hundredths of a second (USER_HZ), so that only what takes long can be told. */
import { readdirSync, readFileSync } from 'node:fs';

const NS = 10_000_000;

/** ns that the threads of a process have used so far, with what the kernel did meanwhile in their name. */
export function cpuOfProcess(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.reduce((sum, thread) => sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]), 0);
}

/** ns that all CPUs of the machine have worked so far: programs, kernel threads, interrupts. */
export function cpuOfMachine(): number {
  const [, user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/\s+/) ?? [];
  return [user, nice, system, irq, softirq].reduce((sum, ticks) => sum + Number(ticks), 0) * NS;
}

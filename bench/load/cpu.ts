/** CPU time, as /proc tells it: in hundredths of a second (USER_HZ), so that only what takes long can be told. */
import { readFileSync } from 'node:fs';

const NS = 10_000_000;

/** ns that a process has used so far, all threads, with what the kernel did meanwhile in its name. */
export function cpuOfProcess(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // behind the name, which may have anything in it: utime and stime are fields 14 and 15 of proc_pid_stat(5)
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * NS;
}

/** ns that all CPUs of the machine have worked so far: programs, kernel threads, interrupts. */
export function cpuOfMachine(): number {
  const [, user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/\s+/) ?? [];
  return [user, nice, system, irq, softirq].reduce((sum, ticks) => sum + Number(ticks), 0) * NS;
}

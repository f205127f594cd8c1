/** `tailrace run --interface` for an object file: one program of it on interfaces until it is stopped. Takes it off cleanly. */
import { kernel } from '@tailrace/kernel';
import type { RunCommandOptions } from './arguments.ts';
import { chooseProgram, hookOf } from './object-file.ts';
import { loadObjectProgram } from './object-load.ts';
import type { Output } from './output.ts';
import { exitCodeOf, type StopSignal } from './stop-signal.ts';

/** Loads, attaches, runs until there is a reason to stop. Returns the exit code. */
export async function runObject(bytes: Uint8Array, options: RunCommandOptions, output: Output, stop: StopSignal): Promise<number> {
  const { file, interfaces, netns, tc, xdp, forMs, section, direction, json } = options;
  const chosen = chooseProgram(bytes, file, 'kernel', section);
  const hook = hookOf(chosen, direction);
  await using instance = await kernel({ interfaces, mode: xdp, tc: { link: tc }, ...(netns === undefined ? {} : { netns }) }).open();
  const live = await loadObjectProgram(instance, chosen.object, chosen.program);
  const attached = await instance.attach(live, hook);
  const { name, section: from } = chosen.program;
  const line = { time: new Date().toISOString(), program: name, section: from, hook, interfaces: attached.interfaces };
  output.write(json ? `${JSON.stringify(line)}\n` : `${chosen.title} runs on ${attached.interfaces.join(', ')}\n`);
  if (forMs !== undefined) stop.after(forMs);
  const reason = await stop.reason;
  await attached.detach();
  return exitCodeOf(reason);
}

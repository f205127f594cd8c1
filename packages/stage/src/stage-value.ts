/** A stage at run time, before the types are put on: what `stage()` and `objectStage()` have in common. */
import { ArgumentError } from '@tailrace/bpf';
import { checkBinding } from './binding.ts';
import { type Hook, verdictNames } from './hook.ts';
import type { AnyStage, AnyTarget } from './member.ts';
import { checkUses } from './uses.ts';
import { checkWiring, hookWired } from './wiring.ts';

/** Throws ArgumentError for a name that is no identifier; `function.stage` is one for stages of functions. */
export function checkStageName(name: string): void {
  if (!/^[A-Za-z]\w*(\.[A-Za-z]\w*)*$/.test(name))
    throw new ArgumentError(`stage: name '${name}', expected a letter, then letters, digits and '_'`);
}

/** Throws ArgumentError for what is no hook; `owner` starts the message. */
export function checkHook(owner: string, hook: unknown): void {
  if (!Object.hasOwn(verdictNames, String(hook)))
    throw new ArgumentError(`${owner}: hook is '${String(hook)}', expected ${Object.keys(verdictNames).join(', ')}`);
}

/** What a stage is made of. */
type StageData = Pick<AnyStage, 'name' | 'hook' | 'uses' | 'reads' | 'writes' | 'program' | 'object' | 'onMiss' | 'wiring'>;
/** A stage at run time, before the types are put on. */
interface PlainStage extends StageData {
  readonly kind: 'stage';
  on(wiring: Readonly<Record<string, AnyTarget>>): PlainStage;
  as(name: string): PlainStage;
  at(hook: Hook): PlainStage;
  with(uses: Readonly<Record<string, unknown>>): PlainStage;
}

/** Makes a stage, and from it those that `on`, `as`, `at` and `with` give. */
export function stageOf(data: StageData): PlainStage {
  return Object.freeze<PlainStage>({
    kind: 'stage',
    ...data,
    on(wiring) {
      const added = checkWiring(data.name, [data.hook], wiring);
      return stageOf({ ...data, hook: hookWired(data.hook, added), wiring: Object.freeze({ ...data.wiring, ...added }) });
    },
    as(name) {
      checkStageName(name);
      return stageOf({ ...data, name });
    },
    at(hook) {
      checkHook(`stage '${data.name}'`, hook);
      if (Object.keys(data.wiring).length > 0)
        throw new ArgumentError(`stage '${data.name}': its exits are wired for ${data.hook}, expected .at() before .on()`);
      data.object?.checkHook(`stage '${data.name}'`, hook);
      return stageOf({ ...data, hook });
    },
    with(uses) {
      const owner = `stage '${data.name}'`;
      const bound = checkUses(owner, uses);
      for (const [name, value] of Object.entries(bound)) {
        if (!Object.hasOwn(data.uses, name)) throw new ArgumentError(`${owner}: with '${name}', which is not in its uses`);
        // an object knows bytes only, and looks at those itself
        if (!data.object) checkBinding(`${owner}: uses.${name}`, data.uses[name], value);
      }
      const all = { ...data.uses, ...bound };
      return stageOf({ ...data, uses: Object.freeze(data.object ? data.object.complete(owner, all) : all) });
    },
  });
}

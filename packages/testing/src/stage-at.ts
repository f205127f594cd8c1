/** A stage at another hook, whatever its exits are wired to: in a test it stands alone. */
import type { AnyStage, Hook } from '@tailrace/stage';

/** The same program at `hook`; the stage itself where it is there. */
export function stageAt(stage: AnyStage, hook: Hook): AnyStage {
  return stage.hook === hook ? stage : Object.freeze({ ...stage, hook });
}

/**
 * Block order: chains of likely successors, so that the usual path falls through, and blocks that only jump are
 * skipped. Conditions are inverted by encode.ts where the `then` side follows.
 */
import { type MachineBlock, type MachineFunction, machineSuccessors } from './machine.ts';

/** Retargets jumps to empty blocks and puts the reachable blocks in the order of their code. */
export function layout(fn: MachineFunction): void {
  const entry = fn.blocks[0];
  if (!entry) return;
  for (const block of fn.blocks) {
    const t = block.terminator;
    if (t.kind === 'jump') t.target = finalTarget(t.target);
    if (t.kind !== 'branch') continue;
    t.then = finalTarget(t.then);
    t.else = finalTarget(t.else);
    if (t.then === t.else) block.terminator = { kind: 'jump', target: t.then, place: t.place };
  }
  fn.blocks = chain(fn, entry);
}

/** Where a jump to `block` really ends. */
function finalTarget(block: MachineBlock): MachineBlock {
  const seen = new Set<MachineBlock>();
  let at = block;
  while (at.instructions.length === 0 && at.terminator.kind === 'jump' && !seen.has(at)) {
    seen.add(at);
    at = at.terminator.target;
  }
  return at;
}

function chain(fn: MachineFunction, entry: MachineBlock): MachineBlock[] {
  const reachable = reach(entry);
  const rank = new Map(fn.blocks.map((block, i) => [block, i]));
  const placed = new Set<MachineBlock>();
  const out: MachineBlock[] = [];
  const pending: MachineBlock[] = [entry];
  for (let start = pending.pop(); start; start = pending.pop()) {
    let block: MachineBlock | undefined = placed.has(start) ? undefined : start;
    while (block) {
      placed.add(block);
      out.push(block);
      const followers: MachineBlock[] = preferred(block).filter((b) => !placed.has(b));
      pending.push(...followers.slice(1));
      block = followers[0];
    }
    // Chains go by how often they run, so that the unusual ends up last.
    pending.sort((a, b) => a.frequency - b.frequency || (rank.get(b) ?? 0) - (rank.get(a) ?? 0));
  }
  return out.filter((block) => reachable.has(block));
}

/** The successors of a block, the one to fall through to first. */
function preferred(block: MachineBlock): MachineBlock[] {
  const t = block.terminator;
  if (t.kind !== 'branch') return machineSuccessors(block);
  // `set` has no opposite: only its else side can follow without a jump.
  if (t.op === 'set') return [t.else, t.then];
  if (t.likely) return t.likely === 'then' ? [t.then, t.else] : [t.else, t.then];
  return t.then.frequency >= t.else.frequency ? [t.then, t.else] : [t.else, t.then];
}

function reach(entry: MachineBlock): Set<MachineBlock> {
  const seen = new Set<MachineBlock>();
  const pending = [entry];
  for (let block = pending.pop(); block; block = pending.pop()) {
    if (seen.has(block)) continue;
    seen.add(block);
    pending.push(...machineSuccessors(block));
  }
  return seen;
}

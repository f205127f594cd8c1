/**
 * Spilling: registers that found no place live in an 8-byte stack slot, or are made again at each use where that
 * costs one instruction and needs nothing (constants, addresses, plain context fields).
 */
import type { StackSlot } from '../ir.ts';
import {
  type MachineBlock,
  type MachineFunction,
  type MachineInstruction,
  machineSuccessors,
  type Register,
  reads,
  renameRegisters,
  renameTerminator,
  terminatorReads,
  writes,
} from './machine.ts';

/** Spills registers of one function, whose control flow stays as it is. */
export class Spiller {
  private readonly fn: MachineFunction;
  /** The registers that a block's code names. */
  private readonly names = new Map<MachineBlock, ReadonlySet<Register>>();
  private readonly callers: ReadonlySet<MachineBlock>;
  private readonly predecessors = new Map<MachineBlock, MachineBlock[]>();

  constructor(fn: MachineFunction) {
    this.fn = fn;
    this.callers = new Set(fn.blocks.filter((block) => block.instructions.some(({ kind }) => kind === 'call')));
    for (const block of fn.blocks) {
      this.names.set(block, namedIn(block));
      this.predecessors.set(block, []);
    }
    for (const block of fn.blocks) for (const s of new Set(machineSuccessors(block))) this.predecessors.get(s)?.push(block);
  }

  /** Rewrites the function so that `register` is needed only around each use. Returns the short-lived registers it made. */
  spill(register: Register): Register[] {
    const definition = this.repeatableDefinition(register);
    return definition ? this.rematerialise(register, definition) : this.keepOnStack(register);
  }

  /** The only definition of a register, if it can be done again at each use with what is at hand there. */
  repeatableDefinition(register: Register): MachineInstruction | undefined {
    const [only, ...others] = this.definitions(register);
    if (!only || others.length > 0 || !isRepeatable(only)) return undefined;
    const needed = reads(only);
    if (needed.some((r) => this.definitions(r).length !== 1)) return undefined;
    return needed.every((r) => this.isLiveAtUses(register, r)) ? only : undefined;
  }

  private definitions(register: Register): MachineInstruction[] {
    return this.fn.blocks.flatMap((block) => {
      if (!this.isNamedIn(block, register)) return [];
      return block.instructions.filter((i) => writes(i).includes(register));
    });
  }

  private isNamedIn(block: MachineBlock, register: Register): boolean {
    return this.names.get(block)?.has(register) ?? false;
  }

  /** True where `needed` is alive wherever `register` is read. */
  private isLiveAtUses(register: Register, needed: Register): boolean {
    const ends = this.blocksLiveOut(needed);
    for (const block of this.fn.blocks) {
      if (!this.isNamedIn(block, register)) continue;
      const last = terminatorReads(block.terminator);
      let isLive = ends.has(block) || last.includes(needed);
      if (last.includes(register) && !isLive) return false;
      for (let i = block.instructions.length - 1; i >= 0; i--) {
        const instruction = block.instructions[i];
        if (!instruction) continue;
        if (writes(instruction).includes(needed)) isLive = false;
        const read = reads(instruction);
        if (read.includes(needed)) isLive = true;
        if (read.includes(register) && !isLive) return false;
      }
    }
    return true;
  }

  /** The blocks at whose end a register is still needed. */
  private blocksLiveOut(register: Register): ReadonlySet<MachineBlock> {
    const out = new Set<MachineBlock>();
    const pending = this.fn.blocks.filter((block) => this.isNamedIn(block, register) && isReadFirst(block, register));
    for (let block = pending.pop(); block; block = pending.pop())
      for (const p of this.predecessors.get(block) ?? []) {
        if (out.has(p)) continue;
        out.add(p);
        // where it is named it is read first, and on the list already, or written
        if (!this.isNamedIn(p, register) || !isWritten(p, register)) pending.push(p);
      }
    return out;
  }

  private rematerialise(register: Register, definition: MachineInstruction): Register[] {
    const { fn } = this;
    const made: Register[] = [];
    for (const block of fn.blocks) {
      if (!this.isNamedIn(block, register)) continue;
      this.rewrite(block, (instruction) => {
        if (instruction === definition) return [];
        if (!instruction) {
          if (!terminatorReads(block.terminator).includes(register)) return [];
          const fresh = fn.nextRegister++;
          made.push(fresh);
          renameTerminator(block.terminator, (r) => (r === register ? fresh : r));
          return [copyOf(definition, fresh, block.terminator.place)];
        }
        if (!reads(instruction).includes(register)) return [instruction];
        if (instruction.kind === 'move' && instruction.width === 64) return [copyOf(definition, instruction.dst, instruction.place)];
        const fresh = fn.nextRegister++;
        made.push(fresh);
        renameRegisters(
          instruction,
          (r) => (r === register ? fresh : r),
          (r) => r,
        );
        return [copyOf(definition, fresh, instruction.place), instruction];
      });
    }
    return made;
  }

  /**
   * Moves a register's home to the stack. On a line of blocks between two calls it has a register of its own, loaded
   * once; where that found no place either, each use loads anew.
   */
  private keepOnStack(register: Register): Register[] {
    const { fn } = this;
    const known = fn.homes.get(register);
    const slot = known ?? newSlot(fn);
    const address = { slot, offset: 0 } as const;
    const made: Register[] = [];
    let held: Register | undefined;
    const fresh = (): Register => {
      const next = fn.nextRegister++;
      if (known) made.push(next);
      else fn.homes.set(next, slot);
      return next;
    };
    const load = (dst: Register, place: MachineInstruction['place']): MachineInstruction => {
      return { kind: 'load', size: 8, dst, address, repeatable: false, place };
    };
    const ends = new Map<MachineBlock, Register | undefined>();
    for (const block of fn.blocks) {
      const [from, ...others] = this.predecessors.get(block) ?? [];
      held = from && others.length === 0 ? ends.get(from) : undefined;
      if (!this.isNamedIn(block, register)) {
        ends.set(block, this.callers.has(block) ? undefined : held);
        continue;
      }
      this.rewrite(block, (instruction) => {
        if (!instruction) ends.set(block, held);
        const place = instruction ? instruction.place : block.terminator.place;
        const out: MachineInstruction[] = [];
        const reader = (): Register => {
          if (held !== undefined && !known) return held;
          held = fresh();
          out.push(load(held, place));
          return held;
        };
        if (!instruction) {
          if (!terminatorReads(block.terminator).includes(register)) return [];
          const dst = reader();
          ends.set(block, held);
          renameTerminator(block.terminator, (r) => (r === register ? dst : r));
          return out;
        }
        if (instruction.kind === 'call') held = undefined;
        const isRead = reads(instruction).includes(register);
        const isWritten = writes(instruction).includes(register);
        if (!isRead && !isWritten) return [instruction];
        if (known && isHomeAccess(instruction, slot)) return [];
        if (instruction.kind === 'move' && instruction.width === 64) {
          if (isRead && isWritten) return [];
          if (isWritten && known) return [{ kind: 'store', size: 8, address, src: { register: instruction.src }, place }];
          if (isRead && (held === undefined || known)) return [load(instruction.dst, place)];
        }
        if (instruction.kind === 'constant' && instruction.value === BigInt.asIntN(32, instruction.value)) {
          held = undefined;
          return [{ kind: 'store', size: 8, address, src: { imm: Number(instruction.value) }, place }];
        }
        const to = isRead ? reader() : fresh();
        renameRegisters(
          instruction,
          (r) => (r === register ? to : r),
          (r) => (r === register ? to : r),
        );
        out.push(instruction);
        if (isWritten) {
          held = to;
          out.push({ kind: 'store', size: 8, address, src: { register: to }, place });
        }
        return out;
      });
    }
    return made;
  }

  /** Replaces each instruction of a block by what `step` returns; at the end of the block, `step` gets no instruction. */
  private rewrite(block: MachineBlock, step: (instruction: MachineInstruction | undefined) => MachineInstruction[]): void {
    const out: MachineInstruction[] = [];
    for (const instruction of block.instructions) out.push(...step(instruction));
    out.push(...step(undefined));
    block.instructions = out;
    this.names.set(block, namedIn(block));
  }
}

/** The registers that a block's code names. */
function namedIn(block: MachineBlock): ReadonlySet<Register> {
  const named = new Set(terminatorReads(block.terminator));
  for (const instruction of block.instructions) {
    for (const register of reads(instruction)) named.add(register);
    for (const register of writes(instruction)) named.add(register);
  }
  return named;
}

/** True where a block reads a register before it writes it. */
function isReadFirst(block: MachineBlock, register: Register): boolean {
  for (const instruction of block.instructions) {
    if (reads(instruction).includes(register)) return true;
    if (writes(instruction).includes(register)) return false;
  }
  return terminatorReads(block.terminator).includes(register);
}

function isWritten(block: MachineBlock, register: Register): boolean {
  return block.instructions.some((instruction) => writes(instruction).includes(register));
}

/** True where the instruction yields the same value anywhere after itself. */
function isRepeatable(instruction: MachineInstruction): boolean {
  switch (instruction.kind) {
    case 'constant':
    case 'frame':
    case 'map':
      return true;
    case 'load':
      return instruction.repeatable;
    default:
      return false;
  }
}

function copyOf(definition: MachineInstruction, dst: Register, place: MachineInstruction['place']): MachineInstruction {
  const copy = { ...definition, place };
  renameRegisters(
    copy,
    (r) => r,
    () => dst,
  );
  return copy;
}

function newSlot(fn: MachineFunction): StackSlot {
  const slot: StackSlot = { id: fn.nextSlot++, size: 8 };
  fn.slots.push(slot);
  fn.spillSlots.add(slot);
  return slot;
}

/** True for the loads and stores that an earlier spill made between a register and its slot. */
function isHomeAccess(instruction: MachineInstruction, slot: StackSlot): boolean {
  return (
    (instruction.kind === 'load' || instruction.kind === 'store') && 'slot' in instruction.address && instruction.address.slot === slot
  );
}

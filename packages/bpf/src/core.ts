/**
 * CO-RE relocations: an instruction whose offset or immediate was right for the types it was compiled with is made right
 * for those of a target, e.g. the running kernel. What the target does not have becomes a poisoned call, as in libbpf, so
 * that a program may test for it first: the verifier refuses it only where a path reaches it. Values follow the comments
 * on enum bpf_core_relo_kind (include/uapi/linux/bpf.h).
 */
import type { BtfTypeId } from './btf.ts';
import type { CoreRelocation } from './btf-ext.ts';
import { type Btf, type BtfField, essentialName } from './btf-reader.ts';
import { CoreMatcher, isComposite, isEnum } from './core-match.ts';
import { ElfError } from './errors.ts';
import { insn } from './insn.ts';
import { type Instruction, slotsOf, wideValue } from './instruction.ts';
import { InstructionClass, OpcodeMask, SizeOfBytes, Source, WIDE_OPCODE } from './opcode.ts';
import { POISON_HELPER } from './program.ts';

/** What became of an instruction. */
export interface CoreResult {
  /** As many slots as before. */
  readonly instructions: readonly Instruction[];
  /** Set where the instruction is poisoned: why, in one line. */
  readonly poison?: string;
}

/** One step from a type inwards. */
interface Access {
  /** A member by its name, or undefined for an element of an array. */
  readonly member: BtfField | undefined;
  /** Which element. */
  readonly index: number;
  /** The type that it leads to. */
  readonly type: BtfTypeId;
}

/** A place in a blob's types: what a relocation means. */
interface Place {
  readonly root: BtfTypeId;
  /** Field-based relocations: the steps with names or indexes, the first an index into an array of roots. */
  readonly path: readonly Access[];
  /** Bits from the root's start. */
  readonly bitOffset: number;
  /** Enum values. */
  readonly value: bigint;
}

/** What a relocation makes of a place. */
interface Outcome {
  readonly value: bigint;
  /** False where the instruction may say something else before: bit fields can be read in several ways. */
  readonly exact: boolean;
  /** Of a plain field: its type and bytes. */
  readonly field?: { readonly type: BtfTypeId; readonly bytes: number };
}

const MAX_ACCESS = 64;

/** Relocates instructions of an object with BTF `local` for a machine with BTF `target`. */
export class CoreRelocator {
  readonly #local: Btf;
  readonly #target: Btf;

  constructor(local: Btf, target: Btf) {
    this.#local = local;
    this.#target = target;
  }

  /**
   * Relocates one instruction. `where` names its section. Throws ElfError for what is malformed, and where several types of
   * the target answer differently.
   */
  relocate(relocation: CoreRelocation, instruction: Instruction, where: string): CoreResult {
    const fault = (message: string) => new ElfError(where, message, { offset: relocation.offset });
    const own = localPlace(this.#local, relocation, fault);
    const before = outcome(this.#local, own, relocation, fault);
    if (before === undefined) throw fault(`a relocation of kind ${relocation.kind} that says nothing of its own type`);
    if (relocation.kind === 'typeIdLocal') return patch(instruction, before, { ...before, exact: false }, fault);

    const after = this.#answer(own, relocation, fault);
    if (after === undefined) return poisoned(instruction, `the target has no ${this.#describe(own, relocation)}`);
    const problem = before.field && after.field && this.#sizeProblem(before.field, after.field);
    if (problem && isMemoryAccess(instruction)) return poisoned(instruction, `${this.#describe(own, relocation)} ${problem} in the target`);
    return patch(instruction, before, after, fault);
  }

  /** What the target says, undefined where the instruction cannot be. */
  #answer(own: Place, relocation: CoreRelocation, fault: (message: string) => ElfError): Outcome | undefined {
    const root = this.#local.type(relocation.type);
    if (root.name === '') throw fault(`a relocation by an anonymous ${root.kind}, expected a type with a name`);
    const answers = this.#target.named(root.name).flatMap((id) => {
      const type = this.#target.type(id);
      const alike = type.kind === root.kind || (isEnum(type) && isEnum(root));
      const place = alike ? targetPlace(new CoreMatcher(this.#local, this.#target), own, relocation, id) : undefined;
      return place === undefined ? [] : [outcome(this.#target, place, relocation, fault)];
    });
    const [first] = answers;
    if (answers.length === 0) return absent(relocation);
    if (relocation.kind !== 'typeIdTarget' && answers.some((answer) => answer?.value !== first?.value))
      throw fault(`the target has several types ${essentialName(root.name)}, which disagree about ${this.#describe(own, relocation)}`);
    return first;
  }

  /** Why a field of another size cannot be accessed with a wider or narrower instruction. */
  #sizeProblem(own: NonNullable<Outcome['field']>, other: NonNullable<Outcome['field']>): string | undefined {
    if (own.bytes === other.bytes) return undefined;
    const [before, after] = [this.#local.resolved(own.type), this.#target.resolved(other.type)];
    if (before.kind === 'ptr' && after.kind === 'ptr') return undefined;
    if (before.kind === 'int' && after.kind === 'int' && !before.signed && !after.signed) return undefined;
    return `has ${other.bytes} bytes, not ${own.bytes}, and a sign,`;
  }

  /** `field task_struct.pid`, `type foo`, `value FOO_BAR of enum foo`. */
  #describe(own: Place, relocation: CoreRelocation): string {
    const root = this.#local.type(relocation.type);
    const name = essentialName(root.name);
    if (relocation.kind.startsWith('type')) return `type ${name}`;
    if (relocation.kind.startsWith('enum')) {
      const type = this.#local.resolved(relocation.type);
      return `value ${isEnum(type) ? essentialName(type.values[Number(relocation.access)]?.name ?? '') : relocation.access} of ${name}`;
    }
    const steps = own.path.slice(1).map(({ member, index }) => (member ? `.${member.name}` : `[${index}]`));
    return `field ${name}${steps.join('')}`;
  }
}

/** What follows where the target has no such type. */
function absent({ kind }: CoreRelocation): Outcome | undefined {
  const zero = kind === 'fieldExists' || kind === 'enumValueExists' || kind.startsWith('type');
  return zero ? { value: 0n, exact: true } : undefined;
}

/** The place that a relocation means in its own object's types. */
function localPlace(btf: Btf, { type: root, access, kind }: CoreRelocation, fault: (message: string) => ElfError): Place {
  if (!/^\d+(:\d+)*$/.test(access)) throw fault(`access '${access}', expected numbers with colons between them`);
  const indexes = access.split(':').map(Number);
  if (indexes.length > MAX_ACCESS) throw fault(`access of ${indexes.length} steps, expected at most ${MAX_ACCESS}`);
  const [first = 0, ...rest] = indexes;
  if (kind.startsWith('type')) {
    if (access !== '0') throw fault(`access '${access}' of a whole type, expected '0'`);
    return { root, path: [], bitOffset: 0, value: 0n };
  }
  if (kind.startsWith('enum')) {
    const type = btf.resolved(root);
    const entry = isEnum(type) && rest.length === 0 ? type.values[first] : undefined;
    if (!entry) throw fault(`access '${access}', expected a value of an enum`);
    return { root, path: [], bitOffset: 0, value: entry.value };
  }
  const path: Access[] = [{ member: undefined, index: first, type: btf.resolve(root) }];
  // A first index of 0 asks for no size: a type may be declared only.
  let bitOffset = first === 0 ? 0 : first * btf.size(root) * 8;
  let at = root;
  for (const index of rest) {
    const type = btf.resolved(at);
    if (isComposite(type)) {
      const member = type.members[index];
      if (!member) throw fault(`access '${access}': ${type.kind} ${type.name} has ${type.members.length} members`);
      bitOffset += member.bitOffset;
      at = member.type;
      if (member.name !== '') path.push({ member, index, type: at });
    } else if (type.kind === 'array') {
      if (index >= type.length && type.length > 0) throw fault(`access '${access}': an array of ${type.length} elements`);
      at = type.element;
      bitOffset += index * btf.size(at) * 8;
      path.push({ member: undefined, index, type: at });
    } else throw fault(`access '${access}' goes into a type of kind ${type.kind}`);
  }
  return { root, path, bitOffset, value: 0n };
}

/** The same place in a type of the target; undefined where it does not have it. */
function targetPlace(matcher: CoreMatcher, own: Place, { type, access, kind }: CoreRelocation, root: BtfTypeId): Place | undefined {
  const { local, target } = matcher;
  const found = { root, path: [], bitOffset: 0, value: 0n };
  if (kind === 'typeMatches') return matcher.typesMatch(type, root) ? found : undefined;
  if (kind.startsWith('type')) return matcher.typesAgree(type, root) ? found : undefined;
  if (kind.startsWith('enum')) {
    const [enumeration, candidate] = [local.resolved(type), target.resolved(root)];
    if (!isEnum(enumeration) || !isEnum(candidate)) return undefined;
    const name = essentialName(enumeration.values[Number(access)]?.name ?? '');
    const entry = candidate.values.find((value) => essentialName(value.name) === name);
    return entry && { ...found, value: entry.value };
  }
  const path: Access[] = [];
  let at = root;
  let bitOffset = 0;
  for (const [step, { member, index }] of own.path.entries()) {
    if (member) {
      const counterpart = matcher.findMember(member, at);
      if (!counterpart) return undefined;
      bitOffset += counterpart.bitOffset;
      at = counterpart.type;
      path.push({ member: counterpart, index, type: at });
      continue;
    }
    if (step > 0) {
      const type = target.resolved(at);
      if (type.kind !== 'array' || (index >= type.length && type.length > 0)) return undefined;
      at = type.element;
    }
    if (index > 0) bitOffset += index * target.size(at) * 8;
    path.push({ member: undefined, index, type: target.resolve(at) });
  }
  return { ...found, path, bitOffset };
}

function outcome(btf: Btf, place: Place, { kind }: CoreRelocation, fault: (message: string) => ElfError): Outcome | undefined {
  switch (kind) {
    case 'fieldExists':
    case 'typeExists':
    case 'typeMatches':
    case 'enumValueExists':
      return { value: 1n, exact: true };
    case 'typeIdLocal':
    case 'typeIdTarget':
      return { value: BigInt(place.root), exact: false };
    case 'typeSize':
      return { value: BigInt(btf.size(place.root)), exact: true };
    case 'enumValue':
      return { value: place.value, exact: true };
    default:
      return fieldOutcome(btf, place, kind, fault);
  }
}

function fieldOutcome(btf: Btf, { path, bitOffset }: Place, kind: CoreRelocation['kind'], fault: (message: string) => ElfError): Outcome {
  const last = path.at(-1);
  if (!last) throw fault('a relocation by a field that names none');
  const bits = last.member?.bits ?? 0;
  const exact = bits === 0;
  let bytes = btf.size(last.type);
  let offset = Math.floor(bitOffset / 8);
  if (!exact) {
    // The smallest aligned integer that holds all of a bit field, from its own type's size on.
    const start = () => Math.floor(bitOffset / 8 / bytes) * bytes;
    if (bytes < 1 || bytes > 8) throw fault(`a bit field in an integer of ${bytes} bytes`);
    for (offset = start(); bitOffset + bits - offset * 8 > bytes * 8; offset = start()) {
      if (bytes >= 8) throw fault(`a bit field of ${bits} bits that no load of 8 bytes holds`);
      bytes *= 2;
    }
  }
  const width = exact ? bytes * 8 : bits;
  switch (kind) {
    case 'fieldByteOffset':
      return { value: BigInt(offset), exact, ...(exact ? { field: { type: last.type, bytes } } : {}) };
    case 'fieldByteSize':
      return { value: BigInt(bytes), exact };
    case 'fieldSigned': {
      const type = btf.resolved(last.type);
      return { value: (type.kind === 'int' || isEnum(type)) && type.signed ? 1n : 0n, exact: true };
    }
    case 'fieldLeftShift':
      return { value: BigInt(64 - (bitOffset + width - offset * 8)), exact };
    default:
      return { value: BigInt(64 - width), exact: true };
  }
}

function isMemoryAccess({ opcode }: Instruction): boolean {
  const kind = opcode & OpcodeMask.class;
  return kind === InstructionClass.ldx || kind === InstructionClass.st || kind === InstructionClass.stx;
}

/** Puts a value where the instruction has its old one. */
function patch(instruction: Instruction, before: Outcome, after: Outcome, fault: (message: string) => ElfError): CoreResult {
  const { opcode } = instruction;
  const kind = opcode & OpcodeMask.class;
  const check = (value: bigint, bits: number) => {
    if (after.exact && before.exact && BigInt.asIntN(bits, value) !== BigInt.asIntN(bits, before.value))
      throw fault(`the instruction says ${value}, its own types ${before.value}`);
  };
  if (opcode === WIDE_OPCODE) {
    if (instruction.src !== 0) throw fault('a wide load of a map or function, expected one of a number');
    check(wideValue(instruction), 64);
    return { instructions: [insn.wide(instruction.dst, after.value)] };
  }
  if (isMemoryAccess(instruction)) {
    check(BigInt(instruction.offset), 16);
    if (after.value > 0x7fffn) throw fault(`a field at byte ${after.value}, which no load reaches`);
    return { instructions: [{ ...instruction, opcode: resized(opcode, before, after, fault), offset: Number(after.value) }] };
  }
  if ((kind === InstructionClass.alu || kind === InstructionClass.alu64) && (opcode & Source.reg) === 0) {
    check(BigInt(instruction.imm), 32);
    if (BigInt.asIntN(32, after.value) !== after.value && BigInt.asUintN(32, after.value) !== after.value)
      throw fault(`a value of ${after.value}, which takes a wide load`);
    return { instructions: [{ ...instruction, imm: Number(BigInt.asIntN(32, after.value)) }] };
  }
  throw fault(`a relocation of opcode 0x${opcode.toString(16)}, expected a load, a store or arithmetic with a number`);
}

/** The opcode of an access to a field of another size. */
function resized(opcode: number, before: Outcome, after: Outcome, fault: (message: string) => ElfError): number {
  if (!before.field || !after.field || before.field.bytes === after.field.bytes) return opcode;
  const sizes: Readonly<Record<number, number>> = SizeOfBytes;
  if ((opcode & OpcodeMask.size) !== sizes[before.field.bytes])
    throw fault(`the instruction accesses another size than the field's ${before.field.bytes} bytes`);
  const size = sizes[after.field.bytes];
  if (size === undefined) throw fault(`a field of ${after.field.bytes} bytes, expected 1, 2, 4 or 8`);
  return (opcode & ~OpcodeMask.size) | size;
}

function poisoned(instruction: Instruction, poison: string): CoreResult {
  return { instructions: Array.from({ length: slotsOf(instruction) }, () => insn.call(POISON_HELPER)), poison };
}

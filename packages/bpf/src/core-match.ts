/**
 * When a type or field of one blob stands for one of another: the rules of CO-RE as libbpf documents them. `fieldsAgree`
 * asks little, `typesAgree` compares kinds, `typesMatch` also names and members. Names are compared without flavours.
 */
import type { BtfTypeId } from './btf.ts';
import { type Btf, type BtfField, type BtfType, essentialName } from './btf-reader.ts';
import { ElfError } from './errors.ts';

/** Steps of one search; a search in circles ends here. */
const MAX_STEPS = 1_000_000;
const MAX_DEPTH = 32;

/** One search in two blobs. */
export class CoreMatcher {
  readonly local: Btf;
  readonly target: Btf;
  #steps = 0;

  constructor(local: Btf, target: Btf) {
    this.local = local;
    this.target = target;
  }

  /** Finds a member by name, in anonymous structs and unions too; its offset is from the outermost struct. */
  findMember(member: BtfField, target: BtfTypeId, depth = 0): BtfField | undefined {
    this.#step(depth);
    const type = this.target.resolved(target);
    if (type.kind !== 'struct' && type.kind !== 'union') return undefined;
    for (const candidate of type.members) {
      this.#step(depth);
      if (candidate.name === member.name) return this.fieldsAgree(member.type, candidate.type) ? candidate : undefined;
      if (candidate.name !== '') continue;
      const inner = this.findMember(member, candidate.type, depth + 1);
      if (inner) return { ...inner, bitOffset: inner.bitOffset + candidate.bitOffset };
    }
    return undefined;
  }

  /** Whether one field can be read as the other: of one kind; integers of any size, structs of any name. */
  fieldsAgree(local: BtfTypeId, target: BtfTypeId, depth = 0): boolean {
    this.#step(depth);
    const [own, other] = [this.local.resolved(local), this.target.resolved(target)];
    if (isComposite(own) && isComposite(other)) return true;
    if (isEnum(own) && isEnum(other)) return own.name === '' || other.name === '' || sameName(own, other);
    if (own.kind !== other.kind) return false;
    if (own.kind === 'fwd') return sameName(own, other);
    if (own.kind === 'array' && other.kind === 'array') return this.fieldsAgree(own.element, other.element, depth + 1);
    if (own.kind === 'int' && other.kind === 'int') return own.bitOffset === 0 && other.bitOffset === 0;
    return own.kind === 'ptr' || own.kind === 'float';
  }

  /** Whether two types are of one kind, and so is what they point at; names of what they point at do not matter. */
  typesAgree(local: BtfTypeId, target: BtfTypeId, depth = 0): boolean {
    this.#step(depth);
    const [own, other] = [this.local.resolved(local), this.target.resolved(target)];
    if (isEnum(own) && isEnum(other)) return true;
    if (own.kind !== other.kind) return false;
    if (own.kind === 'int' && other.kind === 'int') return own.bitOffset === 0 && other.bitOffset === 0;
    if (own.kind === 'ptr' && other.kind === 'ptr') return this.typesAgree(own.type, other.type, depth + 1);
    if (own.kind === 'array' && other.kind === 'array') return this.typesAgree(own.element, other.element, depth + 1);
    if (own.kind === 'funcProto' && other.kind === 'funcProto')
      return (
        own.parameters.length === other.parameters.length &&
        own.parameters.every(({ type }, index) => this.typesAgree(type, other.parameters[index]?.type ?? 0, depth + 1)) &&
        this.typesAgree(own.returns, other.returns, depth + 1)
      );
    return own.kind === 'void' || isComposite(own) || own.kind === 'fwd';
  }

  /** Whether all that the local type has is in the target's, by name and type. Behind a pointer, names are enough. */
  typesMatch(local: BtfTypeId, target: BtfTypeId, behindPointer = false, depth = 0): boolean {
    this.#step(depth);
    const [own, other] = [this.local.resolved(local), this.target.resolved(target)];
    if (!sameName(own, other)) return false;
    if (own.kind === 'fwd') return own.of === (other.kind === 'fwd' ? other.of : behindPointer ? other.kind : undefined);
    if (isEnum(own))
      return isEnum(other) && own.values.every((value) => other.values.some((candidate) => this.#sameName(value, candidate)));
    if (isComposite(own)) {
      if (behindPointer) return own.kind === (other.kind === 'fwd' ? other.of : other.kind);
      if (!isComposite(other) || own.kind !== other.kind || own.members.length > other.members.length) return false;
      return own.members.every((member) =>
        other.members.some((candidate) => {
          return this.#sameName(member, candidate) && this.typesMatch(member.type, candidate.type, false, depth + 1);
        }),
      );
    }
    if (own.kind !== other.kind) return false;
    if (own.kind === 'int' && other.kind === 'int') return own.bytes === other.bytes && own.signed === other.signed;
    if (own.kind === 'ptr' && other.kind === 'ptr') return this.typesMatch(own.type, other.type, true, depth + 1);
    if (own.kind === 'array' && other.kind === 'array')
      return own.length === other.length && this.typesMatch(own.element, other.element, false, depth + 1);
    if (own.kind === 'funcProto' && other.kind === 'funcProto')
      return (
        own.parameters.length === other.parameters.length &&
        own.parameters.every(({ type }, index) => this.typesMatch(type, other.parameters[index]?.type ?? 0, false, depth + 1)) &&
        this.typesMatch(own.returns, other.returns, false, depth + 1)
      );
    return own.kind === 'void';
  }

  #sameName(left: { readonly name: string }, right: { readonly name: string }): boolean {
    this.#step(0);
    return sameName(left, right);
  }

  #step(depth: number): void {
    if (depth > MAX_DEPTH) throw new ElfError('.BTF', `types lie more than ${MAX_DEPTH} deep in each other`);
    if (this.#steps++ > MAX_STEPS) throw new ElfError('.BTF', `a search through types takes more than ${MAX_STEPS} steps`);
  }
}

/** Whether a type is an enum, of 32 or 64 bits. */
export function isEnum(type: BtfType): type is BtfType & { readonly kind: 'enum' | 'enum64' } {
  return type.kind === 'enum' || type.kind === 'enum64';
}

/** Whether a type has members. */
export function isComposite(type: BtfType): type is BtfType & { readonly kind: 'struct' | 'union' } {
  return type.kind === 'struct' || type.kind === 'union';
}

function sameName(left: { readonly name: string }, right: { readonly name: string }): boolean {
  return essentialName(left.name) === essentialName(right.name);
}

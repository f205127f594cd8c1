/** Members: of ctx, of metadata, of what uses name, of object literals and of memory. */
import type { StructLayout } from '@tailrace/stage';
import type { Expression, MemberExpression, PrivateIdentifier, Super, Node as SyntaxNode } from 'acorn';
import * as R from '../range.ts';
import { contextMember, nearest } from './context.ts';
import { kindOf, MAP_METHODS } from './map-kind.ts';
import { element, member, present, readPlace, readView } from './memory.ts';
import { contentHint, describe, type Operand, type RefOperand, type View } from './operand.ts';
import { find, type Program } from './program.ts';
import { keeping } from './reference.ts';
import { metadata } from './state.ts';

/** `object.name` and `object[index]`. */
export function memberExpression(program: Program, node: MemberExpression): Operand {
  const { lowering } = program;
  if (node.optional)
    return lowering.fail(node, 'syntax', 'optional chaining gives a value or undefined', 'test it first: if (!x) return …');
  const object = program.expression(objectOf(program, node.object));
  if (node.computed) {
    const [there, index] = keeping(lowering, object, () => program.expression(node.property as Expression));
    lowering.at(node);
    return computedMember(program, node, there, index);
  }
  lowering.at(node);
  return namedMember(program, node, object, propertyName(program, node));
}

/** What a member is taken of. */
export function objectOf(program: Program, object: Expression | Super): Expression {
  return object.type === 'Super' ? program.lowering.fail(object, 'syntax', 'there is no class around a program') : object;
}

/** The name behind the dot. */
export function propertyName(program: Program, node: MemberExpression): string {
  const property: Expression | PrivateIdentifier = node.property;
  return property.type === 'Identifier'
    ? property.name
    : program.lowering.fail(property, 'syntax', 'private names are not part of the language');
}

function computedMember(program: Program, node: MemberExpression, object: Operand, index: Operand): Operand {
  const { lowering } = program;
  if (object.kind === 'ref') return readPlace(lowering, element(lowering, node.property, present(lowering, node.object, object), index));
  if (object.kind === 'list') {
    if (index.kind !== 'number' || !R.isConstant(index.range))
      return lowering.fail(
        node.property,
        'range',
        'a constant array is indexed by constants only',
        'put it into an arrayMap to look up by value',
      );
    return (
      object.items[Number(index.range.lo)] ??
      lowering.fail(node.property, 'range', `the index is ${index.range.lo}; the array has ${object.items.length} elements`)
    );
  }
  if (index.kind === 'string') return namedMember(program, node, object, index.value);
  return lowering.fail(node, 'syntax', 'property names must be known', 'write x.name');
}

/** A member whose name is known. */
export function namedMember(program: Program, node: MemberExpression, object: Operand, name: string): Operand {
  return readMember(program, node.property, node.object, object, name);
}

/** A member as any syntax takes it; `property` and `of` are the places that messages point at. */
export function readMember(program: Program, property: SyntaxNode, of: SyntaxNode, object: Operand, name: string): Operand {
  const { lowering } = program;
  switch (object.kind) {
    case 'context':
      return contextMember(program, property, name);
    case 'meta':
      return readPlace(lowering, metadata(program, property, name));
    case 'names':
      return (
        object.members.get(name) ??
        lowering.fail(property, 'name', `${object.what} has no '${name}'`, nearest(name, [...object.members.keys()]))
      );
    case 'list':
      if (name === 'length') return lowering.number(object.items.length);
      break;
    case 'map': {
      if (MAP_METHODS.has(name)) return { kind: 'method', of: object, name };
      const { methods, hint } = kindOf(object.map.type);
      const instead = methods.length > 0 ? nearest(name, methods) : hint;
      return lowering.fail(property, 'name', `map '${object.map.name}' has no method '${name}'`, instead);
    }
    case 'aggregate': {
      const field = object.fields.get(name);
      return (
        (field && lowering.read(field)) ??
        lowering.fail(property, 'name', `the object has no field '${name}'`, nearest(name, [...object.fields.keys()]))
      );
    }
    case 'ref': {
      const ref = present(lowering, of, object);
      if (ref.map) return readMember(program, property, of, { kind: 'map', map: ref.map, reference: '', handle: ref.base }, name);
      if (ref.layout.kind === 'struct') {
        const view = Object.hasOwn(ref.layout.views, name) ? ref.layout.views[name] : undefined;
        if (view) return readView(lowering, ref.layout, ref, view);
      }
      if (ref.layout.kind === 'array' && name === 'length') return lowering.number(ref.layout.length);
      return readPlace(lowering, namedPlace(program, property, ref, name));
    }
    case 'undefined':
      return lowering.fail(of, 'undefined', `'${lowering.source.textOf(of)}' is undefined here`);
    case 'conflict':
      return lowering.fail(of, 'type', object.message, object.hint);
    default:
  }
  return lowering.fail(property, 'name', `${describe(object)} has no '${name}'`);
}

/** The place of a field, or of a scalar's `.value`. */
export function namedPlace(program: Program, property: SyntaxNode, ref: RefOperand, name: string): RefOperand {
  const { lowering } = program;
  const { layout } = ref;
  if (layout.kind === 'struct') {
    const field = Object.hasOwn(layout.fields, name) ? layout.fields[name] : undefined;
    if (field) return member(ref, field.layout, field.offset);
    if (Object.hasOwn(layout.views, name))
      lowering.fail(property, 'memory', `'${name}' is a view and cannot be written`, `write the field '${layout.views[name]?.field}'`);
    return lowering.fail(
      property,
      'name',
      `no field '${name}'`,
      nearest(name, [...Object.keys(layout.fields), ...Object.keys(layout.views)]),
    );
  }
  if ((layout.kind === 'int' || layout.kind === 'bool') && name === 'value') return ref;
  return lowering.fail(property, 'name', `${describe(ref)} has no '${name}'`, contentHint(ref));
}

/** `tcp.syn` and its like: a condition is made of the field's bits. */
export function booleanView(program: Program, node: Expression): { layout: StructLayout; ref: RefOperand; view: View } | undefined {
  if (node.type !== 'MemberExpression' || node.computed || node.property.type !== 'Identifier' || node.object.type === 'Super')
    return undefined;
  const name = node.property.name;
  if (node.object.type !== 'Identifier') return undefined;
  const variable = find(program.scope, node.object.name);
  const ref = variable && program.lowering.read(variable);
  if (ref?.kind !== 'ref' || ref.layout.kind !== 'struct') return undefined;
  const view = Object.hasOwn(ref.layout.views, name) ? ref.layout.views[name] : undefined;
  return view?.bool ? { layout: ref.layout, ref: present(program.lowering, node.object, ref), view } : undefined;
}

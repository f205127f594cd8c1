/** Lowers a stage's program to IR: binds its parameters, runs its body, closes its ways out. */
import type { AnyMap, AnyStage, FnDecl, Intrinsic, Layout } from '@tailrace/stage';
import type { Expression, Function as ParsedFunction, Node as SyntaxNode, VariableDeclaration } from 'acorn';
import type { HookModel } from '../hook-model.ts';
import type { Graph } from '../ir.ts';
import type { Placement } from '../placement.ts';
import { readSource } from '../source.ts';
import { condition } from './condition.ts';
import { Ends } from './ends.ts';
import { expression } from './expression.ts';
import { LastUses } from './last-use.ts';
import { Lowering } from './lowering.ts';
import { bigintOf } from './memory.ts';
import { type NamesOperand, type Operand, UNDEFINED, type Variable } from './operand.ts';
import { startSum } from './packet-sum.ts';
import { type Frame, functionScope, type LoopTargets, type Program, type Scope } from './program.ts';
import { bind, statements } from './statement.ts';
import { Exits } from './verdict.ts';

export interface Lowered {
  readonly graph: Graph;
  /** Map reference name to declaration. */
  readonly maps: ReadonlyMap<string, AnyMap>;
  /** Labels that some path leaves through. */
  readonly exits: readonly string[];
  /** Reasons that some path gives, as `drop:` or `abort:` with the reason. */
  readonly reasons: ReadonlySet<string>;
  /** Outcomes that some path has, by the names of their counters, and the metadata fields that all of those have written. */
  readonly writes: ReadonlyMap<string, ReadonlySet<string>>;
}

/** Lowers one stage. Throws CompileError. */
export function lowerStage(stage: AnyStage, hook: HookModel, placement: Placement | undefined): Lowered {
  const source = readSource(stage.program, stage.name);
  const lowering = new Lowering(stage.name, source, hook);
  const ends = new Ends();
  const program = new StageProgram(lowering, stage, placement, { ends });
  lowering.at(source.node);
  startSum(lowering);
  program.run(source.node);
  ends.finish();
  return { graph: lowering.graph, maps: program.maps, exits: program.exits, reasons: program.reasons, writes: program.writes };
}

/** Ways out that take a label. */
const LABELLED: readonly string[] = ['exit', 'drop', 'abort'];

/** What the parts of one program have in common. */
interface Shared {
  readonly ends: Ends;
  /** Map reference name to declaration. */
  readonly maps?: Map<string, AnyMap>;
}

/** One stage's body on its way into a program. */
export class StageProgram implements Program {
  readonly lowering: Lowering;
  readonly stage: AnyStage;
  readonly placement: Placement | undefined;
  readonly maps: Map<string, AnyMap>;
  readonly active = new Set<FnDecl>();
  scope: Scope = { names: new Map(), parent: undefined };
  frame: Frame = { kind: 'program' };
  loops: LoopTargets[] = [];
  readonly #exits: Exits;
  readonly #lastUses = new LastUses();

  constructor(lowering: Lowering, stage: AnyStage, placement: Placement | undefined, { ends, maps = new Map() }: Shared) {
    this.lowering = lowering;
    this.stage = stage;
    this.placement = placement;
    this.maps = maps;
    this.#exits = new Exits(this, ends);
  }

  get exits(): readonly string[] {
    return this.#exits.labels;
  }

  get reasons(): ReadonlySet<string> {
    return this.#exits.reasons;
  }

  get writes(): ReadonlyMap<string, ReadonlySet<string>> {
    return this.#exits.writes;
  }

  /** Lowers the body from where the path is, and its ways out. */
  run(node: ParsedFunction): void {
    const { lowering } = this;
    lowering.isLive = (variable, at) => !this.#lastUses.isOver(variable, lowering.source, at, this.loops.length > 0);
    this.#bindParameters(node, [{ kind: 'context' }, this.bag(this.stage.uses, 'uses')]);
    this.#body(node);
    const last = node.body.type === 'BlockStatement' ? node.body.body.at(-1) : undefined;
    if (lowering.block) lowering.fail(last ?? node, 'verdict', 'a path ends without a verdict', 'return ctx.next(), ctx.drop(), …');
    this.#exits.finish();
  }

  expression(node: Expression): Operand {
    return expression(this, node);
  }

  statements(body: readonly SyntaxNode[]): void {
    statements(this, body, (node, value) => this.#leave(node, value));
  }

  effect(node: Expression): void {
    const { lowering } = this;
    if (!lowering.block) return;
    lowering.at(node);
    switch (node.type) {
      case 'SequenceExpression':
        for (const e of node.expressions) this.effect(e);
        return;
      case 'LogicalExpression': {
        if (node.operator === '??') break;
        const [go, done] = [lowering.newJoin(), lowering.newJoin()];
        condition(this, node.left, node.operator === '&&' ? go : done, node.operator === '&&' ? done : go);
        lowering.enter(go);
        this.effect(node.right);
        lowering.jump(done);
        lowering.enter(done);
        return;
      }
      case 'ConditionalExpression': {
        const [then, otherwise, done] = [lowering.newJoin(), lowering.newJoin(), lowering.newJoin()];
        condition(this, node.test, then, otherwise);
        for (const [join, branch] of [
          [then, node.consequent],
          [otherwise, node.alternate],
        ] as const) {
          lowering.enter(join);
          this.effect(branch);
          lowering.jump(done);
        }
        lowering.enter(done);
        return;
      }
      case 'UnaryExpression':
        if (node.operator === 'void' || node.operator === '!') return this.effect(node.argument);
        break;
      default:
    }
    const result = this.expression(node);
    if (result.kind === 'verdict')
      lowering.fail(node, 'verdict', 'the verdict is not returned', `write return ${lowering.source.textOf(node)}`);
  }

  declare(name: string, operand: Operand, kind: VariableDeclaration['kind']): Variable {
    const scope = kind === 'var' ? functionScope(this.scope) : this.scope;
    const known = kind === 'var' ? scope.names.get(name) : undefined;
    const variable: Variable = known ?? { name, constant: kind === 'const' };
    scope.names.set(name, variable);
    this.#lastUses.declared(variable, this.lowering.source);
    this.lowering.write(variable, operand);
    return variable;
  }

  inline(body: ParsedFunction, args: readonly Operand[], at: SyntaxNode): Operand {
    const { lowering } = this;
    const outer = { scope: this.scope, frame: this.frame, loops: this.loops };
    const done = lowering.newJoin();
    this.scope = { names: new Map(), parent: undefined };
    this.frame = { kind: 'fn', done };
    this.loops = [];
    this.#bindParameters(body, args);
    this.#body(body);
    lowering.jump(done, UNDEFINED);
    // nothing is kept for names that are out of reach, nor put together where paths meet
    for (const { environment } of done.incoming) for (const variable of this.scope.names.values()) environment.values.delete(variable);
    Object.assign(this, outer);
    const value = lowering.enter(done);
    return value ?? (done.incoming.length === 0 ? lowering.fail(at, 'verdict', 'the fn never returns') : UNDEFINED);
  }

  bag(uses: Readonly<Record<string, unknown>>, path: string): NamesOperand {
    const members = new Map<string, Operand>();
    for (const [name, value] of Object.entries(uses)) members.set(name, this.#used(value, path === 'uses' ? name : `${path}.${name}`));
    return { kind: 'names', what: path === 'uses' ? 'the second parameter' : `'${path}'`, members };
  }

  #used(value: unknown, path: string): Operand {
    switch (typeof value) {
      case 'number':
        return Number.isSafeInteger(value)
          ? this.lowering.number(value)
          : { kind: 'conflict', message: `the constant '${path}' is ${value}, expected an integer within ±2^53` };
      case 'bigint':
        return bigintOf(this.lowering, value);
      case 'boolean':
        return { kind: 'boolean', value: this.lowering.constant(value ? 1 : 0) };
      case 'string':
        return { kind: 'string', value };
      default:
    }
    if (Array.isArray(value)) return { kind: 'list', items: value.map((item, i) => this.#used(item, `${path}[${i}]`)) };
    const thing = value as { readonly kind?: string; readonly layout?: Layout };
    switch (thing.kind) {
      case 'map':
        return { kind: 'map', map: value as AnyMap, reference: this.#reference(value as AnyMap, path) };
      case 'fn': {
        const fn = value as FnDecl;
        return { kind: 'fn', fn, name: path, uses: fn.uses ? this.bag(fn.uses, path) : undefined };
      }
      case 'intrinsic':
        return { kind: 'intrinsic', intrinsic: value as Intrinsic };
      case 'structure':
        return this.bag((value as { fns: Readonly<Record<string, unknown>> }).fns, path);
      default:
    }
    if (thing.layout && typeof thing.layout === 'object' && 'size' in thing.layout) return { kind: 'schema', layout: thing.layout };
    return this.bag(value as Readonly<Record<string, unknown>>, path);
  }

  /** One reference for each map, by the first path that leads to it; another part may have used that name. */
  #reference(map: AnyMap, path: string): string {
    for (const [name, known] of this.maps) if (known === map) return name;
    let name = path;
    for (let again = 2; this.maps.has(name); again++) name = `${path}:${again}`;
    this.maps.set(name, map);
    return name;
  }

  #bindParameters(node: ParsedFunction, values: readonly Operand[]): void {
    node.params.forEach((parameter, i) => {
      bind(this, parameter, values[i] ?? UNDEFINED, 'let', parameter);
    });
  }

  #body(node: ParsedFunction): void {
    if (node.body.type === 'BlockStatement') this.statements(node.body.body);
    else this.#leave(node.body, node.body);
  }

  /** `return value`: alternatives leave one by one. */
  #leave(node: SyntaxNode, value: Expression | undefined): void {
    const { lowering, frame } = this;
    if (!lowering.block) return;
    if (frame.kind === 'fn') return lowering.jump(frame.done, value ? this.expression(value) : UNDEFINED);
    if (!value) return lowering.fail(node, 'verdict', 'a path ends without a verdict', 'return ctx.next(), ctx.drop(), …');
    switch (value.type) {
      case 'ConditionalExpression': {
        const [then, otherwise] = [lowering.newJoin(), lowering.newJoin()];
        condition(this, value.test, then, otherwise);
        lowering.enter(then);
        this.#leave(node, value.consequent);
        lowering.enter(otherwise);
        return this.#leave(node, value.alternate);
      }
      case 'SequenceExpression':
        for (const e of value.expressions.slice(0, -1)) this.effect(e);
        return this.#leave(node, value.expressions.at(-1));
      case 'CallExpression': {
        // ctx.exit(test ? 'a' : 'b') is two exits, and drops and aborts are as many for their reasons
        const [argument] = value.arguments;
        if (argument?.type === 'ConditionalExpression') {
          const callee = this.expression(value.callee as Expression);
          if (callee.kind === 'method' && callee.of?.kind === 'context' && LABELLED.includes(callee.name)) {
            const branch = (label: Expression): Expression => ({ ...value, arguments: [label] }) as Expression;
            return this.#leave(node, {
              ...argument,
              consequent: branch(argument.consequent),
              alternate: branch(argument.alternate),
            } as Expression);
          }
        }
        break;
      }
      default:
    }
    this.#exits.leave(value, this.expression(value));
  }
}

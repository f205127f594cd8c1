/**
 * Dominators of a graph (Lengauer, Tarjan: A Fast Algorithm for Finding Dominators in a Flowgraph, 1979, with simple linking): the
 * time hardly grows faster than the graph, whatever its shape. Every vertex is reached from vertex `entry`.
 */

/** For each vertex the one that immediately dominates it; the entry's is itself. */
export function immediateDominators(successors: readonly (readonly number[])[], entry: number): readonly number[] {
  const count = successors.length;
  const { vertices, numbers, parents } = depthFirst(successors, entry);
  const predecessors: number[][] = successors.map(() => []);
  for (const [from, targets] of successors.entries()) for (const to of targets) predecessors[to]?.push(from);
  // all by number in the order of the search
  const semi = Int32Array.from({ length: count }, (_, number) => number);
  const label = Int32Array.from(semi);
  const ancestor = new Int32Array(count).fill(-1);
  const dominator = new Int32Array(count);
  const bucket: number[][] = Array.from({ length: count }, () => []);
  const path: number[] = [];

  /** The vertex with the least semidominator on the way up to the root of its tree, whose way is made short. */
  const least = (number: number): number => {
    if (at(ancestor, number) < 0) return number;
    for (let up = number; at(ancestor, at(ancestor, up)) >= 0; up = at(ancestor, up)) path.push(up);
    for (let low = path.pop(); low !== undefined; low = path.pop()) {
      const above = at(ancestor, low);
      if (at(semi, at(label, above)) < at(semi, at(label, low))) label[low] = at(label, above);
      ancestor[low] = at(ancestor, above);
    }
    return at(label, number);
  };

  for (let number = count - 1; number > 0; number--) {
    const parent = at(parents, number);
    for (const from of predecessors[vertices[number] as number] ?? []) {
      const known = at(semi, least(at(numbers, from)));
      if (known < at(semi, number)) semi[number] = known;
    }
    bucket[at(semi, number)]?.push(number);
    ancestor[number] = parent;
    for (const low of bucket[parent] ?? []) {
      const known = least(low);
      dominator[low] = at(semi, known) < at(semi, low) ? known : parent;
    }
    bucket[parent] = [];
  }
  for (let number = 1; number < count; number++)
    if (at(dominator, number) !== at(semi, number)) dominator[number] = at(dominator, at(dominator, number));
  return successors.map((_, vertex) => vertices[at(dominator, at(numbers, vertex))] as number);
}

/** Whether one vertex dominates another, by the tree of immediate dominators. */
export function dominance(dominators: readonly number[], entry: number): (above: number, below: number) => boolean {
  const children: number[][] = dominators.map(() => []);
  for (const [vertex, dominator] of dominators.entries()) if (vertex !== entry) children[dominator]?.push(vertex);
  const { numbers, last } = depthFirst(children, entry);
  return (above, below) => at(numbers, above) <= at(numbers, below) && at(numbers, below) <= at(last, above);
}

interface Search {
  /** Vertices in the order in which they are found. */
  readonly vertices: readonly number[];
  /** Places in that order, by vertex. */
  readonly numbers: Int32Array;
  /** By number: the number of the vertex that it was found from. */
  readonly parents: Int32Array;
  /** The highest number below a vertex, by vertex. */
  readonly last: Int32Array;
}

function depthFirst(successors: readonly (readonly number[])[], entry: number): Search {
  const numbers = new Int32Array(successors.length).fill(-1);
  const parents = new Int32Array(successors.length);
  const last = new Int32Array(successors.length);
  const vertices: number[] = [];
  const path = [{ vertex: entry, next: 0 }];
  numbers[entry] = 0;
  vertices.push(entry);
  for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
    const to = successors[top.vertex]?.[top.next++];
    if (to === undefined) {
      last[top.vertex] = vertices.length - 1;
      path.pop();
    } else if (at(numbers, to) < 0) {
      numbers[to] = vertices.length;
      parents[vertices.length] = at(numbers, top.vertex);
      vertices.push(to);
      path.push({ vertex: to, next: 0 });
    }
  }
  return { vertices, numbers, parents, last };
}

function at(numbers: Int32Array, index: number): number {
  return numbers[index] as number;
}

/**
 * Walking the graph backwards. `backward` accumulates gradients in leaves and frees the graph as it walks; `gradients`
 * returns those of chosen tensors; `grad(f)` is the function that maps f's arguments to them; `createGraph` records the
 * walk itself, so that its results can be differentiated again. `checkpoint` trades memory for a second forward.
 * The rules are in the op records; here is only the order in which they run and what is summed.
 */

import { FirstRun } from './first-run.ts'
import { enableGrad, gradEnabled, labelled, Node, newestNode, noGrad } from './graph.ts'
import { NewestFirst } from './newest-first.ts'
import { type AnyOp, erase } from './op.ts'
import { add } from './ops/elementwise.ts'
import { copy, view } from './ops/movement.ts'
import { sumTo } from './ops/reduce.ts'
import { Rng } from './random.ts'
import { scope } from './scope.ts'
import { ShapeError, sameShape, show } from './shape.ts'
import { full, Tensor } from './tensor.ts'

interface Walk {
  /** Record the walk and free nothing. */
  readonly createGraph: boolean
  /** Whether the gradient of this value is to be handed to `sink`. */
  isTarget(node: Node, index: number): boolean
  /** Whether a target lies below this node. */
  leadsOn(node: Node): boolean
  /** Takes a target's gradient, which it then owns. */
  sink(node: Node, index: number, g: Tensor): void
}

/** A gradient of a leaf that a checkpoint captured: found while the checkpoint's own inputs were asked for. */
interface Captured {
  readonly node: Node
  readonly index: number
  readonly g: Tensor
}

type Slots = (Tensor | undefined)[]

/** Sends `cotangents` from `outputs` through the graph, newest node first, so that every sum is complete when used. */
function walk(outputs: readonly Tensor[], cotangents: readonly Tensor[], plan: Walk): void {
  const { createGraph } = plan
  const pending = new Map<Node, Slots>() // per node, the gradients of its outputs: handles owned by this walk
  const queue = new NewestFirst()

  const send = (node: Node, index: number, g: Tensor) => {
    let slots = pending.get(node)
    if (slots === undefined) {
      slots = []
      pending.set(node, slots)
      queue.push(node)
    }
    const before = slots[index]
    slots[index] = before === undefined ? g : add(before, g)
    if (before !== undefined && !createGraph) {
      before.dispose()
      g.dispose()
    }
  }

  for (let i = 0; i < outputs.length; i++) {
    const { node, outputIndex } = outputs[i]
    if (node !== null) send(node, outputIndex, cotangents[i].alias())
  }
  for (let node = queue.pop(); node !== null; node = queue.pop()) {
    const slots = pending.get(node)!
    pending.delete(node)
    for (let i = 0; i < slots.length; i++) {
      const g = slots[i]
      if (g !== undefined && plan.isTarget(node, i)) plan.sink(node, i, g.alias())
    }
    if (node.op !== null && plan.leadsOn(node)) {
      const { inputs, inputIndex } = node
      const at = node
      const captured: Captured[] = []
      const name = at.label === null ? null : `the gradient of ${at.label}`
      const run = () => labelled(name, () => [inputGradients(at, slots, plan, captured), captured] as const)
      const [gs] = createGraph ? run() : scope(run)
      for (const { node, index, g } of captured) plan.sink(node, index, g)
      for (let i = 0; i < inputs.length; i++) {
        const g = gs[i]
        if (g !== null) send(inputs[i]!, inputIndex[i], g)
      }
      if (!createGraph) node.release()
    }
    if (!createGraph) for (let i = 0; i < slots.length; i++) slots[i]?.dispose()
  }
}

/** The gradient of each input of a node, each a handle of its own; null where none is wanted. */
function inputGradients(node: Node, slots: Slots, plan: Walk, captured: Captured[]): (Tensor | null)[] {
  const { inputs, inputIndex, inputShapes } = node
  const wanted = inputs.map((x, i) => x !== null && (plan.isTarget(x, inputIndex[i]) || plan.leadsOn(x)))
  const op = erase(node.op!)
  if (node.op === checkpointOp) return rerun(node, slots[0]!, plan, wanted, captured)
  if (op.many === undefined && op.vjp !== undefined) {
    const thunks = op.vjp(slots[0]!, node.saved, node.attrs, inputShapes)
    // A rule may hand on its argument, or one tensor twice: what is sent on must be handles of their own.
    return wanted.map((want, i) => (want ? sumTo(thunks[i](), inputShapes[i]).alias() : null))
  }
  // The gradient of a fused gradient: through the plain ops that it stands for, on a nested tape.
  if (op.decompose === undefined) throw new Error(`backward: '${op.name}' has neither a gradient nor a decomposition`)
  const x = node.saved.map((t, i) => (wanted[i] ? independent(t, plan.createGraph) : t))
  const since = newestNode()
  const ys = enableGrad(() => [op.decompose!(x, node.attrs)].flat())
  const given = ys.flatMap((_, i) => (slots[i] === undefined ? [] : [i]))
  const found = pull(
    given.map(i => ys[i]),
    given.map(i => slots[i]!),
    x.filter((_, i) => wanted[i]),
    plan.createGraph,
    node => node.id > since,
  )
  return wanted.map(want => (want ? found.shift()! : null))
}

/**
 * The value of `t` as an input of its own: gradients by it are by this use alone, even where the same tensor is used
 * twice, and stop here. `linked` still lets a recorded computation be differentiated by what `t` came from.
 */
function independent(t: Tensor, linked: boolean): Tensor {
  if (t.dtype === 'i32') return t
  return linked && t.node !== null ? enableGrad(() => view(t)) : t.requireGrad()
}

/** Gradients of `outputs` with the given cotangents by `inputs`; zeros where an input plays no part. */
function pull(
  outputs: readonly Tensor[],
  cotangents: readonly Tensor[],
  inputs: readonly Tensor[],
  createGraph: boolean,
  leadsOn?: (node: Node) => boolean,
): Tensor[] {
  const found = new Map<Node, Slots>()
  for (const { node } of inputs) if (node !== null) found.set(node, [])
  const below = leadsOn === undefined ? leadingTo(outputs, found) : undefined
  walk(outputs, cotangents, {
    createGraph,
    isTarget: node => found.has(node),
    leadsOn: leadsOn ?? (node => below!.has(node)),
    sink: (node, index, g) => {
      const slots = found.get(node)!
      const before = slots[index] // a checkpoint may hand on a captured leaf's gradient in parts
      slots[index] = before === undefined ? g : add(before, g)
    },
  })
  return inputs.map(x => {
    const g = x.node === null ? undefined : found.get(x.node)![x.outputIndex]
    return g?.alias() ?? full(x.shape, 0, { dtype: x.dtype, backend: x.backend })
  })
}

/** The nodes under `outputs` below which there is a target. */
function leadingTo(outputs: readonly Tensor[], targets: ReadonlyMap<Node, unknown>): Set<Node> {
  const leads = new Set<Node>()
  const seen = new Set<Node>()
  const found: Node[] = []
  const open = outputs.flatMap(({ node }) => node ?? [])
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (seen.has(node)) continue
    seen.add(node)
    found.push(node)
    for (const input of node.inputs) if (input !== null) open.push(input)
  }
  // Oldest first: inputs are settled before their consumers. A checkpoint may have captured any leaf.
  for (const node of found.sort((a, b) => a.id - b.id)) {
    const on = node.inputs.some(input => input !== null && (targets.has(input) || leads.has(input)))
    if (on || node.op === checkpointOp) leads.add(node)
  }
  return leads
}

function cotangentOf(y: Tensor, given: Tensor | undefined): Tensor {
  if (given === undefined) {
    if (y.size !== 1)
      throw new ShapeError(`backward: wanted a single element or a cotangent, got shape ${show(y.shape)}`)
    return full(y.shape, 1, { dtype: y.dtype, backend: y.backend })
  }
  if (!sameShape(given.shape, y.shape))
    throw new ShapeError(`backward: the cotangent must have shape ${show(y.shape)}, got ${show(given.shape)}`)
  return given
}

/**
 * Adds d output / d leaf to `.grad` of every leaf that requires a gradient, and frees the graph. `cotangent` (the shape
 * of the output) is 1 unless said. Throws when the output has several elements and none is given, when nothing
 * requires a gradient, and when a saved tensor was changed in place.
 */
export function backward(output: Tensor, cotangent?: Tensor): void {
  if (output.node === null) throw new Error('backward: the output does not depend on a tensor that requires a gradient')
  const started = new Set<Tensor>()
  noGrad(() => scope(() => walk([output], [cotangentOf(output, cotangent)], intoLeaves(started))))
  for (const leaf of started) ownGradient(leaf)
}

/** Gives a leaf's gradient memory of its own where a rule or the caller shares it: gradients are written in place. */
function ownGradient(leaf: Tensor): void {
  const g = leaf.grad!
  if (g.storage.holds === 1) return
  leaf.grad = noGrad(() => copy(g)).persist()
  g.dispose()
}

/** Accumulates in `.grad` of the leaves, and notes those that had none. */
const intoLeaves = (started: Set<Tensor>): Walk => ({
  createGraph: false,
  isTarget: node => node.leaf !== null,
  leadsOn: () => true,
  sink: ({ leaf }, _, g) => {
    if (leaf!.disposed) g.dispose()
    else if (leaf!.grad === null) {
      leaf!.grad = g.persist()
      started.add(leaf!)
    } else {
      const total = add(leaf!.grad, g)
      leaf!.grad.replaceWith(total)
      total.dispose()
      g.dispose()
    }
  },
})

/** How a gradient is taken. */
export interface GradOptions {
  /** Record the gradient's own computation, so that it can be differentiated; the graph is then not freed. */
  readonly createGraph?: boolean
}

/**
 * The gradients of one result of `f` by its inputs, each taken as independent of the others: what the decomposition of
 * a fused gradient is. Recorded, so that it can be differentiated, where recording is on.
 */
export function vjpOf(f: (x: readonly Tensor[]) => Tensor, x: readonly Tensor[], cotangent: Tensor): Tensor[] {
  const inputs = x.map(t => independent(t, gradEnabled()))
  const since = newestNode()
  const y = enableGrad(() => f(inputs))
  return pull([y], [cotangent], inputs, gradEnabled(), node => node.id > since)
}

/**
 * d output / d input for each input, of their shapes: zeros for one that the output does not depend on, or that requires
 * no gradient. Leaves' `.grad` stay as they are. Throws as `backward` does, but where nothing requires a gradient.
 */
export function gradients(
  output: Tensor,
  inputs: readonly Tensor[],
  { cotangent, createGraph = false }: GradOptions & { readonly cotangent?: Tensor } = {},
): Tensor[] {
  const run = () => pull([output], [cotangentOf(output, cotangent)], inputs, createGraph)
  return createGraph ? run() : noGrad(() => scope(run))
}

let nesting = 0

/**
 * The function that maps the arguments of `f` (which returns one element) to its gradients by them, each argument taken
 * as independent of the others. Inside another `grad`, or with createGraph, its results can be differentiated:
 * grad(x => sum(grad(f)(x)[0])) is a second derivative. Otherwise what `f` made is freed, as at the end of a scope.
 */
export function grad<X extends readonly Tensor[]>(
  f: (...x: X) => Tensor,
  { createGraph = false }: GradOptions = {},
): (...x: X) => Tensor[] {
  return (...x) => {
    const record = createGraph || nesting > 0
    const run = () => {
      const inputs = x.map(t => independent(t, record))
      const y = enableGrad(() => f(...(inputs as unknown as X)))
      return gradients(y, inputs, { createGraph: record })
    }
    nesting++
    try {
      return record ? run() : scope(run)
    } finally {
      nesting--
    }
  }
}

// ---- checkpoint -----------------------------------------------------------------------------------------------------

type Segment = (inputs: readonly Tensor[], rng: Rng | undefined) => Tensor

// Not in the registry: it computes nothing of its own, and marks a place where the graph is built on the way back.
const checkpointOp = { name: 'checkpoint' } as unknown as AnyOp

/**
 * fn(inputs, rng), of any shapes, of which only the inputs are kept: `backward` runs `fn` a second time for what lies
 * between, with `rng` where it was the first time. Gradients reach the inputs and leaves that `fn` captured; any other
 * tensor that requires a gradient must be passed as an input (throws otherwise). Nothing that `fn` captured may change
 * before `backward`, which throws then. No createGraph.
 */
export function checkpoint(fn: Segment, inputs: readonly Tensor[], rng?: Rng): Tensor {
  // Each result is a handle of its own: `fn` may return one that is not ours to dispose of.
  if (!gradEnabled()) return scope(() => fn(inputs, rng).detach())
  const state = rng?.state()
  const first = new FirstRun()
  const run = () => {
    const detached = inputs.map(x => x.detach())
    return first.watch(() => fn(detached, rng)).detach()
  }
  const y = noGrad(() => scope(run))
  if (y.dtype === 'i32' || !(first.requiresGrad || inputs.some(x => x.requiresGrad))) return y
  first.settle(y.storage)
  const again = (xs: readonly Tensor[]) => {
    first.checkUnchanged()
    return fn(xs, state && new Rng(state))
  }
  const node = new Node(checkpointOp, again, null, inputs)
  node.save(inputs)
  const result = new Tensor(y.storage, y.shape, node)
  y.dispose()
  return result
}

function rerun(node: Node, g: Tensor, plan: Walk, wanted: readonly boolean[], captured: Captured[]): (Tensor | null)[] {
  if (plan.createGraph)
    throw new Error('checkpoint: createGraph through a checkpoint is not supported; call fn directly')
  const leaves = node.saved.map((x, i) => (wanted[i] ? x.requireGrad() : x.detach()))
  const since = newestNode()
  const y = enableGrad(() => (node.attrs as (xs: readonly Tensor[]) => Tensor)(leaves))
  const own = new Map(leaves.map((x, i) => [x.node, i]))
  const found = wanted.map((): Tensor | null => null)
  walk([y], [g], {
    createGraph: false,
    isTarget: (n, i) => own.has(n) || plan.isTarget(n, i),
    leadsOn: n => {
      if (n.id < since && n.op !== null)
        throw new Error(`checkpoint: fn used a result of '${n.op.name}' from outside; pass it as an input`)
      return true
    },
    sink: (n, index, gradient) => {
      const k = own.get(n)
      if (k === undefined) captured.push({ node: n, index, g: gradient })
      // A checkpoint inside this one may have captured an input, and hands on its part of the gradient.
      else found[k] = found[k] === null ? gradient : add(found[k], gradient)
    },
  })
  // An input that plays no part still gets its zeros: consumers below count on a gradient.
  return found.map((f, i) => f ?? (wanted[i] ? full(leaves[i].shape, 0, { dtype: g.dtype, backend: g.backend }) : null))
}

/**
 * Walking the graph backwards. `backward` accumulates gradients in leaves and frees the graph as it walks; `gradients`
 * returns those of chosen tensors; `createGraph` records the walk itself, so that its results can be differentiated again.
 * The rules are in the op records; here is only the order in which they run and what is summed. `checkpoint`, which trades memory for a second forward, is checkpoint.ts.
 */

import { aBoolean, aTensor, check, checkOneDType, checkOptions, checkTensor, tensors } from './arguments.ts'
import { enableGrad, gradEnabled, label, labelled, type Node, newestNode, noGrad } from './graph.ts'
import { callHooks, isHooked } from './hooks.ts'
import { NewestFirst } from './newest-first.ts'
import { untyped } from './op.ts'
import { sumTo } from './ops/broadcast.ts'
import { add } from './ops/elementwise.ts'
import { copy, view } from './ops/movement.ts'
import { scope, scopeOfList } from './scope.ts'
import { type Shape, ShapeError, sameShape, show } from './shape.ts'
import { full, type Tensor } from './tensor.ts'
import { atCaller } from './traceback.ts'

/** Settings of a walk over the graph, and the gradients to compute. */
export interface Walk {
  /** Record the walk and free nothing. */
  readonly createGraph: boolean
  /** Leave the graph as it is, for another walk. */
  readonly retainGraph?: boolean
  /** Call hooks on nodes newer than this one only; all by default. */
  readonly hooksSince?: number
  /** True if the gradient of this value is passed to `deliver`. */
  isTarget(node: Node, index: number): boolean
  /** True if a target lies below this node. */
  leadsToTarget(node: Node): boolean
  /** Receives a target's gradient and owns it. */
  deliver(node: Node, index: number, g: Tensor): void
}

/** The gradient of a leaf that a checkpoint captured, found while the checkpoint's inputs were differentiated. */
export interface Captured {
  readonly node: Node
  readonly index: number
  readonly g: Tensor
}

type Slots = (Tensor | undefined)[]

/** Request to a checkpoint for the gradients of its inputs. */
export interface SegmentRequest {
  /** The walk that asks. */
  readonly plan: Walk
  /** Per input: true if its gradient is needed. */
  readonly wanted: readonly boolean[]
  /** Receives the gradients of leaves that the segment captured. */
  readonly captured: Captured[]
}

/** Sends `cotangents` from `outputs` through the graph, newest node first, so that every sum is complete when used. */
export function walk(outputs: readonly Tensor[], cotangents: readonly Tensor[], plan: Walk): void {
  const { createGraph, retainGraph = createGraph, hooksSince = 0 } = plan
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
    if (isHooked(node) && node.id > hooksSince)
      for (let i = 0; i < slots.length; i++) {
        const g = slots[i]
        if (g !== undefined) slots[i] = callHooks(node, i, g, createGraph)
      }
    for (let i = 0; i < slots.length; i++) {
      const g = slots[i]
      if (g !== undefined && plan.isTarget(node, i)) plan.deliver(node, i, g.alias())
    }
    if (node.leaf === null && plan.leadsToTarget(node)) {
      const { inputs, inputIndex } = node
      const at = node
      const captured: Captured[] = []
      const gs = createGraph
        ? labelledGradients(at, slots, plan, captured)
        : scopeOfList(() => labelledGradients(at, slots, plan, captured))
      // A leaf with hooks waits until its gradient is complete.
      for (const { node, index, g } of captured)
        if (isHooked(node)) send(node, index, g)
        else plan.deliver(node, index, g)
      for (let i = 0; i < inputs.length; i++) {
        const g = gs[i]
        if (g !== null) send(inputs[i]!, inputIndex[i], g)
      }
      if (!retainGraph) node.release()
    }
    if (!createGraph) for (let i = 0; i < slots.length; i++) slots[i]?.dispose()
  }
}

/**
 * The gradients of the inputs of a node and then those that a checkpoint captured, each a new handle, null where none is
 * wanted. Runs under the name of the node's label.
 */
function labelledGradients(node: Node, slots: Slots, plan: Walk, captured: Captured[]): (Tensor | null)[] {
  const gs =
    node.label === null && label() === null
      ? inputGradients(node, slots, plan, captured)
      : labelled(node.label === null ? null : `the gradient of ${node.label}`, () =>
          inputGradients(node, slots, plan, captured),
        )
  for (const { g } of captured) gs.push(g)
  return gs
}

/** The gradient of each input of a node, each a handle of its own; null where none is wanted. */
function inputGradients(node: Node, slots: Slots, plan: Walk, captured: Captured[]): (Tensor | null)[] {
  const { inputs, inputIndex, inputShapes } = node
  const wanted = inputs.map((x, i) => x !== null && (plan.isTarget(x, inputIndex[i]) || plan.leadsToTarget(x)))
  if (node.segment !== null) return node.segment.inputGradients(node, slots[0]!, { plan, wanted, captured })
  const op = untyped(node.op!)
  const thunks =
    op.many === undefined
      ? op.vjp?.(slots[0]!, node.saved, node.attrs, inputShapes)
      : op.vjp?.(slots, node.attrs, inputShapes)
  if (thunks !== undefined) {
    // A rule may hand on its argument, or one tensor twice: what is sent on must be handles of their own.
    return wanted.map((want, i) => (want ? ofShape(thunks[i](), inputShapes[i]).alias() : null))
  }
  // The gradient of a fused gradient: through the plain ops that it stands for, on a nested tape.
  if (op.decompose === undefined)
    throw atCaller(new Error(`backward: '${op.name}' has neither a gradient nor a decomposition`))
  const x = node.saved.map((t, i) => (wanted[i] ? independent(t, plan.createGraph) : t))
  const since = newestNode()
  const ys = enableGrad(() => [op.decompose!(x, node.attrs)].flat())
  const given = ys.flatMap((_, i) => (slots[i] === undefined ? [] : [i]))
  const found = pull(
    given.map(i => ys[i]),
    given.map(i => slots[i]!),
    x.filter((_, i) => wanted[i]),
    { createGraph: plan.createGraph, leadsToTarget: node => node.id > since },
  )
  return wanted.map(want => (want ? found.shift()! : null))
}

/** The gradient of an operand that may have been broadcast. */
function ofShape(g: Tensor, shape: Shape): Tensor {
  return sameShape(g.shape, shape) ? g : sumTo(g, shape)
}

/**
 * The value of `t` as an input of its own: gradients by it are by this use alone, even where the same tensor is used
 * twice, and stop here. `linked` still lets a recorded computation be differentiated by what `t` came from.
 */
export function independent(t: Tensor, linked: boolean): Tensor {
  if (t.dtype === 'i32') return t
  return linked && t.node !== null ? enableGrad(() => view(t)) : t.detach().requireGrad()
}

interface PullOptions {
  readonly createGraph: boolean
  readonly retainGraph?: boolean
  /** True if an input lies below a node. By default the graph is searched for such nodes. */
  readonly leadsToTarget?: (node: Node) => boolean
}

/** Gradients of `outputs` with the given cotangents by `inputs`; zeros where an input plays no part. */
export function pull(
  outputs: readonly Tensor[],
  cotangents: readonly Tensor[],
  inputs: readonly Tensor[],
  { createGraph, retainGraph = createGraph, leadsToTarget }: PullOptions,
): Tensor[] {
  const found = new Map<Node, Slots>()
  for (const { node } of inputs) if (node !== null) found.set(node, [])
  const below = leadsToTarget === undefined ? leadingTo(outputs, found) : undefined
  walk(outputs, cotangents, {
    createGraph,
    retainGraph,
    isTarget: node => found.has(node),
    leadsToTarget: leadsToTarget ?? (node => below!.has(node)),
    deliver: (node, index, g) => {
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
    if (on || node.segment !== null) leads.add(node)
  }
  return leads
}

export function cotangentOf(op: string, y: Tensor, given: Tensor | undefined): Tensor {
  if (given === undefined) {
    if (y.size !== 1)
      throw new ShapeError(`${op}: expected a single element or a cotangent, got shape ${show(y.shape)}`)
    return full(y.shape, 1, { dtype: y.dtype, backend: y.backend })
  }
  checkOneDType(op, { output: y, cotangent: given })
  if (!sameShape(given.shape, y.shape))
    throw new ShapeError(`${op}: the cotangent must have shape ${show(y.shape)}, got ${show(given.shape)}`)
  return given
}

/** How long the graph lives. */
export interface BackwardOptions {
  /** Keep the graph, so that a gradient through it can be taken again. Default: false. */
  readonly retainGraph?: boolean
}

/**
 * Adds d output / d leaf to `.grad` of every leaf that requires a gradient, and frees the graph, unless `retainGraph` says
 * otherwise. `cotangent` (the shape of the output) is 1 by default. Throws when the output has several elements and none
 * is given, when nothing requires a gradient, and when a saved tensor was changed in place.
 */
export function backward(output: Tensor, cotangent?: Tensor, options: BackwardOptions = {}): void {
  checkOptions('backward', options, { retainGraph: aBoolean })
  const { retainGraph = false } = options
  checkTensor('backward', 'output', output)
  if (output.node === null)
    throw atCaller(new Error('backward: the output does not depend on a tensor that requires a gradient'))
  const started = new Set<Tensor>()
  const plan = { ...intoLeaves(started), retainGraph }
  noGrad(() => scope(() => walk([output], [cotangentOf('backward', output, cotangent)], plan)))
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
  leadsToTarget: () => true,
  deliver: ({ leaf }, _, g) => {
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

/** Options of `gradients`. */
export interface GradOptions {
  /** Record the gradient's own computation, so that it can be differentiated; the graph is then not freed. */
  readonly createGraph?: boolean
}

/** Options of `gradients`. */
export interface GradientsOptions extends GradOptions, BackwardOptions {
  /** Gradient of the output, of its shape; 1 by default. */
  readonly cotangent?: Tensor
}

/**
 * The gradients of one result of `f` by its inputs, each taken as independent of the others: what the decomposition of
 * a fused gradient is. Recorded, so that it can be differentiated, where recording is on.
 */
export function vjpOf(f: (x: readonly Tensor[]) => Tensor, x: readonly Tensor[], cotangent: Tensor): Tensor[] {
  const inputs = x.map(t => independent(t, gradEnabled()))
  const since = newestNode()
  const y = enableGrad(() => f(inputs))
  return pull([y], [cotangent], inputs, { createGraph: gradEnabled(), leadsToTarget: node => node.id > since })
}

/**
 * d output / d input for each input, of their shapes: zeros for one that the output does not depend on, or that requires
 * no gradient. Leaves' `.grad` stay as they are. Throws as `backward` does, but where nothing requires a gradient, and if
 * an input is i32.
 */
export function gradients(output: Tensor, inputs: readonly Tensor[], options: GradientsOptions = {}): Tensor[] {
  checkTensor('gradients', 'output', output)
  check('gradients', 'inputs', inputs, tensors)
  checkOptions('gradients', options, { createGraph: aBoolean, retainGraph: aBoolean, cotangent: aTensor })
  return gradientsOf('gradients', output, inputs, options)
}

function gradientsOf(
  op: string,
  output: Tensor,
  inputs: readonly Tensor[],
  { cotangent, createGraph = false, retainGraph = createGraph }: GradientsOptions,
): Tensor[] {
  for (const x of inputs) checkDifferentiable(op, x)
  const run = () => pull([output], [cotangentOf(op, output, cotangent)], inputs, { createGraph, retainGraph })
  return createGraph ? enableGrad(run) : noGrad(() => scope(run))
}

/** Throws if a tensor cannot have a gradient. */
export function checkDifferentiable(op: string, x: Tensor): void {
  checkTensor(op, 'an input', x)
  if (x.dtype === 'i32')
    throw atCaller(
      new Error(`${op}: expected tensors of f32 or f64 to differentiate by, got i32 of shape ${show(x.shape)}`),
    )
}

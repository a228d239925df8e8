/**
 * Hooks on gradients: functions that see, and may replace, the gradient of a tensor while backward computes it. They are
 * kept beside the graph, so that a node without hooks costs nothing. `Tensor.registerHook` is how they are added.
 */

import { checkTensor } from './arguments.ts'
import { type Node, noGrad } from './graph.ts'
import { scope } from './scope.ts'
import { ShapeError, sameShape, show } from './shape.ts'
import type { Tensor } from './tensor.ts'

/**
 * Sees the gradient of a tensor. A tensor that it returns, of the same shape, dtype and backend, takes the gradient's
 * place.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type GradientHook = (g: Tensor) => Tensor | void

interface Hook {
  readonly index: number
  readonly call: GradientHook
}

const hooks = new WeakMap<Node, readonly Hook[]>()
/** True once there was a hook: until then a walk asks for none. */
let used = false

/** Adds a hook on the gradient of a node's result. Returns a function that removes it. */
export function addHook(node: Node, index: number, call: GradientHook): () => void {
  const added = { index, call }
  used = true
  hooks.set(node, [...(hooks.get(node) ?? []), added])
  return () => {
    const rest = (hooks.get(node) ?? []).filter(hook => hook !== added)
    if (rest.length === 0) hooks.delete(node)
    else hooks.set(node, rest)
  }
}

/** True if a hook sees the gradient of one of the node's results. */
export function isHooked(node: Node): boolean {
  return used && hooks.has(node)
}

/**
 * Calls the hooks of a node's result in the order in which they were added, each on the result of the one before. Returns the
 * final gradient, a handle of its own. Frees what hooks make and `g`, unless the walk is recorded. Throws if a hook
 * returns another kind of tensor.
 */
export function callHooks(node: Node, index: number, g: Tensor, recorded: boolean): Tensor {
  const run = (): Tensor => {
    let current = g
    for (const hook of hooks.get(node) ?? []) if (hook.index === index) current = checked(hook.call(current), current)
    return current.alias()
  }
  if (recorded) return run()
  const result = noGrad(() => scope(run))
  g.dispose()
  return result
}

// biome-ignore lint/suspicious/noConfusingVoidType: as GradientHook
function checked(got: Tensor | void, g: Tensor): Tensor {
  if (got === undefined) return g
  checkTensor('registerHook', 'the result of a hook', got)
  if (!sameShape(got.shape, g.shape) || got.dtype !== g.dtype || got.backend !== g.backend)
    throw new ShapeError(
      `registerHook: expected a gradient of ${g.dtype} ${show(g.shape)} on ${g.backend.name}, ` +
        `got ${got.dtype} ${show(got.shape)} on ${got.backend.name}`,
    )
  return got
}

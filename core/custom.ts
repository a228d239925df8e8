/**
 * `customOp`: an operation with a gradient of your own, from plain ops. Use it where the derivative that follows from the
 * forward is unstable, expensive or not the one that is wanted, such as a straight-through estimator. An op with a kernel
 * is a record instead: op.ts.
 */

import { aFunction, aString, check, checkOptions } from './arguments.ts'
import { gradEnabled, Node, noGrad } from './graph.ts'
import type { AnyOp, Op } from './op.ts'
import { scope } from './scope.ts'
import { ShapeError, sameShape, show } from './shape.ts'
import { full, Tensor } from './tensor.ts'
import { atCaller } from './traceback.ts'

/** An operation on tensors, and its gradient. */
export interface CustomOp<X extends readonly Tensor[]> {
  /** Its name in messages and in the text of its results. Default: 'customOp'. */
  readonly name?: string
  /** Computes the result. What it runs is not recorded. */
  forward(...x: X): Tensor
  /**
   * Returns for each input the gradient, of its shape, or null for one without; `g` has the shape of the result. What it
   * runs is recorded where derivatives of the gradient are asked for.
   */
  backward(g: Tensor, saved: { readonly x: X; readonly y: Tensor }): { readonly [I in keyof X]: Tensor | null }
}

/**
 * The function that runs `forward` and whose gradient is `backward`. It saves the inputs and the result, (…), for the
 * gradient. Throws if `forward` or `backward` return something else than they should.
 */
export function customOp<X extends readonly Tensor[]>(definition: CustomOp<X>): (...x: X) => Tensor {
  checkOptions('customOp', definition, { name: aString, forward: aFunction, backward: aFunction })
  const { name = 'customOp', forward, backward } = definition
  check('customOp', 'forward', forward, aFunction)
  check('customOp', 'backward', backward, aFunction)
  const op: Pick<Op<readonly Tensor[], null, readonly Tensor[]>, 'name' | 'vjp'> = {
    name,
    vjp(g, saved, _, shapes) {
      let computed: readonly (Tensor | null)[] | undefined
      const all = () => {
        computed ??= backward(g, { x: saved.slice(0, -1) as unknown as X, y: saved[saved.length - 1] })
        if (computed.length !== shapes.length)
          throw atCaller(
            new RangeError(`${name}: expected ${shapes.length} gradients of backward, got ${computed.length}`),
          )
        return computed
      }
      return shapes.map((shape, i) => () => {
        const gradient = all()[i]
        if (gradient === null) return full(shape, 0, { dtype: g.dtype, backend: g.backend })
        if (!sameShape(gradient.shape, shape))
          throw new ShapeError(
            `${name}: expected gradient ${i + 1} of backward to have shape ${show(shape)}, got ${show(gradient.shape)}`,
          )
        return gradient
      })
    },
  }
  return (...x) => {
    const value = noGrad(() => scope(() => resultOf(name, forward(...x)).detach()))
    if (!gradEnabled() || value.dtype === 'i32' || !x.some(t => t.requiresGrad)) return value
    const node = new Node(op as unknown as AnyOp, null, x)
    const y = new Tensor(value.storage, value.shape, node)
    node.save([...x, y])
    value.dispose()
    return y
  }
}

function resultOf(name: string, y: unknown): Tensor {
  if (!(y instanceof Tensor)) throw atCaller(new TypeError(`${name}: expected a tensor of forward, got ${typeof y}`))
  return y
}

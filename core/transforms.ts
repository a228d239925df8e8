/**
 * Functions of functions: `grad(f)` maps the arguments of f to its gradients, `valueAndGrad(f)` to its value too. `vjp`
 * and `jvp` multiply the Jacobian with a cotangent and a tangent, `hessianVectorProduct` the Hessian with a vector. All take
 * each argument as independent of the others, free what f made, and can be differentiated inside one another. `jvp` is
 * two walks backwards: the gradient is linear in its cotangent, and its derivative by that is the product.
 */

import { aBoolean, aFunction, check, checkOptions, checkTensor, tensors } from './arguments.ts'
import { enableGrad, noGrad } from './graph.ts'
import { scope } from './scope.ts'
import { ShapeError, sameShape, show } from './shape.ts'
import type { Synchronous } from './synchronous.ts'
import { checkDifferentiable, cotangentOf, type GradOptions, independent, pull } from './tape.ts'
import { full, type Tensor } from './tensor.ts'
import { atCaller } from './traceback.ts'

/** For each argument a tensor. */
export type Each<X extends readonly Tensor[]> = { readonly [I in keyof X]: Tensor }

/** The value of a function, and a tensor of the shape of each argument. */
export interface ValueAndGrads<X extends readonly Tensor[]> {
  readonly value: Tensor
  readonly grads: Each<X>
}

let nesting = 0

/**
 * Runs f on independent copies of `x` and hands both to `derive`. Inside another transform, or with `createGraph`, the
 * results can be differentiated. Otherwise the graph and all that f made are freed.
 */
function differentiate<X extends readonly Tensor[], T extends { readonly value: Tensor }>(
  op: string,
  f: (...x: X) => Tensor,
  x: Readonly<X>,
  createGraph: boolean,
  derive: (y: Tensor, inputs: readonly Tensor[], recorded: boolean) => T,
): T {
  for (const t of x) checkDifferentiable(op, t)
  const recorded = createGraph || nesting > 0
  const run = () => {
    const inputs = x.map(t => independent(t, recorded))
    const y = enableGrad(() => f(...(inputs as unknown as X)))
    checkTensor(op, 'the result of f', y)
    const results = (recorded ? enableGrad : noGrad)(() => derive(y, inputs, recorded))
    return { ...results, value: recorded ? y.alias() : y.detach() }
  }
  nesting++
  try {
    return recorded ? run() : scope(run as () => Synchronous<T>)
  } finally {
    nesting--
  }
}

/**
 * The function that maps the arguments of `f` to its value and its gradients by them. f returns one element; each gradient
 * has the shape of its argument. Throws if an argument is i32: close over it.
 */
export function valueAndGrad<X extends readonly Tensor[]>(
  f: (...x: X) => Tensor,
  options: GradOptions = {},
): (...x: X) => ValueAndGrads<X> {
  check('valueAndGrad', 'f', f, aFunction)
  checkOptions('valueAndGrad', options, { createGraph: aBoolean })
  const { createGraph = false } = options
  return (...x) => gradOf('valueAndGrad', f, x, createGraph)
}

function gradOf<X extends readonly Tensor[]>(
  op: string,
  f: (...x: X) => Tensor,
  x: Readonly<X>,
  createGraph: boolean,
): ValueAndGrads<X> {
  return differentiate(op, f, x, createGraph, (value, inputs, recorded) => ({
    value,
    grads: pull([value], [cotangentOf(op, value, undefined)], inputs, {
      createGraph: recorded,
    }) as unknown as Each<X>,
  }))
}

/**
 * The function that maps the arguments of `f` (which returns one element) to its gradients by them, each argument taken
 * as independent of the others. Inside another `grad`, or with createGraph, its results can be differentiated:
 * grad(x => sum(grad(f)(x)[0])) is a second derivative. Otherwise what `f` made is freed, as at the end of a scope. Throws
 * if an argument is i32: close over it.
 */
export function grad<X extends readonly Tensor[]>(
  f: (...x: X) => Tensor,
  options: GradOptions = {},
): (...x: X) => Tensor[] {
  check('grad', 'f', f, aFunction)
  checkOptions('grad', options, { createGraph: aBoolean })
  const { createGraph = false } = options
  return (...x) => {
    const { value, grads } = gradOf('grad', f, x, createGraph)
    value.dispose()
    return grads as unknown as Tensor[]
  }
}

/**
 * The value of f at `x` (any shape) and the vector-Jacobian product: for each argument Σ cotangent ⊙ ∂f/∂x, of its shape.
 * `cotangent` has the shape of the value. Throws ShapeError, and if an argument is i32.
 */
export function vjp<X extends readonly Tensor[]>(
  f: (...x: X) => Tensor,
  x: Readonly<X>,
  cotangent: Tensor,
): ValueAndGrads<X> {
  checkFunctionAt('vjp', f, x)
  checkTensor('vjp', 'cotangent', cotangent)
  return differentiate('vjp', f, x, false, (value, inputs, recorded) => {
    checkLike('vjp', 'a cotangent', cotangent, value)
    return { value, grads: pull([value], [cotangent], inputs, { createGraph: recorded }) as unknown as Each<X> }
  })
}

/**
 * The value of f at `x` (any shape) and the Jacobian-vector product: Σ ∂f/∂x · tangent over the arguments, of the shape of
 * the value. `tangents` has a tensor of the shape of each argument. Throws ShapeError, and if an argument is i32.
 */
export function jvp<X extends readonly Tensor[]>(
  f: (...x: X) => Tensor,
  x: Readonly<X>,
  tangents: Each<X>,
): { readonly value: Tensor; readonly tangent: Tensor } {
  checkFunctionAt('jvp', f, x)
  checkEach('jvp', 'tangent', tangents, x)
  return differentiate('jvp', f, x, false, (value, inputs, recorded) => {
    const cotangent = full(value.shape, 0, { dtype: value.dtype, backend: value.backend }).requireGrad()
    const grads = enableGrad(() => pull([value], [cotangent], inputs, { createGraph: true }))
    const [tangent] = pull(grads, tangents, [cotangent], { createGraph: recorded })
    return { value, tangent }
  })
}

/**
 * The value of f (one element) at `x`, its gradients, and the Hessian-vector products: for each argument the derivative of
 * its gradient along `vectors`, which has a tensor of the shape of each argument. Throws ShapeError, and if an argument is
 * i32.
 */
export function hessianVectorProduct<X extends readonly Tensor[]>(
  f: (...x: X) => Tensor,
  x: Readonly<X>,
  vectors: Each<X>,
): ValueAndGrads<X> & { readonly products: Each<X> } {
  checkFunctionAt('hessianVectorProduct', f, x)
  checkEach('hessianVectorProduct', 'vector', vectors, x)
  return differentiate('hessianVectorProduct', f, x, false, (value, inputs, recorded) => {
    const grads = enableGrad(() =>
      pull([value], [cotangentOf('hessianVectorProduct', value, undefined)], inputs, { createGraph: true }),
    )
    const products = pull(grads, vectors, inputs, { createGraph: recorded })
    return {
      value,
      grads: (recorded ? grads : grads.map(g => g.detach())) as unknown as Each<X>,
      products: products as unknown as Each<X>,
    }
  })
}

function checkFunctionAt(op: string, f: unknown, x: readonly Tensor[]): void {
  check(op, 'f', f, aFunction)
  check(op, 'x', x, tensors)
}

function checkEach(op: string, what: string, got: readonly Tensor[], x: readonly Tensor[]): void {
  check(op, `${what}s`, got, tensors)
  if (got.length !== x.length)
    throw atCaller(new RangeError(`${op}: expected a ${what} for each of ${x.length} arguments, got ${got.length}`))
  for (const [i, t] of got.entries()) {
    checkTensor(op, `${what} ${i + 1}`, t)
    checkTensor(op, `argument ${i + 1}`, x[i])
    checkLike(op, `a ${what}`, t, x[i])
  }
}

function checkLike(op: string, what: string, got: Tensor, { shape, dtype, backend }: Tensor): void {
  if (!sameShape(got.shape, shape) || got.dtype !== dtype || got.backend !== backend)
    throw new ShapeError(
      `${op}: expected ${what} of ${dtype} ${show(shape)} on ${backend.name}, ` +
        `got ${got.dtype} ${show(got.shape)} on ${got.backend.name}`,
    )
}

/**
 * Functions of functions (valueAndGrad, vjp, jvp, hessianVectorProduct), operations with a gradient of their own, hooks on
 * gradients and graphs that are kept, against closed forms and each other. Second derivatives: second-order.test.ts.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  backward,
  cast,
  checkpoint,
  clamp,
  concat,
  customOp,
  exp,
  floor,
  grad,
  gradients,
  hessianVectorProduct,
  jvp,
  layerNorm,
  matmul,
  mul,
  noGrad,
  relu,
  reshape,
  scope,
  sin,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
  vjp,
} from '../../core/index.ts'
import { close, normal, tensor64, values } from '../near.ts'
import { leavesNothing } from './helpers.ts'

// ---- transforms -----------------------------------------------------------------------------------------------------

test('valueAndGrad gives what the function and grad give, and leaves nothing', () => {
  leavesNothing(() => {
    const f = (x: Tensor, y: Tensor) => sum(mul(sin(x), exp(y)))
    const [x, y] = [tensor64([0.3, -1.2]), tensor64([0.5, 2])]
    const { value, grads } = valueAndGrad(f)(x, y)
    assert.equal(values(value), values(f(x, y)))
    assert.equal(grads.map(values), grad(f)(x, y).map(values))
    assert.is(value.node, null)
    const held: readonly [Tensor, Tensor] = grads // one for each argument
    assert.is(held.length, 2)
  })
})

test('a value that f only hands on is a handle of its own', () => {
  leavesNothing(() => {
    const w = tensor64(3).requireGrad()
    const { value, grads } = valueAndGrad((x: Tensor) => (x.size > 0 ? w : x))(tensor64([1]))
    value.dispose()
    assert.equal(values(w), [3])
    assert.equal(values(grads[0]), [0])
  })
})

test('valueAndGrad inside grad can be differentiated, value and gradients', () => {
  leavesNothing(() => {
    const inner = valueAndGrad((x: Tensor) => sum(mul(square(x), x))) // x³
    const outer = grad((x: Tensor) => {
      const { value, grads } = inner(x)
      return add(value, sum(grads[0])) // x³ + 3x²
    })
    close(values(outer(tensor64([2]))[0]), [3 * 4 + 6 * 2], 1e-14)
  })
})

/** Functions of one or two arguments with results of several shapes, fused ops and a decomposed gradient among them. */
const functions: readonly [string, (...x: Tensor[]) => Tensor, readonly Tensor[]][] = [
  ['elementwise', (x, y) => mul(sin(x), exp(y)), [normal(1, 3, 2), normal(2, 2)]],
  ['a product', (x, y) => matmul(x, y), [normal(3, 3, 4), normal(4, 4, 2)]],
  ['softmax', x => softmax(x), [normal(5, 2, 5)]],
  ['a fused norm', (x, w, b) => layerNorm(x, w, b, 1e-5), [normal(6, 4, 6), normal(7, 6), normal(8, 6)]],
  ['an argument that plays no part', x => reshape(square(x), [4]), [normal(9, 2, 2), normal(10, 3)]],
]

/** (f(x + h t) − f(x − h t)) / 2h */
function difference(f: (...x: Tensor[]) => Tensor, x: readonly Tensor[], t: readonly Tensor[]): number[] {
  const h = 1e-6
  const at = (step: number) => values(f(...x.map((each, i) => add(each, mul(t[i], step)))))
  const [above, below] = [at(h), at(-h)]
  return above.map((value, i) => (value - below[i]) / (2 * h))
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((total, value, i) => total + value * b[i], 0)

for (const [name, f, x] of functions)
  test(`jvp of ${name}: the derivative along the tangents, and adjoint to vjp`, () => {
    leavesNothing(() => {
      const tangents = x.map(({ shape }, i) => normal(20 + i, ...shape))
      const { value, tangent } = jvp(f, x, tangents)
      assert.equal(values(value), values(f(...x)))
      assert.equal(tangent.shape, value.shape)
      close(values(tangent), difference(f, x, tangents), 1e-8)
      const cotangent = normal(30, ...value.shape)
      const { grads } = vjp(f, x, cotangent)
      assert.equal(
        grads.map(g => g.shape),
        x.map(({ shape }) => shape),
      )
      const products = grads.reduce((total, g, i) => total + dot(values(g), values(tangents[i])), 0)
      close([products], [dot(values(cotangent), values(tangent))], 1e-12)
    })
  })

test('jvp can be differentiated: the gradient of a directional derivative', () => {
  leavesNothing(() => {
    const t = tensor64([1, -2])
    const slope = grad((x: Tensor) => sum(jvp((x: Tensor) => sin(x), [x], [t]).tangent)) // Σ t cos x
    const x = tensor64([0.4, 1.1])
    close(
      values(slope(x)[0]),
      values(x).map((each, i) => -values(t)[i] * Math.sin(each)),
      1e-14,
    )
  })
})

test('hessianVectorProduct: A v for xᵀ A x / 2, and the derivative of the gradient for others', () => {
  leavesNothing(() => {
    const half = normal(40, 3, 3)
    const A = add(half, reshape(tensor64([0, 1, 2].flatMap(i => [0, 1, 2].map(j => values(half)[3 * j + i]))), [3, 3]))
    const quadratic = (x: Tensor) => mul(sum(mul(x, matmul(A, x))), 0.5)
    const [x, v] = [normal(41, 3, 1), normal(42, 3, 1)]
    const { value, grads, products } = hessianVectorProduct(quadratic, [x], [v])
    close(values(value), values(quadratic(x)), 1e-14)
    close(values(grads[0]), values(matmul(A, x)), 1e-13)
    close(values(products[0]), values(matmul(A, v)), 1e-13)
    for (const t of [value, ...grads, ...products]) assert.is(t.node, null)

    const f = (x: Tensor, y: Tensor) => sum(mul(softmax(matmul(x, y)), sin(matmul(x, y))))
    const at = [normal(43, 2, 3), normal(44, 3, 4)] as const
    const along = [normal(45, 2, 3), normal(46, 3, 4)] as const
    const whole = hessianVectorProduct(f, at, along).products
    const slopes = (...x: Tensor[]) =>
      concat(
        grad(f)(x[0], x[1]).map(g => reshape(g, [g.size])),
        0,
      )
    close(whole.flatMap(values), difference(slopes, at, along), 1e-7)
  })
})

test('transforms say which tensor does not fit', () => {
  const x = tensor64([1, 2])
  const f = (x: Tensor) => square(x)
  assert.throws(() => jvp(f, [x], [] as never), /^jvp: expected a tangent for each of 1 arguments, got 0$/)
  assert.throws(
    () => jvp(f, [x], [tensor64([1])]),
    /^jvp: expected a tangent of f64 \[2\] on cpu, got f64 \[1\] on cpu$/,
  )
  assert.throws(() => vjp(f, [x], tensor64(1)), /^vjp: expected a cotangent of f64 \[2\] on cpu, got f64 \[\] on cpu$/)
  assert.throws(() => valueAndGrad(f)(x), /^backward: expected a single element or a cotangent, got shape \[2\]$/)
  const ids = tensor([1], { dtype: 'i32' })
  assert.throws(
    () => valueAndGrad(f)(ids),
    /^valueAndGrad: expected tensors of f32 or f64 to differentiate by, got i32/,
  )
  assert.throws(() => hessianVectorProduct(f, [x], [cast(x, 'f32')]), /^hessianVectorProduct: expected a vector of f64/)
})

// ---- operations with a gradient of their own ------------------------------------------------------------------------

test('customOp runs the forward unrecorded and the backward given: a straight-through estimator', () => {
  leavesNothing(() => {
    const floored = customOp({ name: 'floored', forward: (x: Tensor) => floor(x), backward: g => [g] })
    const x = tensor64([0.5, 1.7]).requireGrad()
    const y = floored(x)
    assert.equal(values(y), [0, 1])
    assert.match(String(y), /result of floored/)
    backward(sum(mul(y, tensor64([2, 3]))))
    assert.equal(values(x.grad!), [2, 3])
    assert.is(noGrad(() => floored(x)).node, null)
    assert.is(floored(tensor64([1.5])).node, null)
  })
})

test('customOp: saved inputs and result, inputs without a gradient, second derivatives', () => {
  leavesNothing(() => {
    // a eˣ, whose gradient is written with the result
    const scaledExp = customOp({
      forward: (a: Tensor, x: Tensor) => mul(a, exp(x)),
      backward: (g, { x: [a], y }) => [null, mul(g, a.size > 0 ? y : a)],
    })
    const a = tensor64([3]).requireGrad()
    const f = (x: Tensor) => sum(scaledExp(a, x))
    const x = tensor64([0.2])
    close(values(grad(f)(x)[0]), [3 * Math.exp(0.2)], 1e-15)
    close(values(grad((x: Tensor) => sum(grad(f)(x)[0]))(x)[0]), [3 * Math.exp(0.2)], 1e-15)
    assert.equal(values(gradients(f(x.requireGrad()), [a])[0]), [0])
  })
})

test('customOp hands on what its forward was given, and broadcasts nothing silently', () => {
  leavesNothing(() => {
    const same = customOp({ forward: (x: Tensor) => x, backward: g => [mul(g, 2)] })
    const x = tensor64([1, 2]).requireGrad()
    const y = same(x)
    backward(sum(y))
    assert.equal(values(x.grad!), [2, 2])
    y.dispose()
    assert.equal(values(x), [1, 2])
    const wrong = (result: (g: Tensor) => readonly Tensor[]) => () => {
      const op = customOp({ name: 'wrong', forward: (x: Tensor) => square(x), backward: result as never })
      backward(sum(op(x)))
    }
    assert.throws(
      wrong(() => []),
      /^wrong: expected 1 gradients of backward, got 0$/,
    )
    assert.throws(
      wrong(g => [sum(g)]),
      /^wrong: expected gradient 1 of backward to have shape \[2\], got \[\]$/,
    )
    const none = customOp({ forward: (() => undefined) as never, backward: g => [g] })
    assert.throws(() => none(x), /^customOp: expected a tensor of forward, got undefined$/)
  })
})

test('customOp frees what it saved with its result, and notices a change in place', () => {
  leavesNothing(() => {
    const op = customOp({ forward: (x: Tensor) => square(x), backward: (g, { x: [x] }) => [mul(g, x)] })
    const x = tensor64([3]).requireGrad()
    scope(() => {
      op(x)
    })
    const y = op(x)
    x.backend.write(x.storage, new Float64Array([4]))
    assert.throws(() => backward(y), /a tensor that 'customOp' saved for its gradient was changed in place since/)
    x.grad?.dispose()
  })
})

// ---- hooks and kept graphs ------------------------------------------------------------------------------------------

test('a hook sees the whole gradient of a result once, and may replace it', () => {
  leavesNothing(() => {
    const x = tensor64([1, 2]).requireGrad()
    const y = mul(x, 3)
    const seen: number[][] = []
    const remove = y.registerHook(g => {
      seen.push(values(g))
    })
    y.registerHook(g => clamp(g, -1, 1))
    const loss = sum(add(mul(y, tensor64([5, -0.5])), y)) // d/dy = [6, 0.5]
    backward(loss, undefined, { retainGraph: true })
    assert.equal(seen, [[6, 0.5]])
    assert.equal(values(x.grad!), [3, 1.5])
    remove()
    remove()
    backward(loss)
    assert.is(seen.length, 1)
    assert.equal(values(x.grad!), [6, 3])
  })
})

test('a hook on a leaf runs before the gradient is added to .grad, also where a checkpoint captured the leaf', () => {
  leavesNothing(() => {
    const w = tensor64([2]).requireGrad()
    const seen: number[] = []
    w.registerHook(g => {
      seen.push(values(g)[0])
      return mul(g, 10)
    })
    const x = tensor64([3]).requireGrad()
    const inside = checkpoint(([x]) => mul(mul(x, w), w), [x]) // d/dw = 2 x w = 12
    backward(sum(add(inside, mul(w, 5))))
    assert.equal(seen, [17])
    assert.equal(values(w.grad!), [170])
    assert.equal(values(x.grad!), [4])
  })
})

test('a gradient that a hook returns is not shared with it, and hooks take part in second derivatives', () => {
  leavesNothing(() => {
    const x = tensor64([2]).requireGrad()
    const own = tensor64([7])
    const remove = x.registerHook(() => own)
    backward(square(x))
    x.grad!.backend.write(x.grad!.storage, new Float64Array([0]))
    assert.equal(values(own), [7])
    remove()
    const y = square(x)
    y.registerHook(g => mul(g, x)) // dy/dx becomes 2x · x
    const [g] = gradients(sum(y), [x], { createGraph: true })
    close(values(g), [8], 1e-15)
    close(values(gradients(sum(g), [x])[0]), [8], 1e-15) // 4x
  })
})

test('hooks are refused where there is no gradient, and what they return is checked', () => {
  leavesNothing(() => {
    assert.throws(
      () => tensor64([1]).registerHook(() => {}),
      /^registerHook: expected a tensor that requires a gradient, got one of shape \[1\]$/,
    )
    const x = tensor64([1, 2]).requireGrad()
    x.registerHook(g => sum(g))
    assert.throws(
      () => backward(sum(relu(x))),
      /^registerHook: expected a gradient of f64 \[2\] on cpu, got f64 \[\] on cpu$/,
    )
  })
})

test('retainGraph keeps the graph for another walk; without it the second one says that it was freed', () => {
  leavesNothing(() => {
    const x = tensor64([3]).requireGrad()
    const y = square(x)
    const [first] = gradients(y, [x], { retainGraph: true })
    assert.is(first.node, null)
    backward(y, undefined, { retainGraph: true })
    backward(y)
    assert.equal([...values(first), ...values(x.grad!)], [6, 12])
    assert.throws(() => backward(y), /the graph of 'square' was freed by an earlier backward/)
    const inputs = tensor64([1]).requireGrad()
    const again = checkpoint(([x]) => sub(square(x), x), [inputs])
    backward(again, undefined, { retainGraph: true })
    backward(again)
    assert.equal(values(inputs.grad!), [2])
  })
})

test.run()

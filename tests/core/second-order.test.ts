/**
 * `grad(f)` and createGraph: derivatives of derivatives, losses that contain gradients, Hessian-vector products; and
 * tensors that are two operands of one op, which fused gradients must not confuse.
 */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  backward,
  copy,
  exp,
  grad,
  gradients,
  layerNorm,
  linear,
  matmul,
  mean,
  mul,
  noGrad,
  pow,
  selfAttention,
  silu,
  sin,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
  tanh,
} from '../../core/index.ts'
import { close, normal, tensor64, values } from '../near.ts'
import { leavesNothing, slope } from './helpers.ts'

test('grad(f) of first, second and third order', () => {
  leavesNothing(() => {
    const f = (x: Tensor) => sum(mul(sin(x), exp(x)))
    const of = (f: (x: Tensor) => Tensor) => (x: Tensor) => sum(grad(f)(x)[0])
    const x = tensor64([0.3, -1.2])
    const at = (g: (x: number) => number) => values(x).map(g)
    const [s, c, e] = [Math.sin, Math.cos, Math.exp]
    close(
      values(grad(f)(x)[0]),
      at(x => e(x) * (s(x) + c(x))),
      1e-14,
    )
    close(
      values(grad(of(f))(x)[0]),
      at(x => 2 * e(x) * c(x)),
      1e-14,
    )
    close(
      values(grad(of(of(f)))(x)[0]),
      at(x => 2 * e(x) * (c(x) - s(x))),
      1e-14,
    )
    assert.is(x.node, null)
  })
})

test('grad(f) takes its arguments as independent of each other, also where they are one tensor', () => {
  leavesNothing(() => {
    const p = (a: Tensor, b: Tensor) => sum(mul(square(a), b))
    const x = tensor64([3])
    assert.equal(grad(p)(x, x).map(values), [[18], [9]])
    const y = x.requireGrad()
    assert.equal(grad(p)(y, y).map(values), [[18], [9]])
    assert.equal(grad(p)(y, square(y)).map(values), [[54], [9]])
    // d/da of ∂p/∂a (a, a) = 2a·a
    assert.equal(values(grad((a: Tensor) => sum(grad(p)(a, a)[0]))(x)[0]), [12])
    assert.is(y.grad, null)
  })
})

test('grad inside noGrad still finds gradients', () => {
  leavesNothing(() => {
    assert.equal(values(noGrad(() => grad((x: Tensor) => sum(square(x)))(tensor64([4])))[0]), [8])
  })
})

test('createGraph: a gradient that is constant has no graph, and gradient 0', () => {
  leavesNothing(() => {
    const [x, c] = [tensor64([2]).requireGrad(), tensor64([5])]
    const [gx] = gradients(mul(x, c), [x], { createGraph: true })
    assert.equal(values(gx), [5])
    assert.not.ok(gx.requiresGrad)
    assert.equal(values(gradients(gx, [x])[0]), [0])
  })
})

test('createGraph frees nothing: the same graph can be walked again', () => {
  leavesNothing(() => {
    const x = tensor64([2]).requireGrad()
    const y = pow(x, 3)
    const first = gradients(y, [x], { createGraph: true })[0]
    const again = gradients(y, [x], { createGraph: true })[0]
    assert.equal(values(first), values(again))
    backward(y)
    backward(add(first, again)) // through what createGraph recorded
    assert.equal(values(x.grad!), [12 + 12 + 12])
    x.grad!.dispose()
  })
})

test('a fused gradient of one tensor in two places: d/dx of x silu′(x)', () => {
  leavesNothing(() => {
    const at = (x: Tensor) => gradients(silu(x), [x], { cotangent: x, createGraph: true })[0]
    const x = tensor64([0.7, -1.1]).requireGrad()
    const [second] = gradients(sum(at(x)), [x])
    const numeric = slope(x => at(x.requireGrad()), x.detach(), tensor64([1, 1]))
    close(values(second), numeric, 1e-8)
  })
})

test('a fused gradient of one tensor in two places, of several results: layerNorm(x, x, x)', () => {
  leavesNothing(() => {
    const u = normal(1, 5)
    const at = (x: Tensor) => gradients(layerNorm(x, x, x, 1e-3), [x], { cotangent: u, createGraph: true })[0]
    const [x, v] = [normal(2, 5), normal(3, 5)]
    const leaf = x.requireGrad()
    const [second] = gradients(sum(mul(at(leaf), v)), [leaf])
    const numeric = slope(x => sum(mul(at(x.requireGrad()), v)), x, u)
    close(values(sum(mul(second, u))), numeric, 1e-7)
  })
})

test('a loss that contains a first derivative: a gradient penalty and its backward into the weights', () => {
  leavesNothing(() => {
    const [x, w1, w2] = [normal(1, 5, 3), normal(2, 4, 3), normal(3, 1, 4)]
    const loss = (w1: Tensor, w2: Tensor) => {
      const input = x.requireGrad()
      const critic = linear(silu(linear(input, w1)), w2) // (5, 1)
      const [gx] = gradients(sum(critic), [input], { createGraph: true })
      const penalty = mean(square(sub(pow(sum(square(gx), 1), 0.5), 1))) // (‖∂D/∂x‖ − 1)²
      return add(mean(critic), mul(penalty, 10))
    }
    const [a, b] = [w1.requireGrad(), w2.requireGrad()]
    backward(loss(a, b))
    const [v1, v2] = [normal(4, 4, 3), normal(5, 1, 4)]
    close(
      values(sum(mul(a.grad!, v1))),
      slope(w => loss(w, w2), w1, v1),
      1e-7,
    )
    close(
      values(sum(mul(b.grad!, v2))),
      slope(w => loss(w1, w), w2, v2),
      1e-7,
    )
    for (const leaf of [a, b]) leaf.grad!.dispose()
  })
})

test('a Hessian-vector product through attention, against differences of the gradient', () => {
  leavesNothing(() => {
    const [N, T, heads, d] = [2, 5, 2, 3]
    const [x, bias] = [normal(1, N, T, 3 * heads * d), normal(2, heads, T, T)]
    const target = normal(3, N, T, heads * d)
    const loss = (x: Tensor, bias: Tensor) => mean(square(sub(selfAttention(x, bias, heads), target)))
    const [vx, vb] = [normal(4, ...x.shape), normal(5, ...bias.shape)]
    const product = grad((x: Tensor, bias: Tensor) => {
      const [gx, gb] = grad(loss)(x, bias)
      return add(sum(mul(gx, vx)), sum(mul(gb, vb)))
    })
    const [hx, hb] = product(x, bias)
    const h = 1e-5
    const at = (sign: number) => grad(loss)(add(x, mul(vx, sign * h)), add(bias, mul(vb, sign * h)))
    const [plus, minus] = [at(1), at(-1)]
    close(values(hx), values(mul(sub(plus[0], minus[0]), 0.5 / h)), 1e-9)
    close(values(hb), values(mul(sub(plus[1], minus[1]), 0.5 / h)), 1e-9)
  })
})

test('second derivatives are symmetric: u·(H v) = v·(H u), for random compositions', () => {
  const unary = [sin, tanh, silu, exp, square, softmax, copy] as const
  fc.assert(
    fc.property(fc.array(fc.nat(unary.length - 1), { minLength: 1, maxLength: 4 }), fc.nat(1000), (chosen, seed) =>
      leavesNothing(() => {
        const [w, x, u, v] = [normal(seed, 3, 3), normal(seed + 1, 2, 3), normal(seed + 2, 2, 3), normal(9, 2, 3)]
        const f = (x: Tensor) => mean(square(chosen.reduce((y, k) => matmul(tanh(unary[k](y)), w), x)))
        const along = (v: Tensor) => grad((x: Tensor) => sum(mul(grad(f)(x)[0], v)))(x)[0]
        close(values(sum(mul(along(v), u))), values(sum(mul(along(u), v))), 1e-9)
      }),
    ),
    { numRuns: 40 },
  )
})

test.run()

/**
 * The tape: what backward sums and frees, which gradients `gradients` and `grad` give, derivatives of derivatives, and
 * checkpoints. Rules of single ops are checked by tests/registry.test.ts; here is how they are put together.
 */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newestNode } from '../core/graph.ts'
import {
  add,
  backward,
  broadcastTo,
  cast,
  checkpoint,
  concat,
  copy,
  cpu,
  enableGrad,
  exp,
  gather,
  grad,
  gradEnabled,
  gradients,
  layerNorm,
  linear,
  matmul,
  mean,
  mul,
  neg,
  noGrad,
  pow,
  reshape,
  rng,
  scope,
  selfAttention,
  silu,
  sin,
  slice,
  softmax,
  split,
  square,
  sub,
  sum,
  type Tensor,
  tanh,
  tensor,
  where,
  zeros,
} from '../core/index.ts'
import { close, f64, leavesNothing, normal, values } from './helpers.ts'

/** An in-place write, as an optimizer does it: every element moves by 1. */
function shiftInPlace(x: Tensor): void {
  const one = add(zeros(x.shape, { dtype: x.dtype, backend: x.backend }), 1)
  const [moved, all] = [add(x.detach(), one), add(zeros([], { dtype: x.dtype, backend: x.backend }), 1)]
  x.backend.kernels.lerp!([x], [moved], 1, all)
  x.storage.version++
}

/** The derivative of f at x along v, by central differences of f's values. */
function slope(f: (x: Tensor) => Tensor, x: Tensor, v: Tensor, h = 1e-5): number[] {
  const [plus, minus] = [f(add(x, mul(v, h))), f(sub(x, mul(v, h)))]
  return values(mul(sub(plus, minus), 1 / (2 * h)))
}

// ---- what is summed -------------------------------------------------------------------------------------------------

test('backward accumulates over calls', () => {
  const w = f64([1, 2]).requireGrad()
  backward(sum(mul(w, w)))
  backward(sum(mul(w, 3)))
  assert.equal(values(w.grad!), [5, 7])
})

test('a tensor used twice by one op gets both parts', () => {
  const x = f64([3, -2]).requireGrad()
  const by = (f: (x: Tensor) => Tensor) => values(gradients(sum(f(x)), [x])[0])
  assert.equal(
    by(x => add(x, x)),
    [2, 2],
  )
  assert.equal(
    by(x => sub(x, x)),
    [0, 0],
  )
  assert.equal(
    by(x => mul(x, x)),
    [6, -4],
  )
  assert.equal(
    by(x => concat([x, x, x], 0)),
    [3, 3],
  )
  assert.equal(
    by(x => where(f64([1, 0]), x, x)),
    [1, 1],
  )
})

test('diamonds: a shared subexpression is visited once, however many paths lead to it', () => {
  // y = x doubled 60 times by adding it to itself: 2⁶⁰ paths.
  const x = f64([1]).requireGrad()
  let y = x
  for (let i = 0; i < 60; i++) y = add(y, y)
  backward(y)
  assert.equal(values(x.grad!), [2 ** 60])
})

test('a shared result and its inputs: y = s² + s x with s = x³', () => {
  const x = f64([2]).requireGrad()
  const s = mul(mul(x, x), x)
  backward(add(square(s), mul(s, x)))
  assert.equal(values(x.grad!), [6 * 2 ** 5 + 4 * 2 ** 3]) // 6x⁵ + 4x³
})

test('a chain of 20,000 ops needs no stack', () => {
  leavesNothing(() => {
    const x = f64([1]).requireGrad()
    let y = x
    for (let i = 0; i < 20_000; i++) y = add(y, 1e-3)
    assert.equal(values(gradients(y, [x])[0]), [1])
  })
})

test('gradient of a broadcast scalar is the sum of what it was broadcast to', () => {
  const s = f64(2).requireGrad()
  const x = normal([3, 4, 5], 1)
  backward(sum(mul(x, s)))
  assert.equal([...s.grad!.shape], [])
  close(values(s.grad!), [values(x).reduce((a, b) => a + b)], 1e-14)
})

test('gradient through reshape, slices and broadcasting, that share or repeat memory', () => {
  const x = f64([1, 2, 3, 4, 5, 6]).requireGrad()
  const table = reshape(x, [2, 3])
  const y = add(mul(table, broadcastTo(slice(table, 0, 0, 1), [2, 3])), reshape(x, [2, 3])) // rows ⊙ first row + rows
  backward(sum(y))
  assert.equal(values(x.grad!), [2 * 1 + 4 + 1, 2 * 2 + 5 + 1, 2 * 3 + 6 + 1, 1 + 1, 2 + 1, 3 + 1])
})

test('a vector output wants a cotangent of its shape', () => {
  const x = f64([1, 2]).requireGrad()
  assert.throws(() => backward(square(x)), /backward: wanted a single element or a cotangent, got shape \[2\]/)
  assert.throws(() => backward(square(x), f64([1])), /backward: the cotangent must have shape \[2\], got \[1\]/)
  backward(square(x), f64([1, 10]))
  assert.equal(values(x.grad!), [2, 40])
})

test('an op with several results, of which one is used', () => {
  const x = normal([2, 6], 3).requireGrad()
  const [, second] = split(x, 3, 1)
  backward(sum(second))
  assert.equal(values(x.grad!), [0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0])
  // The fused gradient of layer norm gives three results; differentiate one of them only.
  const [w, b] = [normal([6], 4).requireGrad(), normal([6], 5).requireGrad()]
  const y = layerNorm(x, w, b, 1e-5)
  const [gw] = gradients(y, [w], { cotangent: normal([2, 6], 6), createGraph: true })
  const [gx] = gradients(sum(square(gw)), [x])
  const along = normal([2, 6], 7)
  const penalty = (x: Tensor) => {
    const leaf = w.detach().requireGrad()
    const out = layerNorm(x, leaf, b, 1e-5)
    return sum(square(gradients(out, [leaf], { cotangent: normal([2, 6], 6) })[0]))
  }
  close(values(sum(mul(gx, along))), slope(penalty, x.detach(), along), 1e-7)
})

// ---- what is recorded -----------------------------------------------------------------------------------------------

test('only what depends on a leaf is recorded', () => {
  const [x, w] = [f64([1]), f64([2]).requireGrad()]
  assert.not.ok(mul(x, x).requiresGrad)
  assert.ok(mul(x, w).requiresGrad)
  assert.not.ok(mul(x, w.detach()).requiresGrad)
  assert.throws(() => backward(mul(x, x)), /backward: the output does not depend on a tensor that requires a gradient/)
})

test('noGrad records nothing, enableGrad inside it does, and both end where they began, also on a throw', () => {
  const w = f64([2]).requireGrad()
  const before = newestNode()
  assert.not.ok(noGrad(() => mul(w, w)).requiresGrad)
  assert.is(newestNode(), before)
  assert.ok(noGrad(() => enableGrad(() => mul(w, w))).requiresGrad)
  assert.throws(() =>
    noGrad(() => {
      throw new Error('out')
    }),
  )
  assert.ok(gradEnabled())
})

test('detach cuts, requireGrad of a result begins a new leaf, an alias is the same leaf', () => {
  const w = f64([3]).requireGrad()
  backward(mul(w, square(w).detach()))
  assert.equal(values(w.grad!), [9])
  const y = square(w)
  const leaf = y.requireGrad()
  backward(square(leaf))
  assert.equal(values(leaf.grad!), [18])
  assert.equal(values(w.grad!), [9])
  backward(mul(w.alias(), 2))
  assert.equal(values(w.grad!), [11])
  assert.throws(() => tensor([1], { dtype: 'i32' }).requireGrad(), /requireGrad: wanted f32 or f64, got i32/)
})

test('integers have no gradient: neither indices, nor conditions, nor a float that was truncated', () => {
  const x = f64([[[1], [2]]]).requireGrad()
  const index = tensor([[1, 1, 0]], { dtype: 'i32', backend: cpu })
  assert.equal(values(gradients(sum(gather(x, index)), [x])[0]), [1, 2])
  const c = f64([1, 0]).requireGrad()
  const a = f64([5, 6]).requireGrad()
  const [gc, ga] = gradients(sum(where(c, a, neg(a))), [c, a])
  assert.equal([...values(gc), ...values(ga)], [0, 0, 1, -1])
  assert.not.ok(cast(a, 'i32').requiresGrad)
})

test('an infinite gradient stays on the side of `where` that was chosen', () => {
  const [a, b] = [f64([1, 2]).requireGrad(), f64([3, 4]).requireGrad()]
  const y = where(f64([1, 0]), a, b)
  const [ga, gb] = gradients(y, [a, b], { cotangent: f64([Infinity, Number.NaN]) })
  assert.equal(values(ga), [Infinity, 0])
  assert.equal(values(gb), [0, Number.NaN])
})

// ---- what is kept and freed -----------------------------------------------------------------------------------------

test('backward frees the graph as it walks: after it the bytes are those of the tensors alone', () => {
  const before = cpu.stats().bytes
  const w = normal([100], 1).requireGrad()
  // No scope: what the tape holds is what keeps these alive when their handles are gone.
  const a = mul(w, w)
  const b = exp(a)
  const c = mul(a, b)
  const loss = sum(c)
  for (const t of [a, b, c]) t.dispose()
  const held = cpu.stats().bytes - before
  assert.is(held, 100 * 8 * 3 + 8) // w, a, b and the loss; c is needed by no rule
  backward(loss)
  assert.is(cpu.stats().bytes - before, 100 * 8 * 2 + 8) // w, its gradient, the loss
  loss.dispose()
  w.grad!.dispose()
  w.dispose()
})

test('a second backward says that the graph is gone', () => {
  const w = f64([2]).requireGrad()
  const y = mul(exp(w), w)
  backward(y)
  assert.throws(() => backward(y), /backward: the graph of 'mul' was freed by an earlier backward/)
  assert.throws(() => gradients(y, [w]), /backward: the graph of 'mul' was freed by an earlier backward/)
})

test('what is shared with an earlier backward is gone, what is not still works', () => {
  const w = f64([2]).requireGrad()
  const shared = exp(w)
  const [a, b] = [mul(shared, shared), sin(shared)]
  backward(a)
  assert.throws(() => backward(b), /the graph of 'exp' was freed/)
  backward(square(w))
  close(values(w.grad!), [2 * Math.exp(4) + 4], 1e-14)
})

test('a saved tensor that was changed in place is refused, naming the op that needs it', () => {
  scope(() => {
    const w = f64([1, 2]).requireGrad()
    const unneeded = add(w, w)
    shiftInPlace(w)
    backward(sum(unneeded)) // addition keeps nothing
    assert.equal(values(w.grad!), [2, 2])
    const y = sum(mul(w, w))
    shiftInPlace(w)
    assert.throws(() => backward(y), /backward: a tensor that 'mul' saved for its gradient was changed in place since/)
    const z = exp(w)
    shiftInPlace(z.detach()) // the same memory
    assert.throws(() => backward(sum(z)), /a tensor that 'exp' saved/)
    const view = reshape(w, [2, 1])
    const squared = square(w)
    shiftInPlace(view)
    assert.throws(() => backward(sum(squared)), /a tensor that 'square' saved/)
    w.grad!.dispose()
  })
})

test('replaceWith leaves what was saved as it was', () => {
  leavesNothing(() => {
    const w = f64([3]).requireGrad()
    const y = square(w)
    w.replaceWith(f64([100]))
    backward(y)
    assert.equal(values(w.grad!), [6])
    assert.equal(values(w), [100])
    w.grad!.dispose()
  })
})

test('an input may be disposed before backward', () => {
  const before = cpu.stats().bytes
  const w = f64([3]).requireGrad()
  const x = f64([5])
  const y = mul(x, w)
  x.dispose()
  backward(y)
  assert.equal(values(w.grad!), [5])
  for (const t of [w.grad!, w, y]) t.dispose()
  assert.is(cpu.stats().bytes - before, 8) // the tensor that w was made from
})

test('bytes are exact after steps in scopes, whatever was left unused', () => {
  const w = normal([4, 4], 1).requireGrad().persist()
  const step = () =>
    scope(() => {
      const x = normal([8, 4], 2)
      const h = tanh(linear(x, w))
      exp(h) // recorded and never used
      const loss = mean(square(softmax(h)))
      backward(loss)
      backward(sum(mul(w, 1e-3)))
      return loss.dataSync()[0]
    })
  step()
  const { bytes, storages } = cpu.stats()
  for (let i = 0; i < 5; i++) step()
  assert.is(cpu.stats().bytes, bytes)
  assert.is(cpu.stats().storages, storages)
  w.grad!.dispose()
  w.dispose()
})

// ---- gradients ------------------------------------------------------------------------------------------------------

test('gradients by intermediate results, by the output, by a stranger, by one tensor twice', () => {
  leavesNothing(() => {
    const [x, stranger] = [f64([2, 3]).requireGrad(), f64([7]).requireGrad()]
    const h = square(x)
    const y = sum(mul(h, x))
    const [gh, gx, gy, none, again, constant] = gradients(y, [h, x, y, stranger, h, f64([1])])
    assert.equal(values(gh), [2, 3])
    assert.equal(values(gx), [12, 27]) // through h too
    assert.equal(values(gy), [1])
    assert.equal(values(none), [0])
    assert.equal(values(again), [2, 3])
    assert.equal(values(constant), [0])
    assert.is(x.grad, null)
  })
})

test('gradients do not walk what no target lies under', () => {
  leavesNothing(() => {
    const [x, w] = [f64([2]).requireGrad(), f64([3]).requireGrad()]
    const shared = exp(w)
    const y = mul(square(x), shared)
    gradients(y, [x])
    backward(shared) // still there
    close(values(w.grad!), [Math.exp(3)], 1e-14)
    w.grad!.dispose()
  })
})

// ---- grad(f), first and second order --------------------------------------------------------------------------------

test('grad(f) of first, second and third order', () => {
  leavesNothing(() => {
    const f = (x: Tensor) => sum(mul(sin(x), exp(x)))
    const of = (f: (x: Tensor) => Tensor) => (x: Tensor) => sum(grad(f)(x)[0])
    const x = f64([0.3, -1.2])
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
    const x = f64([3])
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
    assert.equal(values(noGrad(() => grad((x: Tensor) => sum(square(x)))(f64([4])))[0]), [8])
  })
})

test('createGraph: a gradient that is constant has no graph, and gradient 0', () => {
  leavesNothing(() => {
    const [x, c] = [f64([2]).requireGrad(), f64([5])]
    const [gx] = gradients(mul(x, c), [x], { createGraph: true })
    assert.equal(values(gx), [5])
    assert.not.ok(gx.requiresGrad)
    assert.equal(values(gradients(gx, [x])[0]), [0])
  })
})

test('createGraph frees nothing: the same graph can be walked again', () => {
  leavesNothing(() => {
    const x = f64([2]).requireGrad()
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
    const x = f64([0.7, -1.1]).requireGrad()
    const [second] = gradients(sum(at(x)), [x])
    const numeric = slope(x => at(x.requireGrad()), x.detach(), f64([1, 1]))
    close(values(second), numeric, 1e-8)
  })
})

test('a fused gradient of one tensor in two places, of several results: layerNorm(x, x, x)', () => {
  leavesNothing(() => {
    const u = normal([5], 1)
    const at = (x: Tensor) => gradients(layerNorm(x, x, x, 1e-3), [x], { cotangent: u, createGraph: true })[0]
    const [x, v] = [normal([5], 2), normal([5], 3)]
    const leaf = x.requireGrad()
    const [second] = gradients(sum(mul(at(leaf), v)), [leaf])
    const numeric = slope(x => sum(mul(at(x.requireGrad()), v)), x, u)
    close(values(sum(mul(second, u))), numeric, 1e-7)
  })
})

test('a loss that contains a first derivative: a gradient penalty and its backward into the weights', () => {
  leavesNothing(() => {
    const [x, w1, w2] = [normal([5, 3], 1), normal([4, 3], 2), normal([1, 4], 3)]
    const loss = (w1: Tensor, w2: Tensor) => {
      const input = x.requireGrad()
      const critic = linear(silu(linear(input, w1)), w2) // (5, 1)
      const [gx] = gradients(sum(critic), [input], { createGraph: true })
      const penalty = mean(square(sub(pow(sum(square(gx), 1), 0.5), 1))) // (‖∂D/∂x‖ − 1)²
      return add(mean(critic), mul(penalty, 10))
    }
    const [a, b] = [w1.requireGrad(), w2.requireGrad()]
    backward(loss(a, b))
    const [v1, v2] = [normal([4, 3], 4), normal([1, 4], 5)]
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
    const [x, bias] = [normal([N, T, 3 * heads * d], 1), normal([heads, T, T], 2)]
    const target = normal([N, T, heads * d], 3)
    const loss = (x: Tensor, bias: Tensor) => mean(square(sub(selfAttention(x, bias, heads), target)))
    const [vx, vb] = [normal(x.shape, 4), normal(bias.shape, 5)]
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
        const [w, x, u, v] = [
          normal([3, 3], seed),
          normal([2, 3], seed + 1),
          normal([2, 3], seed + 2),
          normal([2, 3], 9),
        ]
        const f = (x: Tensor) => mean(square(chosen.reduce((y, k) => matmul(tanh(unary[k](y)), w), x)))
        const along = (v: Tensor) => grad((x: Tensor) => sum(mul(grad(f)(x)[0], v)))(x)[0]
        close(values(sum(mul(along(v), u))), values(sum(mul(along(u), v))), 1e-9)
      }),
    ),
    { numRuns: 40 },
  )
})

// ---- checkpoint -----------------------------------------------------------------------------------------------------

/** A block with a captured weight, as a model's layer has it. */
const block = (w: Tensor) => (xs: readonly Tensor[]) => tanh(linear(xs[0], w))

test('a checkpoint gives the same bytes of values and gradients, and holds less in between', () => {
  const weights = Array.from({ length: 6 }, (_, i) => normal([64, 64], i))
  const run = (useCheckpoint: boolean) => {
    const leaves = weights.map(w => w.requireGrad())
    const x = normal([32, 64], 99).requireGrad()
    const layer = (w: Tensor) => (xs: readonly Tensor[]) => block(w)([silu(exp(mul(xs[0], 0.1)))])
    let held = 0
    const loss = scope(() => {
      const start = cpu.stats().bytes
      const y = scope(() =>
        leaves.reduce((h, w) => (useCheckpoint ? checkpoint(layer(w), [h]) : layer(w)([h])), x.alias()),
      )
      held = cpu.stats().bytes - start
      const loss = mean(square(y))
      backward(loss)
      return loss.dataSync()[0]
    })
    const results = { loss, held, grads: [x, ...leaves].map(leaf => values(leaf.grad!)) }
    for (const leaf of [x, ...leaves]) {
      leaf.grad!.dispose()
      leaf.dispose()
    }
    return results
  }
  const before = cpu.stats().bytes
  const [plain, saving] = [run(false), run(true)]
  assert.is(plain.loss, saving.loss)
  assert.equal(plain.grads, saving.grads)
  const activation = 32 * 64 * 8
  assert.is(saving.held, 6 * activation) // the result of each layer
  assert.is(plain.held, 6 * 3 * activation) // and what exp, silu and linear saved
  assert.is(cpu.stats().bytes - before, 2 * activation) // the two x that the leaves were made of
})

test('a checkpoint: captured leaves get gradients, by backward and by gradients', () => {
  leavesNothing(() => {
    const [x, w] = [f64([[1, 2]]).requireGrad(), f64([[3, 4]]).requireGrad()]
    const make = () => checkpoint(([a]) => sum(mul(square(a), w)), [x])
    backward(make())
    assert.equal(values(x.grad!), [6, 16])
    assert.equal(values(w.grad!), [1, 4])
    const [gw, gx] = gradients(mul(make(), 2), [w, x])
    assert.equal(values(gw), [2, 8])
    assert.equal(values(gx), [12, 32])
    // By the weight alone: the input need not want a gradient.
    assert.equal(
      values(
        gradients(
          checkpoint(([a]) => sum(mul(a, w)), [f64([[5, 6]])]),
          [w],
        )[0],
      ),
      [5, 6],
    )
    for (const leaf of [x, w]) leaf.grad!.dispose()
  })
})

test('a checkpoint of one tensor twice, of an input that plays no part, and of an input returned as it is', () => {
  leavesNothing(() => {
    const [x, idle] = [f64([3]).requireGrad(), f64([1]).requireGrad()]
    const [gx, gi] = gradients(
      checkpoint(([a, b]) => mul(square(a), b), [x, x, idle]),
      [x, idle],
    )
    assert.equal([values(gx), values(gi)], [[27], [0]])
    assert.equal(
      values(
        gradients(
          checkpoint(([a]) => a, [square(x)]),
          [x],
        )[0],
      ),
      [6],
    )
  })
})

test('a checkpoint draws the same random numbers again, and leaves its rng where one run leaves it', () => {
  leavesNothing(() => {
    const x = normal([50], 1).requireGrad()
    const stream = rng(7).fork('dropout')
    let runs = 0
    const y = checkpoint(
      ([a], r) => {
        runs++
        return mul(a, r!.uniform(a.shape, { dtype: 'f64', backend: cpu }))
      },
      [x],
      stream,
    )
    const after = stream.state()
    stream.uniformArray(1000)
    const [g] = gradients(sum(y), [x])
    assert.is(runs, 2)
    const drawn = rng(7).fork('dropout')
    assert.equal(values(g), Array.from(drawn.uniformArray(50)))
    assert.equal(after, drawn.state())
  })
})

test('nested checkpoints, also where the inner one captures an input of the outer', () => {
  leavesNothing(() => {
    const [x, w] = [f64([2]).requireGrad(), f64([5]).requireGrad()]
    const y = checkpoint(
      ([a]) =>
        checkpoint(
          ([h]) =>
            mul(
              mul(h, a),
              checkpoint(([k]) => mul(k, w), [h]),
            ),
          [square(a)],
        ),
      [x],
    )
    // y = a² · a · a² w
    const [gx, gw] = gradients(y, [x, w])
    assert.equal(values(gx), [5 * 16 * 5])
    assert.equal(values(gw), [32])
  })
})

test('a checkpoint refuses a captured result, and createGraph', () => {
  leavesNothing(() => {
    const x = f64([2]).requireGrad()
    const h = square(x)
    assert.throws(
      () =>
        gradients(
          checkpoint(([a]) => mul(a, h), [x]),
          [x],
        ),
      /checkpoint: fn used a result of 'square' from outside; pass it as an input/,
    )
    assert.throws(
      () =>
        gradients(
          checkpoint(([a]) => square(a), [x]),
          [x],
          { createGraph: true },
        ),
      /checkpoint: createGraph through a checkpoint is not supported/,
    )
  })
})

test('a checkpoint sees an input that was changed in place, and records nothing under noGrad', () => {
  leavesNothing(() => {
    const x = f64([2]).requireGrad()
    const y = checkpoint(([a]) => square(a), [x])
    shiftInPlace(x)
    assert.throws(() => backward(y), /a tensor that 'checkpoint' saved for its gradient was changed in place/)
    assert.not.ok(noGrad(() => checkpoint(([a]) => square(a), [x])).requiresGrad)
  })
})

test.run()

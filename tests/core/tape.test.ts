/**
 * The tape: what backward sums, records, keeps and frees, and which gradients `gradients` gives. Rules of single ops are
 * checked by registry.test.ts; derivatives of derivatives by second-order.test.ts, checkpoints by checkpoint.test.ts.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newestNode } from '../../core/graph.ts'
import {
  add,
  backward,
  broadcastTo,
  cast,
  concat,
  cpu,
  enableGrad,
  exp,
  gatherRows,
  grad,
  gradEnabled,
  gradients,
  layerNorm,
  linear,
  mean,
  mul,
  neg,
  noGrad,
  reshape,
  scope,
  sin,
  slice,
  softmax,
  split,
  square,
  stats,
  sub,
  sum,
  type Tensor,
  tanh,
  tensor,
  where,
} from '../../core/index.ts'
import { close, normal, tensor64, values } from '../near.ts'
import { leavesNothing, shiftInPlace, slope } from './helpers.ts'

// ---- what is summed -------------------------------------------------------------------------------------------------

test('backward accumulates over calls', () => {
  const w = tensor64([1, 2]).requireGrad()
  backward(sum(mul(w, w)))
  backward(sum(mul(w, 3)))
  assert.equal(values(w.grad!), [5, 7])
})

test('a tensor used twice by one op gets both parts', () => {
  const x = tensor64([3, -2]).requireGrad()
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
    by(x => where(tensor64([1, 0]), x, x)),
    [1, 1],
  )
})

test('diamonds: a shared subexpression is visited once, however many paths lead to it', () => {
  // y = x doubled 60 times by adding it to itself: 2⁶⁰ paths.
  const x = tensor64([1]).requireGrad()
  let y = x
  for (let i = 0; i < 60; i++) y = add(y, y)
  backward(y)
  assert.equal(values(x.grad!), [2 ** 60])
})

test('a shared result and its inputs: y = s² + s x with s = x³', () => {
  const x = tensor64([2]).requireGrad()
  const s = mul(mul(x, x), x)
  backward(add(square(s), mul(s, x)))
  assert.equal(values(x.grad!), [6 * 2 ** 5 + 4 * 2 ** 3]) // 6x⁵ + 4x³
})

test('a chain of 20,000 ops needs no stack', () => {
  leavesNothing(() => {
    const x = tensor64([1]).requireGrad()
    let y = x
    for (let i = 0; i < 20_000; i++) y = add(y, 1e-3)
    assert.equal(values(gradients(y, [x])[0]), [1])
  })
})

test('gradient of a broadcast scalar is the sum of what it was broadcast to', () => {
  const s = tensor64(2).requireGrad()
  const x = normal(1, 3, 4, 5)
  backward(sum(mul(x, s)))
  assert.equal([...s.grad!.shape], [])
  close(values(s.grad!), [values(x).reduce((a, b) => a + b)], 1e-14)
})

test('gradient through reshape, slices and broadcasting, that share or repeat memory', () => {
  const x = tensor64([1, 2, 3, 4, 5, 6]).requireGrad()
  const table = reshape(x, [2, 3])
  const y = add(mul(table, broadcastTo(slice(table, 0, 0, 1), [2, 3])), reshape(x, [2, 3])) // rows ⊙ first row + rows
  backward(sum(y))
  assert.equal(values(x.grad!), [2 * 1 + 4 + 1, 2 * 2 + 5 + 1, 2 * 3 + 6 + 1, 1 + 1, 2 + 1, 3 + 1])
})

test('a vector output wants a cotangent of its shape', () => {
  const x = tensor64([1, 2]).requireGrad()
  assert.throws(() => backward(square(x)), /backward: expected a single element or a cotangent, got shape \[2\]/)
  assert.throws(() => backward(square(x), tensor64([1])), /backward: the cotangent must have shape \[2\], got \[1\]/)
  backward(square(x), tensor64([1, 10]))
  assert.equal(values(x.grad!), [2, 40])
})

test('an op with several results, of which one is used', () => {
  const x = normal(3, 2, 6).requireGrad()
  const [, second] = split(x, 3, 1)
  backward(sum(second))
  assert.equal(values(x.grad!), [0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0])
  // The fused gradient of layer norm gives three results; differentiate one of them only.
  const [w, b] = [normal(4, 6).requireGrad(), normal(5, 6).requireGrad()]
  const y = layerNorm(x, w, b, 1e-5)
  const [gw] = gradients(y, [w], { cotangent: normal(6, 2, 6), createGraph: true })
  const [gx] = gradients(sum(square(gw)), [x])
  const along = normal(7, 2, 6)
  const penalty = (x: Tensor) => {
    const leaf = w.detach().requireGrad()
    const out = layerNorm(x, leaf, b, 1e-5)
    return sum(square(gradients(out, [leaf], { cotangent: normal(6, 2, 6) })[0]))
  }
  close(values(sum(mul(gx, along))), slope(penalty, x.detach(), along), 1e-7)
})

// ---- what is recorded -----------------------------------------------------------------------------------------------

test('only what depends on a leaf is recorded', () => {
  const [x, w] = [tensor64([1]), tensor64([2]).requireGrad()]
  assert.not.ok(mul(x, x).requiresGrad)
  assert.ok(mul(x, w).requiresGrad)
  assert.not.ok(mul(x, w.detach()).requiresGrad)
  assert.throws(() => backward(mul(x, x)), /backward: the output does not depend on a tensor that requires a gradient/)
})

test('noGrad records nothing, enableGrad inside it does, and both end where they began, also on a throw', () => {
  const w = tensor64([2]).requireGrad()
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
  const w = tensor64([3]).requireGrad()
  backward(mul(w, square(w).detach()))
  assert.equal(values(w.grad!), [9])
  const y = square(w)
  const leaf = y.requireGrad()
  backward(square(leaf))
  assert.equal(values(leaf.grad!), [18])
  assert.equal(values(w.grad!), [9])
  backward(mul(w.alias(), 2))
  assert.equal(values(w.grad!), [11])
  assert.throws(() => tensor([1], { dtype: 'i32' }).requireGrad(), /requireGrad: expected f32 or f64, got i32/)
})

test('integers have no gradient: neither indices, nor conditions, nor a float that was truncated', () => {
  const x = tensor64([[[1], [2]]]).requireGrad()
  const index = tensor([[1, 1, 0]], { dtype: 'i32', backend: cpu })
  assert.equal(values(gradients(sum(gatherRows(x, index)), [x])[0]), [1, 2])
  const c = tensor64([1, 0]).requireGrad()
  const a = tensor64([5, 6]).requireGrad()
  const [gc, ga] = gradients(sum(where(c, a, neg(a))), [c, a])
  assert.equal([...values(gc), ...values(ga)], [0, 0, 1, -1])
  assert.not.ok(cast(a, 'i32').requiresGrad)
})

test('a gradient by integers is an error, by whichever function it is taken', () => {
  const i = tensor([3], { dtype: 'i32', backend: cpu })
  const said = (name: string) => `${name}: expected tensors of f32 or f64 to differentiate by, got i32 of shape [1]`
  assert.throws(() => grad(x => sum(mul(x, x)))(i), said('grad'))
  assert.throws(() => grad((x, k) => sum(mul(x, cast(k, 'f64'))))(tensor64([1]), i), said('grad'))
  const w = tensor64([1]).requireGrad()
  assert.throws(() => gradients(sum(w), [w, i]), said('gradients'))
})

test('createGraph records inside noGrad', () => {
  const x = tensor64([2]).requireGrad()
  const y = mul(square(x), x)
  noGrad(() => {
    const [g] = gradients(y, [x], { createGraph: true })
    assert.ok(g.requiresGrad)
    assert.equal(values(gradients(g, [x])[0]), [12])
    const cube = (x: Tensor) => mul(square(x), x)
    const [recorded] = grad(cube, { createGraph: true })(x)
    assert.ok(recorded.requiresGrad)
    assert.equal(values(gradients(recorded, [x])[0]), [12])
    const [second] = grad(x => grad(cube)(x)[0])(tensor64([2]))
    assert.equal(values(second), [12])
  })
})

test('an infinite gradient stays on the side of `where` that was chosen', () => {
  const [a, b] = [tensor64([1, 2]).requireGrad(), tensor64([3, 4]).requireGrad()]
  const y = where(tensor64([1, 0]), a, b)
  const [ga, gb] = gradients(y, [a, b], { cotangent: tensor64([Infinity, Number.NaN]) })
  assert.equal(values(ga), [Infinity, 0])
  assert.equal(values(gb), [0, Number.NaN])
})

// ---- what is kept and freed -----------------------------------------------------------------------------------------

test('backward frees the graph as it walks: after it the bytes are those of the tensors alone', () => {
  const before = cpu.stats().bytes
  const w = normal(1, 100).requireGrad()
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
  const w = tensor64([2]).requireGrad()
  const y = mul(exp(w), w)
  backward(y)
  assert.throws(() => backward(y), /backward: the graph of 'mul' was freed by an earlier backward/)
  assert.throws(() => gradients(y, [w]), /backward: the graph of 'mul' was freed by an earlier backward/)
})

test('what is shared with an earlier backward is gone, what is not still works', () => {
  const w = tensor64([2]).requireGrad()
  const shared = exp(w)
  const [a, b] = [mul(shared, shared), sin(shared)]
  backward(a)
  assert.throws(() => backward(b), /the graph of 'exp' was freed/)
  backward(square(w))
  close(values(w.grad!), [2 * Math.exp(4) + 4], 1e-14)
})

test('a saved tensor that was changed in place is refused, naming the op that needs it', () => {
  scope(() => {
    const w = tensor64([1, 2]).requireGrad()
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
    const w = tensor64([3]).requireGrad()
    const y = square(w)
    w.replaceWith(tensor64([100]))
    backward(y)
    assert.equal(values(w.grad!), [6])
    assert.equal(values(w), [100])
    w.grad!.dispose()
  })
})

test('an input may be disposed before backward', () => {
  const before = cpu.stats().bytes
  const w = tensor64([3]).requireGrad()
  const x = tensor64([5])
  const y = mul(x, w)
  x.dispose()
  backward(y)
  assert.equal(values(w.grad!), [5])
  for (const t of [w.grad!, w, y]) t.dispose()
  assert.is(cpu.stats().bytes, before)
})

test('bytes are exact after steps in scopes, whatever was left unused', () => {
  const w = normal(1, 4, 4).requireGrad().persist()
  const step = () =>
    scope(() => {
      const x = normal(2, 8, 4)
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

// ---- what is freed without a backward --------------------------------------------------------------------------------

/** Bytes that `fn` leaves behind, outside every scope. */
function left(fn: () => void): number {
  const { bytes } = cpu.stats()
  fn()
  return cpu.stats().bytes - bytes
}

test('a result that is disposed of without backward takes along what its graph saved', () => {
  const [x, w] = [normal(1, 8, 4), normal(2, 4, 4).requireGrad()]
  const before = stats(cpu).tensors
  const loss = () => scope(() => mean(square(tanh(layerNorm(linear(x, w), null, null, 1e-6)))))
  const bytes = left(() => {
    const unused = loss()
    unused.dispose()
    unused.dispose()
    using another = loss()
    assert.ok(another.requiresGrad)
    const inScope = scope(() => scope(loss))
    inScope.dispose()
  })
  assert.is(bytes, 0)
  assert.is(stats(cpu).tensors, before)
  assert.not.ok(w.disposed)
  for (const t of [x, w]) t.dispose()
})

test('a node is kept by each result and each consumer that leads to it, and by no other', () => {
  const w = tensor64([1, 2, 3]).requireGrad()
  const bytes = left(() => {
    const a = exp(w) // saves its result, a diamond's top
    const [b, c] = [mul(a, a), sin(a)]
    const d = mul(b, c)
    a.dispose()
    assert.is(
      left(() => b.dispose()),
      0, // d saved it
    )
    assert.is(
      left(() => d.dispose()),
      -2 * 24, // b and d; c has a handle, and leads to a
    )
    assert.is(
      left(() => c.dispose()),
      -2 * 24, // c and a
    )
  })
  assert.is(bytes, 0)
  w.dispose()
})

test('of two losses that share a node, one may go and the other be walked', () => {
  const w = tensor64([1, 2]).requireGrad()
  for (const order of [0, 1]) {
    const bytes = left(() => {
      const [first, second] = scope(() => {
        const shared = exp(w)
        const pair = [sum(square(shared)), sum(mul(shared, 3))]
        return order === 0 ? pair : pair.reverse()
      })
      first.dispose()
      backward(second)
      close(
        values(w.grad!),
        [1, 2].map(x => (order === 0 ? 3 * Math.exp(x) : 2 * Math.exp(2 * x))),
        1e-14,
      )
      w.grad!.dispose()
      w.grad = null
      second.dispose()
    })
    assert.is(bytes, 0)
  }
  w.dispose()
})

test('views keep the graph, detached ones only the memory, and persistent results both', () => {
  const w = tensor64([1, 2, 3, 4]).requireGrad()
  const bytes = left(() => {
    const y = exp(w)
    const [view, same, detached] = [reshape(y, [2, 2]), y.alias(), y.detach()]
    y.dispose()
    same.dispose()
    detached.dispose()
    backward(view, tensor64([1, 1, 1, 1], [2, 2]))
    close(values(w.grad!), [1, 2, 3, 4].map(Math.exp), 1e-14)
    w.grad!.dispose()
    w.grad = null
    const alone = scope(() => square(exp(w)).detach())
    assert.not.ok(alone.requiresGrad)
    const outside: Tensor[] = []
    scope(() => scope(() => void outside.push(sum(exp(w)).persist())))
    const [kept] = outside
    backward(kept)
    for (const t of [view, alone, kept, w.grad!]) t.dispose()
    w.grad = null
  })
  assert.is(bytes, 32) // the cotangent
  w.dispose()
})

test('createGraph: gradients keep what they are made of, also when the loss goes first, and nothing after them', () => {
  const x = tensor64([2]).requireGrad()
  const make = () =>
    scope(() => [sum(mul(square(x), x)), gradients(sum(mul(square(x), x)), [x], { createGraph: true })[0]])
  assert.is(
    left(() => {
      for (const t of make()) t.dispose()
    }),
    0,
  )
  const bytes = left(() => {
    const [loss, slope] = make()
    loss.dispose()
    const [curvature] = gradients(slope, [x])
    assert.equal(values(curvature), [12])
    for (const t of [slope, curvature]) t.dispose()
    const again = scope(() => {
      const y = exp(x)
      return gradients(y, [x], { createGraph: true })[0]
    })
    backward(again)
    close(values(x.grad!), [Math.exp(2)], 1e-14)
    x.grad!.dispose()
    x.grad = null
    again.dispose()
  })
  assert.is(bytes, 0)
  x.dispose()
})

test('a chain of 20,000 results that is disposed of needs no stack', () => {
  const x = tensor64([1]).requireGrad()
  const bytes = left(() => {
    const y = scope(() => Array.from({ length: 20_000 }).reduce<Tensor>(t => exp(mul(t, 1e-3)), x))
    y.dispose()
  })
  assert.is(bytes, 0)
  x.dispose()
})

test('grad outside of every scope leaves its results and nothing else', () => {
  const x = normal(1, 3, 5)
  const slope = grad((t: Tensor) => mean(square(tanh(layerNorm(t, null, null, 1e-6)))))
  const before = stats(cpu).tensors
  const bytes = left(() => {
    const [g] = slope(x)
    assert.equal([...g.shape], [3, 5])
    g.dispose()
    const [h] = grad((t: Tensor) => sum(slope(t)[0]))(x)
    h.dispose()
    assert.throws(() => grad((t: Tensor) => exp(t))(x), /expected a single element/)
  })
  assert.is(bytes, 0)
  assert.is(stats(cpu).tensors, before)
  assert.not.ok(x.disposed)
  x.dispose()
})

// ---- gradients ------------------------------------------------------------------------------------------------------

test('gradients by intermediate results, by the output, by a stranger, by one tensor twice', () => {
  leavesNothing(() => {
    const [x, stranger] = [tensor64([2, 3]).requireGrad(), tensor64([7]).requireGrad()]
    const h = square(x)
    const y = sum(mul(h, x))
    const [gh, gx, gy, none, again, constant] = gradients(y, [h, x, y, stranger, h, tensor64([1])])
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
    const [x, w] = [tensor64([2]).requireGrad(), tensor64([3]).requireGrad()]
    const shared = exp(w)
    const y = mul(square(x), shared)
    gradients(y, [x])
    backward(shared) // still there
    close(values(w.grad!), [Math.exp(3)], 1e-14)
    w.grad!.dispose()
  })
})

test.run()

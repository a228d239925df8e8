/**
 * `checkpoint`: the same bytes as without, less memory in between, gradients for whatever was captured, the same random
 * numbers in both runs, and clear refusals.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  backward,
  cast,
  checkpoint,
  cpu,
  exp,
  grad,
  gradients,
  less,
  linear,
  mean,
  mul,
  noGrad,
  reshape,
  rng,
  scope,
  silu,
  square,
  sum,
  type Tensor,
  tanh,
  where,
} from '../../core/index.ts'
import { normal, tensor64, values } from '../near.ts'
import { leavesNothing, shiftInPlace } from './helpers.ts'

/** A block with a captured weight, as a model's layer has it. */
const block = (w: Tensor) => (xs: readonly Tensor[]) => tanh(linear(xs[0], w))

test('a checkpoint gives the same bytes of values and gradients, and holds less in between', () => {
  const weights = Array.from({ length: 6 }, (_, i) => normal(i, 64, 64))
  const run = (useCheckpoint: boolean) => {
    const leaves = weights.map(w => w.detach().requireGrad())
    const x = normal(99, 32, 64).requireGrad()
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
  assert.is(cpu.stats().bytes, before)
})

test('a checkpoint: captured leaves get gradients, by backward and by gradients', () => {
  leavesNothing(() => {
    const [x, w] = [tensor64([[1, 2]]).requireGrad(), tensor64([[3, 4]]).requireGrad()]
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
          checkpoint(([a]) => sum(mul(a, w)), [tensor64([[5, 6]])]),
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
    const [x, idle] = [tensor64([3]).requireGrad(), tensor64([1]).requireGrad()]
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
    const x = normal(1, 50).requireGrad()
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
    const [x, w] = [tensor64([2]).requireGrad(), tensor64([5]).requireGrad()]
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
    const x = tensor64([2]).requireGrad()
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
    const x = tensor64([2]).requireGrad()
    const y = checkpoint(([a]) => square(a), [x])
    shiftInPlace(x)
    assert.throws(() => backward(y), /a tensor that 'checkpoint' saved for its gradient was changed in place/)
    assert.not.ok(noGrad(() => checkpoint(([a]) => square(a), [x])).requiresGrad)
  })
})

test('a checkpoint may return what it captured, which stays its owner’s', () => {
  leavesNothing(() => {
    const [x, w] = [tensor64([2]).requireGrad(), tensor64([3]).requireGrad()]
    const y = checkpoint(() => w, [x])
    y.dispose()
    noGrad(() => checkpoint(() => w, [x])).dispose()
    checkpoint(() => w.detach(), [x.detach()]).dispose()
    assert.equal(values(w), [3])
    const [gx, gw] = gradients(
      checkpoint(() => w, [x]),
      [x, w],
    )
    assert.equal([values(gx), values(gw)], [[0], [1]])
  })
})

test('a checkpoint refuses to run again on what was changed since, naming the op that read it', () => {
  const refused = (op: string) =>
    new RegExp(`^backward: a tensor that '${op}' read inside a 'checkpoint' was changed in place since$`)
  const each: readonly [string, (a: Tensor, w: Tensor) => Tensor][] = [
    ['mul', (a, w) => mul(a, w)],
    ['add', (a, w) => square(add(a, w))], // what is computed after it depends on w, though addition saves nothing
    ['mul', (a, w) => mul(a, w.detach())],
    ['mul', (a, w) => mul(a, reshape(w, [1]))], // of the same shape: an alias
    ['reshape', (a, w) => mul(a, reshape(w, [1, 1]))],
    ['less', (a, w) => where(less(w, a), a, mul(a, 2))],
    ['mul', (a, w) => checkpoint(([b]) => mul(b, w), [a])],
    ['mul', (a, w) => checkpoint(([b, v]) => mul(b, v), [a, w])],
  ]
  for (const [op, f] of each)
    leavesNothing(() => {
      const [x, w] = [tensor64([2]).requireGrad(), tensor64([3]).requireGrad()]
      const y = checkpoint(([a]) => f(a, w), [x])
      shiftInPlace(w)
      assert.throws(() => backward(sum(y)), refused(op))
    })
  leavesNothing(() => {
    const [x, w] = [tensor64([2]).requireGrad(), tensor64([3]).requireGrad()]
    const make = () => [checkpoint(([a]) => mul(a, w), [x]), checkpoint(([a]) => mul(a, reshape(w, [1])), [x])]
    const [y, z] = make()
    w.replaceWith(tensor64([100])) // as optimizers in plain ops do it
    assert.throws(() => backward(y), refused('mul'))
    assert.throws(() => backward(z), refused('mul'))
    const [again] = make()
    shiftInPlace(again) // its own result is the caller's to change
    backward(again)
    assert.equal(
      [x, w].map(leaf => values(leaf.grad!)),
      [[100], [2]],
    )
    for (const leaf of [x, w]) leaf.grad!.dispose()
  })
})

test('a checkpoint requires a gradient where its inputs or what it captured do, and whole numbers never', () => {
  leavesNothing(() => {
    const [x, w] = [tensor64([2]), tensor64([3]).requireGrad()]
    const wants = (fn: (a: Tensor) => Tensor, input: Tensor) => checkpoint(([a]) => fn(a), [input]).requiresGrad
    assert.not.ok(wants(square, x))
    assert.not.ok(wants(a => cast(a, 'i32'), w))
    assert.not.ok(
      wants(a => grad((t: Tensor) => sum(square(t)))(a)[0], x), // leaves of its own
    )
    assert.ok(wants(square, w))
    assert.ok(wants(a => mul(a, w), x))
    assert.ok(wants(a => checkpoint(([b, v]) => mul(b, v), [a, w]), x))
    assert.ok(wants(() => w, x))
  })
})

test('a checkpoint that nobody walks lets go of its inputs with its result', () => {
  const [x, w] = [normal(1, 3, 4).requireGrad(), normal(2, 4, 4).requireGrad()]
  const { bytes } = cpu.stats()
  const loss = scope(() => mean(checkpoint(block(w), [checkpoint(block(w), [x])])))
  loss.dispose()
  assert.is(cpu.stats().bytes, bytes)
  const [walked, idle] = scope(() => {
    const shared = checkpoint(block(w), [x])
    return [mean(shared), mean(square(shared))]
  })
  idle.dispose()
  backward(walked)
  for (const leaf of [x, w]) {
    leaf.grad!.dispose()
    leaf.grad = null
  }
  walked.dispose()
  assert.is(cpu.stats().bytes, bytes)
  for (const leaf of [x, w]) leaf.dispose()
})

test.run()

/** A training step: its parts, the order of their sums, the random numbers, and what the update sees. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, mean, mul, ready, rng, scope, square, sum, tensor } from '../../core/index.ts'
import { AdamW, Linear } from '../../nn/index.ts'
import { type ComputePart, runStep, type StepInputs } from '../../training/index.ts'
import { near } from '../near.ts'

const wasm = await ready({ backend: 'wasm', threads: 1 })
const [N, C, S] = [12, 1, 2]
const images = rng(3).normalArray(N * C * S * S)
const labels = Int32Array.from({ length: N }, (_, n) => n % 3)

const inputsOf = (parts: number, step = 5): StepInputs => ({
  step,
  progress: 0.25,
  images,
  shape: [N, C, S, S],
  labels,
  parts,
  rng: rng(9),
})

/** A layer from pictures to numbers. */
function trainee() {
  const model = new Linear(C * S * S, 3, { rng: rng(1), backend: wasm })
  const optimizer = new AdamW(model.namedParameters(), { lr: 0.1 })
  /** Mean square of the outputs over the part. */
  const compute: ComputePart = part => {
    const n = part.images.shape[0]
    const loss = scope(() => mean(square(model.forward(tensor(part.images.dataSync(), { shape: [n, C * S * S] })))))
    backward(loss)
    part.report({ loss: loss.detach() })
  }
  return { model, optimizer, compute }
}

/** Gradients that the update of a step sees, by parameter. */
async function gradientsOf(parts: number) {
  const { model, optimizer, compute } = trainee()
  const seen: number[][] = []
  const outcome = await runStep(inputsOf(parts), model.parameters(), compute, losses => {
    for (const p of model.parameters()) seen.push([...p.grad!.dataSync()])
    const update = optimizer.step({ losses })
    optimizer.zeroGrad()
    return update
  })
  optimizer.dispose()
  model.dispose()
  return { seen: seen.flat(), outcome }
}

test('the gradient of a batch is the mean of those of its parts, and so is the loss', async () => {
  const whole = await gradientsOf(1)
  for (const parts of [2, 3, 4, 6, 12]) {
    const { seen, outcome } = await gradientsOf(parts)
    near(seen, whole.seen, 1e-6)
    near([outcome.terms.loss, outcome.gradNorm], [whole.outcome.terms.loss, whole.outcome.gradNorm], 1e-6)
    assert.equal([outcome.finite, outcome.lr], [true, 0.1])
  }
})

test('parts are summed as a pairwise tree: ((0 1) (2 3)) (4 5), bit for bit', async () => {
  const parts = 6
  const { seen } = await gradientsOf(parts)
  const each: Float32Array[] = []
  for (let p = 0; p < parts; p++) {
    const { model, compute } = trainee()
    const n = N / parts
    const slice = { ...inputsOf(1), images: images.subarray(p * n * C * S * S, (p + 1) * n * C * S * S) }
    await runStep({ ...slice, shape: [n, C, S, S], labels: null }, model.parameters(), compute, () => {
      each.push(Float32Array.from(model.parameters().flatMap(p => [...p.grad!.dataSync()])))
      model.zeroGrad()
      const zero = tensor([0], { shape: [], backend: wasm })
      return { norm: zero, finite: zero, lr: 0 }
    })
    model.dispose()
  }
  const add = (a: Float32Array, b: Float32Array) => a.map((value, i) => value + b[i])
  const [g0, g1, g2, g3, g4, g5] = each
  const total = add(add(add(g0, g1), add(g2, g3)), add(g4, g5))
  assert.equal(seen, [...total.map(value => value * Math.fround(1 / parts))])
})

test('a part has its own pictures, labels and random numbers, of step · parts + part', async () => {
  const seen: { images: number[]; labels: number[]; drawn: number[]; progress: number }[] = []
  const { model, optimizer } = trainee()
  await runStep(
    inputsOf(3),
    model.parameters(),
    ({ images, labels, rng, progress, report }) => {
      const drawn = [...rng.normalArray(2)]
      seen.push({ images: [...images.dataSync()], labels: Array.from(labels!), drawn, progress })
      const loss = scope(() => sum(square(model.weight)))
      backward(loss)
      report({ loss: loss.detach() })
    },
    losses => {
      const update = optimizer.step({ losses })
      optimizer.zeroGrad()
      return update
    },
  )
  assert.equal(
    seen.flatMap(({ images }) => images),
    [...images],
  )
  assert.equal(
    seen.flatMap(({ labels }) => labels),
    [...labels],
  )
  for (const [p, { drawn, progress }] of seen.entries()) {
    assert.equal(drawn, [
      ...rng(9)
        .fork('step')
        .fork(5 * 3 + p)
        .normalArray(2),
    ])
    assert.is(progress, 0.25)
  }
  optimizer.dispose()
  model.dispose()
})

test('a parameter without a gradient in some parts counts as 0 there, and has none where no part gives it one', async () => {
  const { model } = trainee()
  let at = 0
  let found: (number[] | null)[] = []
  await runStep(
    inputsOf(4),
    model.parameters(),
    part => {
      const loss = scope(() => mul(sum(model.weight), 1))
      if (at++ === 2) backward(loss)
      part.report({ loss: loss.detach() })
    },
    () => {
      found = model.parameters().map(({ grad }) => grad && [...grad.dataSync()])
      model.zeroGrad()
      const zero = tensor([1], { shape: [], backend: wasm })
      return { norm: zero, finite: zero, lr: 0 }
    },
  )
  assert.equal(found, [new Array(12).fill(0.25), null])
  model.dispose()
})

test('a loss that is not finite in one part stops the update', async () => {
  const { model, optimizer } = trainee()
  const before = [...model.weight.dataSync()]
  let at = 0
  const outcome = await runStep(
    inputsOf(4),
    model.parameters(),
    part => {
      const factor = at++ === 1 ? Number.NaN : 1
      const loss = scope(() => mul(sum(square(model.weight)), factor))
      backward(loss)
      part.report({ loss: loss.detach() })
    },
    losses => {
      const update = optimizer.step({ losses })
      optimizer.zeroGrad()
      return update
    },
  )
  assert.equal([outcome.finite, Number.isNaN(outcome.terms.loss)], [false, true])
  assert.equal([...model.weight.dataSync()], before)
  optimizer.dispose()
  model.dispose()
})

test('a step leaves no tensors behind, with any number of parts', async () => {
  const { model, optimizer, compute } = trainee()
  const step = (parts: number) =>
    runStep(inputsOf(parts), model.parameters(), compute, losses => {
      const update = optimizer.step({ losses })
      optimizer.zeroGrad()
      return update
    })
  await step(1) // makes the moments
  const { storages } = wasm.stats()
  for (const parts of [1, 2, 3, 12]) await step(parts)
  assert.is(wasm.stats().storages, storages)
  optimizer.dispose()
  model.dispose()
})

test.run()

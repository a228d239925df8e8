/**
 * The kernels that no op stands for, on every backend that has them: the squared norm of many tensors, AdamW and the
 * moving average, against their formulas in f64; and that a step whose gradients are not finite writes nothing.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { AdamWSettings } from '../core/backend.ts'
import { gpu } from '../core/backends/gpu/index.ts'
import { createWasm } from '../core/backends/wasm/index.ts'
import { type Backend, cpu, rng, scope, Tensor, tensor } from '../core/index.ts'

const backends: Record<string, Backend> = {
  cpu,
  wasm: await createWasm({ threads: 2 }),
  'wasm simd': await createWasm({ threads: 1, build: 'simd' }),
  gpu: await gpu(),
}

// One element, a few, an odd number past every vector width, and enough for several threads.
const sizes = [1, 3, 1031, 70_001]
const settings: AdamWSettings = { lr: 0.05, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1 }

const draw = (seed: number) => sizes.map(n => rng(seed).normalArray(n))
const on = (backend: Backend, values: Float32Array) => tensor(values, { backend })
const scalar = (backend: Backend, value: number) => tensor(Float32Array.of(value), { backend, shape: [] })

function assertClose(got: ArrayLike<number>, wanted: (i: number) => number, what: string): void {
  for (let i = 0; i < got.length; i++)
    if (!(Math.abs(got[i] - wanted(i)) <= 2e-6 * Math.max(1, Math.abs(wanted(i)))))
      assert.unreachable(`${what}, element ${i} of ${got.length}: wanted ${wanted(i)}, got ${got[i]}`)
}

for (const [name, backend] of Object.entries(backends)) {
  const { sumOfSquares, adamW, lerp } = backend.kernels

  if (sumOfSquares !== undefined)
    test(`sumOfSquares on ${name}`, () => {
      scope(() => {
        const xs = draw(1)
        const operands = xs.map(x => on(backend, x))
        const y = new Tensor(sumOfSquares(operands, { shape: [], dtype: 'f32' }), [])
        const exact = xs.flatMap(x => [...x]).reduce((sum, v) => sum + v * v, 0)
        assert.ok(Math.abs(y.dataSync()[0] / exact - 1) < 1e-6)
        operands[2].dispose()
        const poisoned = [operands[3], on(backend, Float32Array.of(1, Number.NaN))]
        assert.ok(Number.isNaN(new Tensor(sumOfSquares(poisoned, { shape: [], dtype: 'f32' }), []).dataSync()[0]))
      })
    })

  if (adamW !== undefined)
    test(`adamW on ${name}`, () => {
      for (const finite of [1, 0])
        scope(() => {
          const [ps, gs, ms] = [draw(1), draw(2), draw(3)]
          const vs = draw(4).map(v => v.map(Math.abs))
          const tensors = ps.map((p, i) => ({
            p: on(backend, p),
            g: on(backend, gs[i]),
            m: on(backend, ms[i]),
            v: on(backend, vs[i]),
          }))
          const [clip, correction1, correction2] = [0.5, 1 - 0.9 ** 3, 1 - 0.99 ** 3]
          adamW(tensors, settings, {
            clip: scalar(backend, clip),
            correction1: scalar(backend, correction1),
            correction2: scalar(backend, correction2),
            finite: scalar(backend, finite),
          })
          tensors.forEach(({ p, m, v }, k) => {
            if (finite === 0) {
              assert.equal(
                [p, m, v].map(t => t.dataSync()),
                [ps[k], ms[k], vs[k]],
              )
              return
            }
            const { lr, beta1, beta2, eps, weightDecay } = settings
            const newM = (i: number) => beta1 * ms[k][i] + (1 - beta1) * clip * gs[k][i]
            const newV = (i: number) => beta2 * vs[k][i] + (1 - beta2) * (clip * gs[k][i]) ** 2
            const step = (i: number) => newM(i) / correction1 / (Math.sqrt(newV(i) / correction2) + eps)
            assertClose(m.dataSync(), newM, 'm')
            assertClose(v.dataSync(), newV, 'v')
            assertClose(p.dataSync(), i => ps[k][i] * (1 - lr * weightDecay) - lr * step(i), 'p')
          })
        })
    })

  if (lerp !== undefined)
    test(`lerp on ${name}`, () => {
      for (const finite of [1, 0])
        scope(() => {
          const [from, to] = [draw(1), draw(2)]
          const targets = from.map(x => on(backend, x))
          const sources = to.map(x => on(backend, x))
          lerp(targets, sources, 0.1, scalar(backend, finite))
          targets.forEach((t, k) => {
            if (finite === 0) assert.equal(t.dataSync(), from[k])
            else assertClose(t.dataSync(), i => from[k][i] + 0.1 * (to[k][i] - from[k][i]), 'target')
          })
        })
    })
}

test('cpu has all three', () => {
  const { sumOfSquares, adamW, lerp } = cpu.kernels
  assert.ok(sumOfSquares && adamW && lerp)
})

test.after(() => {
  for (const backend of Object.values(backends)) backend.dispose()
})

test.run()

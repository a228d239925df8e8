/**
 * The kernels that no op stands for, on one backend: the squared norm of many tensors, AdamW and the moving average,
 * against their formulas in f64; and that a step whose gradients are not finite writes nothing. Used by
 * in-place-kernels.test.ts and webgpu/backend.test.ts.
 */

import type { Test } from 'uvu'
import * as assert from 'uvu/assert'
import type { AdamWSettings } from '../../core/backend.ts'
import { type Backend, rng, Tensor, tensor } from '../../core/index.ts'

// One element, a few, an odd number past every vector width, and enough for several threads.
const sizes = [1, 3, 1031, 70_001]
const settings: AdamWSettings = { lr: 0.05, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1 }

const draw = (seed: number) => sizes.map(n => rng(seed).normalArray(n))

function assertClose(got: ArrayLike<number>, wanted: (i: number) => number, what: string): void {
  for (let i = 0; i < got.length; i++)
    if (!(Math.abs(got[i] - wanted(i)) <= 2e-6 * Math.max(1, Math.abs(wanted(i)))))
      assert.unreachable(`${what}, element ${i} of ${got.length}: wanted ${wanted(i)}, got ${got[i]}`)
}

/** Registers a test for each of the kernels that `backend` has. */
export function inPlaceKernels(test: Test, name: string, backend: Backend): void {
  const { sumOfSquares, adamW, lerp } = backend.kernels
  let made: Tensor[] = []
  const keep = (t: Tensor) => {
    made.push(t)
    return t
  }
  const on = (values: Float32Array) => keep(tensor(values, { backend }))
  const scalar = (value: number) => keep(tensor(Float32Array.of(value), { backend, shape: [] }))
  /** A test whose tensors are gone afterwards. */
  const check = (kernel: string, run: () => Promise<void>) =>
    test(`${kernel} on ${name}`, async () => {
      const { bytes } = backend.stats()
      await run()
      for (const t of made) t.dispose()
      made = []
      assert.is(backend.stats().bytes, bytes)
    })

  if (sumOfSquares !== undefined)
    check('sumOfSquares', async () => {
      const norm = async (xs: readonly Tensor[]) =>
        keep(new Tensor(sumOfSquares(xs, { shape: [], dtype: 'f32' }), [])).item()
      const xs = draw(1)
      const operands = xs.map(on)
      const exact = xs.flatMap(x => [...x]).reduce((sum, v) => sum + v * v, 0)
      assert.ok(Math.abs((await norm(operands)) / exact - 1) < 1e-6)
      assert.ok(Number.isNaN(await norm([operands[3], on(Float32Array.of(1, Number.NaN))])))
    })

  if (adamW !== undefined)
    check('adamW', async () => {
      for (const finite of [1, 0]) {
        const [ps, gs, ms] = [draw(1), draw(2), draw(3)]
        const vs = draw(4).map(v => v.map(Math.abs))
        const tensors = ps.map((p, i) => ({ p: on(p), g: on(gs[i]), m: on(ms[i]), v: on(vs[i]) }))
        const [clip, correction1, correction2] = [0.5, 1 - 0.9 ** 3, 1 - 0.99 ** 3]
        adamW(tensors, settings, {
          clip: scalar(clip),
          correction1: scalar(correction1),
          correction2: scalar(correction2),
          finite: scalar(finite),
        })
        for (const [k, tensorsOf] of tensors.entries()) {
          const [p, m, v] = [await tensorsOf.p.data(), await tensorsOf.m.data(), await tensorsOf.v.data()]
          if (finite === 0) {
            assert.equal([p, m, v], [ps[k], ms[k], vs[k]])
            continue
          }
          const { lr, beta1, beta2, eps, weightDecay } = settings
          const newM = (i: number) => beta1 * ms[k][i] + (1 - beta1) * clip * gs[k][i]
          const newV = (i: number) => beta2 * vs[k][i] + (1 - beta2) * (clip * gs[k][i]) ** 2
          const step = (i: number) => newM(i) / correction1 / (Math.sqrt(newV(i) / correction2) + eps)
          assertClose(m, newM, 'm')
          assertClose(v, newV, 'v')
          assertClose(p, i => ps[k][i] * (1 - lr * weightDecay) - lr * step(i), 'p')
        }
      }
    })

  if (lerp !== undefined)
    check('lerp', async () => {
      for (const finite of [1, 0]) {
        const [from, to] = [draw(1), draw(2)]
        const targets = from.map(on)
        lerp(targets, to.map(on), 0.1, scalar(finite))
        for (const [k, target] of targets.entries()) {
          const got = await target.data()
          if (finite === 0) assert.equal(got, from[k])
          else assertClose(got, i => from[k][i] + 0.1 * (to[k][i] - from[k][i]), 'target')
        }
      }
    })
}

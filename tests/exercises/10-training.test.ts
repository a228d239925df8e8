/** Solutions of docs/tour/10-training.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, mean, mul, slice, square, sub, tensor } from '../../core/index.ts'
import { AdamW, constantDecay, Ema, Linear, warmUpDecay } from '../../nn/index.ts'
import { adamSteps } from '../../site/figures/training-tables.ts'
import { f64, near, normal, values } from '../near.ts'

test("1: Adam's first two steps", () => {
  const [first, second] = adamSteps([2, -1])
  near([first.m, first.v], [0.2, 0.004], 1e-15)
  near(first.p, 1 - 0.1, 1e-8, 'the first step is the rate') // up to eps = 1e-8 beside a root of 2
  near([second.m, second.v], [0.9 * 0.2 - 0.1, 0.999 * 0.004 + 0.001], 1e-15)
  const [m, v] = [0.08 / (1 - 0.81), 0.004996 / (1 - 0.998001)]
  near(second.p, first.p - (0.1 * m) / Math.sqrt(v), 1e-8)
})

test('2: four parts, one step', () => {
  const [x, y] = [normal(1, 8, 3), normal(2, 8, 2)]
  const weightsAfter = (parts: number) => {
    const layer = new Linear(3, 2, { rng: null, ...f64 })
    const optimizer = new AdamW(layer.namedParameters(), { lr: 0.1 })
    for (let p = 0; p < parts; p++) {
      const [from, to] = [(8 / parts) * p, (8 / parts) * (p + 1)]
      const error = sub(layer.forward(slice(x, 0, from, to)), slice(y, 0, from, to))
      backward(mul(mean(square(error)), 1 / parts)) // adds to the gradients that are there
    }
    optimizer.step()
    return values(layer.weight)
  }
  near(weightsAfter(4), weightsAfter(1), 1e-9)
})

test('3: a constant decay of 0.999 keeps nine tenths of its start for 100 updates', () => {
  const averageAfter = (decay: (update: number) => number) => {
    const zeros = () => {
      const layer = new Linear(1, 1, { rng: null, ...f64 }, { bias: false })
      layer.loadStateDict(new Map([['weight', tensor([[0]], f64)]]))
      return layer
    }
    const model = zeros()
    const ema = new Ema(model, zeros(), { decay })
    model.loadStateDict(new Map([['weight', tensor([[1]], f64)]]))
    for (let i = 0; i < 100; i++) ema.update()
    return values(ema.average.weight)[0]
  }
  near(averageAfter(constantDecay(0.999)), 1 - 0.999 ** 100, 1e-12)
  assert.ok(averageAfter(warmUpDecay(0.999)) > 1 - 1e-6)
})

test.run()

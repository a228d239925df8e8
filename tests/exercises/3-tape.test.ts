/** Solutions of docs/tour/3-tape.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backward, cpu, grad, mul, pow, rng, scope, square, stats, sum, type Tensor } from '../../core/index.ts'
import { AdamW, Linear } from '../../nn/index.ts'
import { close, normal, values } from '../near.ts'

test('1: a Hessian times a vector, without the Hessian', () => {
  const f = (x: Tensor) => mul(sum(pow(x, 4)), 1 / 12) // its Hessian is diagonal: x²
  const hessianTimes = (v: Tensor) => grad((x: Tensor) => sum(mul(grad(f)(x)[0], v)))
  const [x, v] = [normal(1, 5), normal(2, 5)]
  const [Hv] = hessianTimes(v)(x)
  close(values(Hv), values(mul(square(x), v)), 1e-12)
})

test('2: a step leaves the bytes that it found, once the first has made what stays', () => {
  const random = rng(3)
  const model = new Linear(3, 2, { rng: random, backend: cpu })
  const optimizer = new AdamW(model.namedParameters(), { lr: 0.01 })
  const step = () =>
    scope(() => {
      backward(sum(square(model.forward(random.normal([4, 3], { backend: cpu })))))
      optimizer.step()
      optimizer.zeroGrad()
    })
  const bytes = [stats(cpu).bytes]
  for (let i = 0; i < 4; i++) {
    step()
    bytes.push(stats(cpu).bytes)
  }
  const parameters = 4 * model.countParameters().total
  assert.ok(bytes[1] - bytes[0] >= 2 * parameters, 'the first makes the two moments of every parameter')
  assert.equal(new Set(bytes.slice(1)).size, 1, 'the others leave nothing')
})

test.run()

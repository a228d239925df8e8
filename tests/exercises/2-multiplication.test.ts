/** Solutions of docs/tour/2-multiplication.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gradcheckOp } from '../../core/gradcheck.ts'
import { broadcastTo, div, gradients, mul, neg, registry, sum } from '../../core/index.ts'
import { type Binary, defineOp, type None } from '../../core/op.ts'
import { broadcastShapes } from '../../core/shape.ts'
import { close, normal, values } from '../near.ts'

test('1: division that keeps its divisor and its result', () => {
  // y = a / b, so a / b² = y / b: the dividend is not needed on the way back, and its memory can go at once.
  defineOp<Binary, None, Binary>({
    name: 'divKeepingResult',
    infer: ([a, b]) => broadcastShapes('divKeepingResult', a, b),
    forward: (k, [a, b], _, out) => k.binary('div', a, b, out),
    save: ([, b], y) => [b, y],
    vjp: (g, [b, y]) => [() => div(g, b), () => neg(div(mul(g, y), b))],
    samples: r => [{ x: [r.positive(3, 1, 5), r.positive(3, 7, 5)], attrs: {} }],
  })
  const { first, second } = gradcheckOp(registry().get('divKeepingResult')!)
  assert.ok(first! < 1e-6 && second! < 1e-6, `errors of the derivatives: ${first}, ${second}`)
})

test('2: mul(x, x) gets both of its gradients', () => {
  const x = normal(1, 4).requireGrad()
  const [g] = gradients(sum(mul(x, x)), [x])
  close(values(g), values(mul(x, 2)), 1e-15, 'the walk adds what arrives at one tensor')

  // Broadcast by hand, x stands for three rows, whose gradients broadcastTo's own rule sums.
  const [rows] = gradients(sum(mul(broadcastTo(x, [3, 4]), x)), [x])
  assert.equal(rows.shape, [4])
  close(values(rows), values(mul(x, 6)), 1e-15)
})

test.run()

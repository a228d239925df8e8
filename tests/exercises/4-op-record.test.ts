/** Solutions of docs/tour/4-op-record.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gradcheckOp } from '../../core/gradcheck.ts'
import { abs, add, cpu, div, mul, registry, tensor } from '../../core/index.ts'
import { defineOp, type None, type Unary } from '../../core/op.ts'

test('1: softsign, by decomposition', () => {
  defineOp<Unary, None>({
    name: 'softsign',
    differentiable: 'once', // |x| has a kink at 0, where the second derivative jumps
    infer: ([x]) => x,
    forward: () => undefined, // no backend has a kernel: the plain ops run, and the tape records them
    decompose: ([x]) => div(x, add(abs(x), 1)),
    samples: r => [{ x: [r.distinct(3, 1, 5)], attrs: {} }],
  })
  const { first, second } = gradcheckOp(registry().get('softsign')!)
  assert.ok(first! < 1e-6, `error of the derivative: ${first}`)
  assert.is(second, undefined)
})

test('2: one element that is wrong by 1e-4 is found', () => {
  const factors = tensor([1, 1, 1.0001, 1, 1], { dtype: 'f64', backend: cpu })
  const errorOf = (name: string, wrong: boolean) => {
    defineOp<Unary, None, Unary>({
      name,
      infer: ([x]) => x,
      forward: (k, [x], _, out) => k.unary('square', x, out),
      save: ([x]) => [x],
      vjp: (g, [x]) => [() => mul(g, mul(wrong ? mul(x, factors) : x, 2))],
      samples: r => [{ x: [r(3, 1, 5)], attrs: {} }],
    })
    return gradcheckOp(registry().get(name)!).first!
  }
  assert.ok(errorOf('rightSquare', false) < 1e-9)
  const wrong = errorOf('wrongSquare', true)
  assert.ok(wrong > 1e-6 && wrong < 1e-3, `error of the derivative: ${wrong}`)
})

test.run()

/**
 * Random programs: graphs of a dozen ops that share, repeat, broadcast and drop their intermediate results. Their
 * gradients and second derivatives agree with differences, checkpoints change nothing, and nothing is left when they are
 * done.
 */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  backward,
  broadcastTo,
  checkpoint,
  concat,
  gelu,
  geluTanh,
  grad,
  layerNorm,
  matmul,
  mean,
  mul,
  reshape,
  silu,
  sin,
  slice,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
  tanh,
  transpose,
} from '../../core/index.ts'
import { close, normal, values } from '../near.ts'
import { leavesNothing } from './helpers.ts'

// Every value in a program broadcasts to (2, 3), so that any op may take any values.
const steps: readonly ((a: Tensor, b: Tensor) => Tensor)[] = [
  (a, b) => add(a, b),
  (a, b) => sub(a, b),
  (a, b) => mul(a, b),
  a => tanh(a),
  a => sin(a),
  a => silu(a),
  (a, b) => silu(mul(a, b)),
  a => geluTanh(a),
  a => gelu(a),
  a => softmax(broadcastTo(a, [2, 3])),
  (a, b) => layerNorm(broadcastTo(a, [2, 3]), reshape(sum(broadcastTo(b, [2, 3]), 0), [3]), normal(8, 3), 0.1),
  a => layerNorm(broadcastTo(a, [2, 3]), null, null, 0.1),
  a => mean(broadcastTo(a, [2, 3]), -1, true),
  a => mul(sum(a), 0.1),
  (a, b) => slice(concat([broadcastTo(a, [2, 3]), broadcastTo(b, [2, 3])], 1), 1, 2, 5),
  (a, b) => mul(matmul(matmul(broadcastTo(a, [2, 3]), transpose(broadcastTo(b, [2, 3]))), broadcastTo(a, [2, 3])), 0.2),
  a => reshape(transpose(reshape(broadcastTo(a, [2, 3]), [3, 2])), [2, 3]),
]

interface Step {
  readonly op: number
  /** Which of the values so far, counted from the newest. */
  readonly a: number
  readonly b: number
}

const programs = fc.array(fc.record({ op: fc.nat(steps.length - 1), a: fc.nat(3), b: fc.nat(5) }), {
  minLength: 1,
  maxLength: 10,
})

/** Runs the steps; the result is the last value, squashed, and the others may be left unused. */
function run(program: readonly Step[], inputs: readonly Tensor[]): Tensor {
  const all = [...inputs]
  for (const { op, a, b } of program) {
    const pick = (back: number) => all[Math.max(0, all.length - 1 - back)]
    all.push(tanh(steps[op](pick(a), pick(b))))
  }
  return all[all.length - 1]
}

const inputs = (seed: number) => [normal(seed, 2, 3), normal(seed + 1, 3), normal(seed + 2, 2, 1)]

test('first and second derivatives of random programs agree with differences', () => {
  fc.assert(
    fc.property(programs, fc.nat(1000), (program, seed) =>
      leavesNothing(() => {
        const f = (...x: Tensor[]) => mean(square(run(program, x)))
        const [x, v] = [inputs(seed), inputs(seed + 3)]
        const along = (gs: readonly Tensor[]) => gs.map((g, i) => sum(mul(g, v[i]))).reduce((a, b) => add(a, b))
        const at = (h: number) => x.map((t, i) => add(t, mul(v[i], h)))
        const h = 1e-5
        const difference = (a: Tensor, b: Tensor) => values(mul(sub(a, b), 0.5 / h))
        close(values(along(grad(f)(...x))), difference(f(...at(h)), f(...at(-h))), 1e-7, 'first')
        const product = grad((...x: Tensor[]) => along(grad(f)(...x)))(...x) // H v
        const [plus, minus] = [grad(f)(...at(h)), grad(f)(...at(-h))]
        product.forEach((g, i) => {
          close(values(g), difference(plus[i], minus[i]), 1e-6, 'second')
        })
      }),
    ),
    { numRuns: 100, includeErrorInReport: true },
  )
})

test('a random program in two checkpoints, cut anywhere, gives the same values and gradients', () => {
  fc.assert(
    fc.property(programs, fc.nat(10), fc.nat(1000), (program, cut, seed) =>
      leavesNothing(() => {
        const [head, tail] = [program.slice(0, cut), program.slice(cut)]
        const gradientsOf = (f: (x: readonly Tensor[]) => Tensor) => {
          const leaves = inputs(seed).map(x => x.requireGrad())
          const y = f(leaves)
          backward(mean(y))
          return [values(y), ...leaves.map(leaf => leaf.grad && values(leaf.grad))]
        }
        const whole = gradientsOf(x => run(tail, [x[0], x[1], run(head, x)]))
        const saved = gradientsOf(x => checkpoint(h => run(tail, h), [x[0], x[1], checkpoint(h => run(head, h), x)]))
        // Not to the bit: what an input gets from both parts is summed part by part. And an input that plays no part has
        // no gradient without checkpoints, zeros with them.
        whole.forEach((wanted, i) => {
          if (wanted !== null) close(saved[i]!, wanted, 1e-13)
          else for (const value of saved[i] ?? []) assert.is(value, 0)
        })
      }),
    ),
    { numRuns: 60, includeErrorInReport: true },
  )
})

test.run()

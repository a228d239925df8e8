/**
 * Checks gradients against finite differences, by random projection: a function of many elements with many results is
 * turned into one number, L = Σ u ⊙ f(x) with a random u, and its derivative along a random direction v of one input
 * is taken twice: as ⟨∂L/∂x, v⟩ by the tape, and by central differences, extrapolated. A wrong gradient of any element
 * shows with probability 1, at the cost of a few forward passes. Runs in f64 on `cpu`.
 * The walk over all ops is tests/core/registry.test.ts; `npm run gradcheck` prints its table.
 */

import { cpu } from './backends/cpu/backend.ts'
import { type AnyOp, apply, applyMany, type Sample, untyped } from './op.ts'
import { sum } from './ops/broadcast.ts'
import { add, mul } from './ops/elementwise.ts'
import { type Rng, rng } from './random.ts'
import { sampler } from './samples.ts'
import { scope } from './scope.ts'
import type { Shape } from './shape.ts'
import { gradients } from './tape.ts'
import { type Tensor, tensor } from './tensor.ts'

/** A function that can be checked: tensors in, one or several tensors out. */
export type Checked = (...x: Tensor[]) => Tensor | readonly Tensor[]

// Samples of ops with kinks stay 0.015 away from them, so steps must be smaller than that.
const step = 2 ** -7

/**
 * The worst relative error over the f64 inputs of the gradient of `f` by its f64 results: |⟨g, v⟩ − difference| / ‖g‖
 * for directions v of entries ±1, which makes ‖g‖ the size that ⟨g, v⟩ has on average. Where g is 0 the absolute error
 * counts. Undefined when there is no f64 input or result. Inputs must be on `cpu`.
 */
export function gradcheck(f: Checked, x: readonly Tensor[], random: Rng = rng(1)): number | undefined {
  return scope(() => {
    const leaves = x.map(t => (t.dtype === 'f64' ? t.detach().requireGrad() : t))
    const ys = resultsOf(f(...leaves))
    const u = ys.map(y => cotangent(y.shape, random.normalArray(y.size)))
    const wanted = leaves.filter(t => t.dtype === 'f64')
    if (ys.length === 0 || wanted.length === 0) return undefined
    const gs = gradients(project(ys, u), wanted)

    let worst = 0
    let k = 0
    x.forEach((t, i) => {
      if (t.dtype !== 'f64') return
      const g = gs[k++].dataSync()
      const v = Float64Array.from(random.uniformArray(t.size), s => (s < 0.5 ? -1 : 1))
      const by = (h: number) => resultsOf(f(...x.map((other, j) => (j === i ? moved(other, v, h) : other))))
      const numeric = limitOf(h => scope(() => dot(u, by(h), by(-h)) / (2 * h)))
      let [slope, square] = [0, 0]
      for (let j = 0; j < g.length; j++) {
        slope += g[j] * v[j]
        square += g[j] * g[j]
      }
      const error = Math.abs(slope - numeric) / (square === 0 ? 1 : Math.sqrt(square))
      worst = error > worst || Number.isNaN(error) ? error : worst
    })
    return worst
  })
}

/** The same for the gradient itself, as a function of the inputs and of the cotangent: second derivatives of `f`. */
export function gradcheck2(f: Checked, x: readonly Tensor[], random: Rng = rng(2)): number | undefined {
  return scope(() => {
    const ys = resultsOf(f(...x))
    const floats = x.filter(t => t.dtype === 'f64')
    if (ys.length === 0 || floats.length === 0) return undefined
    const u = ys.map(y => cotangent(y.shape, random.normalArray(y.size)))
    const gradient = (...all: Tensor[]) => {
      const inputs = all
        .slice(0, x.length)
        .map(t => (t.dtype === 'f64' && t.node === null ? t.detach().requireGrad() : t))
      const targets = inputs.filter(t => t.dtype === 'f64')
      return gradients(project(resultsOf(f(...inputs)), all.slice(x.length)), targets, { createGraph: true })
    }
    return gradcheck(gradient, [...x, ...u], random)
  })
}

/** Worst errors of an op over all its samples; undefined where the op has no such derivative, or no f64 sample. */
export interface OpCheck {
  readonly first: number | undefined
  readonly second: number | undefined
}

/** gradcheck and, for smooth ops, gradcheck2 of every sample of an op. */
export function gradcheckOp(op: AnyOp, seed = 0): OpCheck {
  return scope(() => {
    const { differentiable, samples } = untyped(op)
    const worst = (check: typeof gradcheck) =>
      samples(sampler(seed))
        .map(sample => check(runs(op, sample), sample.x))
        .reduce((a, b) => (b === undefined || Number.isNaN(a) || b <= a! ? a : b), undefined) // NaN stays
    return {
      first: differentiable === 'none' ? undefined : worst(gradcheck),
      second: differentiable === undefined ? worst(gradcheck2) : undefined,
    }
  })
}

/** An op with a sample's attributes, as a function of its inputs. */
export function runs(op: AnyOp, { attrs }: Sample): Checked {
  const record = untyped(op)
  return (...x) => (record.many ? applyMany(record, x, attrs) : apply(record, x, attrs))
}

/** Returns the f64 results, whose derivatives are taken. */
function resultsOf(y: Tensor | readonly Tensor[]): Tensor[] {
  return [y].flat().filter(t => t.dtype === 'f64')
}

function cotangent(shape: Shape, values: Float32Array): Tensor {
  return tensor(Float64Array.from(values), { shape, dtype: 'f64', backend: cpu })
}

/** Σ u ⊙ y over all results: one element, whose gradient is that of every result weighted by u. */
export function project(ys: readonly Tensor[], u: readonly Tensor[]): Tensor {
  return ys.map((y, k) => sum(mul(y, u[k]))).reduce((a, b) => add(a, b))
}

/** Σ u ⊙ (plus − minus): the difference is taken element by element, before anything is rounded in a sum. */
function dot(u: readonly Tensor[], plus: readonly Tensor[], minus: readonly Tensor[]): number {
  let total = 0
  u.forEach((uk, k) => {
    const [U, P, M] = [uk.dataSync(), plus[k].dataSync(), minus[k].dataSync()]
    for (let i = 0; i < U.length; i++) total += U[i] * (P[i] - M[i])
  })
  return total
}

/** x + h v */
function moved(x: Tensor, v: Float64Array, h: number): Tensor {
  return tensor(
    Float64Array.from(x.dataSync(), (value, i) => value + h * v[i]),
    { shape: x.shape, dtype: 'f64', backend: cpu },
  )
}

/**
 * The limit of a difference quotient whose error is a series in h², by Ridders' method: halve h, extrapolate as far as
 * the halvings so far allow, and keep the entry of the table that differs least from its neighbours. Steep places need
 * a small h and flat ones a large one; this finds it.
 */
function limitOf(quotient: (h: number) => number): number {
  let before = [quotient(step)]
  let best = before[0]
  let estimate = Infinity
  for (let level = 1, h = step / 2; level < 10; level++, h /= 2) {
    const row = [quotient(h)]
    for (let k = 1, factor = 4; k <= level; k++, factor *= 4) {
      row.push(row[k - 1] + (row[k - 1] - before[k - 1]) / (factor - 1))
      const error = Math.max(Math.abs(row[k] - row[k - 1]), Math.abs(row[k] - before[k - 1]))
      if (error < estimate) [estimate, best] = [error, row[k]]
    }
    if (estimate <= 1e-12 * Math.abs(best)) break
    before = row
  }
  return best
}

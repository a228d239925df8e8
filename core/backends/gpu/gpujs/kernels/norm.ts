/**
 * Layer normalisation, plain and adaptive, its gradients, and the gated residual: y = x̂ ⊙ a + c with x̂ = (x − mean) /
 * √(var + eps). One a and one c serve a group of rows: all rows (weight and bias), or the rows of one example (1 +
 * scale, shift). Moments per row come first. Used where webgpu/wgsl/norm.ts is not.
 */

import type { BackendKernels, Kernels, Operand, Storage } from '../../../../backend.ts'
import { sizeOf } from '../../../../shape.ts'
import type { Launcher } from '../../program.ts'
import { coordinate, type Elements, type Thread } from '../kernel.ts'
import { functionOf } from '../library.ts'
import type { ReduceMiddle } from './reduce.ts'

declare function quotient(a: number, b: number): number
declare function remainder(a: number, b: number): number
declare function place(i: number, s: number, j: number, t: number, k: number, u: number): number
declare function isNumber(x: number): number
declare function standardise(x: number, mean: number, inverse: number): number
declare function inverseDeviation(inverse: number): number
declare function modulate(unit: number, a: number, c: number): number
declare function scaled(g: number, a: number): number
declare function weighed(g: number, unit: number): number

/** Per row: mean of x (R, D), in parts of 64. */
function rowMean(this: Thread, x: Elements, D: number): number {
  let total = 0
  for (let from = 0; from < D; from += 64) {
    let part = 0
    for (let k = 0; k < 64; k++) {
      if (from + k < D) {
        part += x[place(this.thread.x, D, from + k, 1, 0, 0)]
      }
    }
    total += part
  }
  return total / D
}

/**
 * Per row: 1/√(var + eps). Where the squared deviations overflow f32, they are summed in units of 2⁸⁰, and the result
 * is −2⁸⁰/√var; `standardise` reads both.
 */
function rowInverse(this: Thread, x: Elements, mean: Elements, D: number, eps: number): number {
  const m = mean[this.thread.x]
  let total = 0
  let scaled = 0
  for (let from = 0; from < D; from += 64) {
    let part = 0
    let scaledPart = 0
    for (let k = 0; k < 64; k++) {
      if (from + k < D) {
        const deviation = x[place(this.thread.x, D, from + k, 1, 0, 0)] - m
        const small = deviation * 8.271806125530277e-25
        part += deviation * deviation
        scaledPart += small * small
      }
    }
    total += part
    scaled += scaledPart
  }
  if (isNumber(total) === 0) {
    return -1 / Math.sqrt(scaled / D)
  }
  return 1 / Math.sqrt(total / D + eps)
}

/** y from moments, a and c (groups, D), one group for `rows` rows. */
// biome-ignore format: one group of parameters a line
function normalise(
  this: Thread, x: Elements, mean: Elements, inverse: Elements, a: Elements, c: Elements,
  D: number, rows: number,
): number {
  const row = quotient(this.thread.x, D)
  const group = quotient(row, rows)
  const column = remainder(this.thread.x, D)
  return modulate(
    standardise(x[this.thread.x], mean[row], inverse[row]),
    a[place(group, D, column, 1, 0, 0)],
    c[place(group, D, column, 1, 0, 0)],
  )
}

/** Per row: mean of gx̂, weighed by 1 or by x̂. */
// biome-ignore format: one group of parameters a line
function rowDot(
  this: Thread, g: Elements, x: Elements, mean: Elements, inverse: Elements, a: Elements,
  D: number, rows: number,
): number {
  const m = mean[this.thread.x]
  const s = inverse[this.thread.x]
  const group = quotient(this.thread.x, rows)
  let total = 0
  for (let from = 0; from < D; from += 64) {
    let part = 0
    for (let k = 0; k < 64; k++) {
      if (from + k < D) {
        const gUnit = scaled(g[place(this.thread.x, D, from + k, 1, 0, 0)], a[place(group, D, from + k, 1, 0, 0)])
        part += weighed(gUnit, standardise(x[place(this.thread.x, D, from + k, 1, 0, 0)], m, s))
      }
    }
    total += part
  }
  return total / D
}

/** gx = (gx̂ − mean(gx̂) − x̂ mean(gx̂ ⊙ x̂)) / √(var + eps). */
// biome-ignore format: one group of parameters a line
function normaliseGrad(
  this: Thread, g: Elements, x: Elements, mean: Elements, inverse: Elements, a: Elements, sum: Elements, dot: Elements,
  D: number, rows: number,
): number {
  const row = quotient(this.thread.x, D)
  const group = quotient(row, rows)
  const gUnit = scaled(g[this.thread.x], a[place(group, D, remainder(this.thread.x, D), 1, 0, 0)])
  const unit = standardise(x[this.thread.x], mean[row], inverse[row])
  return (gUnit - sum[row] - unit * dot[row]) * inverseDeviation(inverse[row])
}

/** g ⊙ x̂, whose sum is the gradient of a. */
function timesUnit(this: Thread, g: Elements, x: Elements, mean: Elements, inverse: Elements, D: number): number {
  const row = quotient(this.thread.x, D)
  return g[this.thread.x] * standardise(x[this.thread.x], mean[row], inverse[row])
}

/** x + gate ⊙ y: gate (N, D), x and y (N, T, D). */
function gated(this: Thread, x: Elements, gate: Elements, y: Elements, D: number, T: number): number {
  const n = quotient(this.thread.x, T * D)
  return x[this.thread.x] + gate[place(n, D, remainder(this.thread.x, D), 1, 0, 0)] * y[this.thread.x]
}

/** a and c are absent, weight and bias, or scale and shift. */
const forms = {
  bare: { modulate: (unit: number) => unit, scaled: (g: number) => g },
  affine: { modulate: (unit: number, a: number, c: number) => unit * a + c, scaled: (g: number, a: number) => g * a },
  adaptive: {
    modulate: (unit: number, a: number, c: number) => unit * (1 + a) + c,
    scaled: (g: number, a: number) => g * (1 + a),
  },
} as const

type Form = keyof typeof forms
export function createNormKernels(
  { launch, free }: Launcher,
  { binary }: Pick<Kernels, 'binary'>,
  reduceMiddle: ReduceMiddle,
) {
  function moments(x: Operand, eps: number) {
    const D = x.shape[x.shape.length - 1]
    const perRow = { dtype: x.dtype, shape: [sizeOf(x.shape.slice(0, -1))] } as const
    coordinate('layerNorm', Math.max(D, perRow.shape[0]))
    const mean = { ...perRow, storage: launch({ key: 'rowMean', kernel: rowMean }, [x], perRow, [D]) }
    const inverse = {
      ...perRow,
      storage: launch({ key: 'rowInverse', kernel: rowInverse }, [x, mean], perRow, [D], [eps]),
    }
    return { D, perRow, mean, inverse }
  }

  function forward(form: Form, x: Operand, a: Operand, c: Operand, rows: number, eps: number): Storage {
    const { D, mean, inverse } = moments(x, eps)
    const functions = { modulate: functionOf('modulate', 3, forms[form].modulate) }
    const program = { key: `normalise ${form}`, kernel: normalise, functions }
    const y = launch(program, [x, mean, inverse, a, c], x, [D, rows])
    free(mean.storage)
    free(inverse.storage)
    return y
  }

  /** Returns [gx] or, with `sums`, [gx, ga, gc]: ga and gc are sums over the rows of each group. */
  function backward(
    form: Form,
    g: Operand,
    x: Operand,
    a: Operand,
    rows: number,
    eps: number,
    sums: boolean,
  ): Storage[] {
    const { D, perRow, mean, inverse } = moments(x, eps)
    const operands = [g, x, mean, inverse, a]
    const scaledBy = functionOf('scaled', 2, forms[form].scaled)
    const dotBy = (key: string, weigh: (g: number, unit: number) => number): Operand => {
      const functions = { scaled: scaledBy, weighed: functionOf('weighed', 2, weigh) }
      const storage = launch({ key: `${key} ${form}`, kernel: rowDot, functions }, operands, perRow, [D, rows])
      return { ...perRow, storage }
    }
    const sum = dotBy('rowSum', g => g)
    const dot = dotBy('rowDot', (g, unit) => g * unit)
    const program = { key: `normaliseGrad ${form}`, kernel: normaliseGrad, functions: { scaled: scaledBy } }
    const results = [launch(program, [...operands, sum, dot], x, [D, rows])]
    if (sums) {
      const storage = launch({ key: 'timesUnit', kernel: timesUnit }, [g, x, mean, inverse], x, [D])
      const product = { dtype: x.dtype, shape: x.shape, storage }
      results.push(reduceMiddle('sum', product, rows, D, a), reduceMiddle('sum', g, rows, D, a))
      free(storage)
    }
    for (const { storage } of [mean, inverse, sum, dot]) free(storage)
    return results
  }

  return {
    layerNorm(x, w, b, eps, _) {
      const rows = sizeOf(x.shape.slice(0, -1))
      return w === null || b === null ? forward('bare', x, x, x, rows, eps) : forward('affine', x, w, b, rows, eps)
    },
    layerNormGrad(g, x, w, eps) {
      const rows = sizeOf(x.shape.slice(0, -1))
      return backward(w === null ? 'bare' : 'affine', g, x, w ?? x, rows, eps, w !== null)
    },
    adaLayerNorm: (x, shift, scale, eps, _) => forward('adaptive', x, scale, shift, x.shape[1], eps),
    adaLayerNormGrad(g, x, scale, eps) {
      const [gx, gscale, gshift] = backward('adaptive', g, x, scale, x.shape[1], eps, true)
      return [gx, gshift, gscale]
    },

    gatedResidual: (x, gate, y, out) =>
      launch({ key: 'gated', kernel: gated }, [x, gate, y], out, [x.shape[2], x.shape[1]]),

    gatedResidualGrad(g, gate, y) {
      const [N, T, D] = y.shape
      const product = { dtype: y.dtype, shape: y.shape, storage: binary('mul', g, y, y) }
      const ggate = reduceMiddle('sum', product, T, D, gate)
      free(product.storage)
      return [ggate, binary('mul', g, { dtype: gate.dtype, storage: gate.storage, shape: [N, 1, D] }, y)]
    },
  } satisfies Partial<BackendKernels>
}

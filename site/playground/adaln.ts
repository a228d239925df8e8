/**
 * adaLN-Zero on two tokens of width 3, forwards and backwards: a branch F(y) = y² between modulation and gate, whose gradient
 * 2y is done by hand. Once by the formulas of the chapter on layers, once by the tape. Used by Adaln.vue and by the
 * chapter's tables and figures (figures/adaln.ts).
 */

import {
  add,
  cpu,
  gatedResidual,
  gradients,
  layerNorm,
  mul,
  reshape,
  scope,
  square,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'

const f64 = { dtype: 'f64', backend: cpu } as const

/** Tokens, scale γ, shift β and gate α, three numbers each. */
export interface AdalnInputs {
  readonly token1: readonly number[]
  readonly token2: readonly number[]
  readonly gamma: readonly number[]
  readonly beta: readonly number[]
  readonly alpha: readonly number[]
}

/** Inputs of the chapter's example. */
export const chapterInputs: AdalnInputs = {
  token1: [1, 2, 3],
  token2: [4, 0, 2],
  gamma: [0, 0.5, -0.5],
  beta: [0, 1, 0],
  alpha: [0.5, 0, -1],
}

/** Names of the values: x, x̂, y, u and o have six numbers, token by token; γ, β and α three. */
export type AdalnName = 'x' | 'normed' | 'y' | 'u' | 'o' | 'gamma' | 'beta' | 'alpha'

/** Values of the example, and gradients of L = ½ Σ o² by each of them. */
export interface AdalnExample {
  readonly values: Readonly<Record<AdalnName, readonly number[]>>
  readonly gradients: Readonly<Record<AdalnName, readonly number[]>>
  readonly loss: number
}

/**
 * Runs o = x + α ⊙ F((1 + γ) ⊙ LN(x) + β) with the package's ops, and differentiates it by the tape. Throws RangeError where a
 * token's numbers are all equal: their standard deviation is 0.
 */
export function byTape(inputs: AdalnInputs): AdalnExample {
  check(inputs)
  return scope(() => {
    const [gamma, beta, alpha] = [inputs.gamma, inputs.beta, inputs.alpha].map(v => tensor(v, f64).requireGrad())
    const x = tensor([inputs.token1, inputs.token2], f64).requireGrad()
    const normed = layerNorm(x, null, null, 0)
    const y = add(mul(normed, add(gamma, 1)), beta)
    const u = square(y)
    const batch = (t: Tensor, ...shape: number[]) => reshape(t, shape)
    const o = reshape(gatedResidual(batch(x, 1, 2, 3), batch(alpha, 1, 3), batch(u, 1, 2, 3)), [2, 3])
    const all: Record<AdalnName, Tensor> = { x, normed, y, u, o, gamma, beta, alpha }
    const loss = mul(sum(square(o)), 0.5)
    const found = gradients(loss, Object.values(all))
    const numbers = (tensors: readonly Tensor[]) =>
      Object.fromEntries(Object.keys(all).map((name, i) => [name, Array.from(tensors[i].dataSync())])) as Record<
        AdalnName,
        number[]
      >
    const [values, slopes] = [numbers(Object.values(all)), numbers(found)]
    return { values, gradients: slopes, loss: loss.itemSync() }
  })
}

/** The same by the chapter's formulas, without a tape. Throws as `byTape`. */
export function byFormula(inputs: AdalnInputs): AdalnExample {
  check(inputs)
  const { gamma, beta, alpha } = inputs
  const tokens = [inputs.token1, inputs.token2].map(x => {
    const [mu, sigma] = moments(x)
    const normed = x.map(v => (v - mu) / sigma)
    const y = normed.map((v, d) => (1 + gamma[d]) * v + beta[d])
    const u = y.map(v => v * v)
    const o = x.map((v, d) => v + alpha[d] * u[d])
    // ∂L/∂o = o; then from the bottom to the top.
    const gu = o.map((g, d) => alpha[d] * g)
    const gy = gu.map((g, d) => 2 * y[d] * g)
    const k = gy.map((g, d) => (1 + gamma[d]) * g)
    const along = mean(k.map((v, d) => v * normed[d]))
    const gx = o.map((g, d) => g + (k[d] - mean(k) - normed[d] * along) / sigma)
    return { x, normed, y, u, o, gx, k, gy, gu }
  })
  const row = (name: keyof (typeof tokens)[number]) => tokens.flatMap(token => token[name])
  const overTokens = (f: (token: (typeof tokens)[number], d: number) => number) =>
    [0, 1, 2].map(d => tokens.reduce((total, token) => total + f(token, d), 0))
  return {
    values: { x: row('x'), normed: row('normed'), y: row('y'), u: row('u'), o: row('o'), gamma, beta, alpha },
    gradients: {
      x: row('gx'),
      normed: row('k'),
      y: row('gy'),
      u: row('gu'),
      o: row('o'),
      gamma: overTokens(({ gy, normed }, d) => gy[d] * normed[d]),
      beta: overTokens(({ gy }, d) => gy[d]),
      alpha: overTokens(({ o, u }, d) => o[d] * u[d]),
    },
    loss: row('o').reduce((total, v) => total + v * v, 0) / 2,
  }
}

/** Largest difference of two examples, over all values and gradients. */
export function distance(a: AdalnExample, b: AdalnExample): number {
  const differences = (['values', 'gradients'] as const).flatMap(part =>
    Object.keys(a[part]).flatMap(name =>
      a[part][name as AdalnName].map((v, i) => Math.abs(v - b[part][name as AdalnName][i])),
    ),
  )
  return Math.max(...differences)
}

function check(inputs: AdalnInputs): void {
  for (const [name, numbers] of Object.entries(inputs)) {
    if (!Array.isArray(numbers) || numbers.length !== 3 || !numbers.every(Number.isFinite))
      throw new RangeError(`${name}: expected three numbers, got ${JSON.stringify(numbers)}`)
    if (name.startsWith('token') && moments(numbers)[1] === 0)
      throw new RangeError(`${name}: expected numbers that are not all equal, got ${numbers}; their deviation is 0`)
  }
}

const mean = (values: readonly number[]) => values.reduce((total, v) => total + v, 0) / values.length

function moments(x: readonly number[]): readonly [mu: number, sigma: number] {
  const mu = mean(x)
  return [mu, Math.sqrt(mean(x.map(v => (v - mu) ** 2)))]
}

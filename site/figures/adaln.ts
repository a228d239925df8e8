/**
 * adaLN-Zero on two tokens of width 3, forwards and backwards, for the chapter on layers: a branch F(y) = y² between
 * modulation and gate, whose gradient 2y is done by hand. And the order in which a new DiT's parameters get gradients.
 */

import {
  add,
  backward,
  cpu,
  gatedResidual,
  gradients,
  layerNorm,
  mul,
  reshape,
  rng,
  square,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { DiT } from '../../models/index.ts'
import { AdamW } from '../../nn/index.ts'

const f64 = { dtype: 'f64', backend: cpu } as const

/** The example's inputs: tokens, scale γ, shift β and gate α. */
export const inputs = {
  x: [
    [1, 2, 3],
    [4, 0, 2],
  ],
  gamma: [0, 0.5, -0.5],
  beta: [0, 1, 0],
  alpha: [0.5, 0, -1],
} as const

/** Values and gradients of the example, row by row. */
export interface Example {
  readonly values: Readonly<Record<string, readonly number[]>>
  readonly gradients: Readonly<Record<string, readonly number[]>>
  readonly loss: number
}

/** Runs o = x + α ⊙ F((1 + γ) ⊙ LN(x) + β) with F(y) = y² and L = ½ Σ o². */
export function example(): Example {
  const [gamma, beta, alpha] = [inputs.gamma, inputs.beta, inputs.alpha].map(v => tensor(v, f64).requireGrad())
  const x = tensor(inputs.x, f64).requireGrad()
  const normed = layerNorm(x, null, null, 0)
  const y = add(mul(normed, add(gamma, 1)), beta)
  const u = square(y)
  const batch = (t: Tensor, ...shape: number[]) => reshape(t, shape)
  const o = reshape(gatedResidual(batch(x, 1, 2, 3), batch(alpha, 1, 3), batch(u, 1, 2, 3)), [2, 3])
  const loss = mul(sum(square(o)), 0.5)
  const all = { x, normed, y, u, o, gamma, beta, alpha }
  const found = gradients(loss, Object.values(all))
  const numbers = (t: Tensor) => Array.from(t.dataSync())
  const entries = Object.entries(all)
  return {
    values: Object.fromEntries(entries.map(([name, t]) => [name, numbers(t)])),
    gradients: Object.fromEntries(entries.map(([name], i) => [name, numbers(found[i])])),
    loss: loss.dataSync()[0],
  }
}

/** 1.2247 → '1.22', −0 → '0'. */
export function short(value: number): string {
  const text = value.toFixed(2).replace(/\.?0+$/, '')
  return text === '-0' ? '0' : text.replace('-', '−')
}

function rowOf(title: string, values: readonly number[]): string {
  return `| ${title} | ${values.map(short).join(' | ')} |`
}

function table(head: string, rows: readonly (readonly [string, readonly number[]])[]): string {
  return [head, '|---|--:|--:|--:|--:|--:|--:|', ...rows.map(([title, values]) => rowOf(title, values))].join('\n')
}

const tokenHead = '| | token 1 | | | token 2 | | |'

function forwardTable(): string {
  const { values } = example()
  return table(tokenHead, [
    ['x', values.x],
    ['x̂ = LN(x)', values.normed],
    ['y = (1 + γ) ⊙ x̂ + β', values.y],
    ['u = F(y) = y²', values.u],
    ['o = x + α ⊙ u', values.o],
  ])
}

function backwardTable(): string {
  const { gradients } = example()
  return table(tokenHead, [
    ['∂L/∂o = o', gradients.o],
    ['∂L/∂u = α ⊙ ∂L/∂o', gradients.u],
    ['∂L/∂y = 2y ⊙ ∂L/∂u', gradients.y],
    ['∂L/∂x̂ = (1 + γ) ⊙ ∂L/∂y', gradients.normed],
    ['∂L/∂x', gradients.x],
  ])
}

function parameterTable(): string {
  const { gradients } = example()
  return [
    '| | channel 1 | channel 2 | channel 3 |',
    '|---|--:|--:|--:|',
    rowOf('∂L/∂α: sum over tokens of ∂L/∂o ⊙ u', gradients.alpha),
    rowOf('∂L/∂β: sum over tokens of ∂L/∂y', gradients.beta),
    rowOf('∂L/∂γ: sum over tokens of ∂L/∂y ⊙ x̂', gradients.gamma),
  ].join('\n')
}

/** Groups of a DiT's parameters; rows [from, to) of a modulation's weight, as multiples of the width. */
const groups: readonly (readonly [title: string, name: RegExp, rows?: readonly (readonly [number, number])[]])[] = [
  ['the last linear layer', /^final_layer\.linear\./],
  ['its shift and scale', /^final_layer\.adaLN_modulation\./],
  [
    'gates of the blocks',
    /^blocks\..*adaLN_modulation\.1\.weight/,
    [
      [2, 3],
      [5, 6],
    ],
  ],
  ['patch embedding', /^x_embedder\./],
  [
    'shifts and scales of the blocks',
    /^blocks\..*adaLN_modulation\.1\.weight/,
    [
      [0, 2],
      [3, 5],
    ],
  ],
  ['attention and MLP', /^blocks\..*\.(attn|mlp)\./],
  ['timestep embedding', /^t_embedder\./],
]

/** Norms of the gradients of each group, in the first steps of a new DiT. */
export function awakening(steps = 3): readonly (readonly [string, readonly number[]])[] {
  const D = 16
  const options = { inputSize: 4, patchSize: 2, inChannels: 1, hiddenSize: D, depth: 2, numHeads: 2, numClasses: 0 }
  const model = new DiT({ ...options, learnSigma: false }, { rng: rng(1), ...f64 })
  const optimizer = new AdamW(model.namedParameters(), { lr: 1e-3, weightDecay: 0 })
  const [x, noise] = [rng(2).normal([8, 1, 4, 4], f64), rng(3).normal([8, 1, 4, 4], f64)]
  const norms = groups.map((): number[] => [])
  for (let step = 0; step < steps; step++) {
    backward(sum(square(add(model.forward(x, [0, 100, 200, 300, 400, 500, 600, 700]), mul(noise, -1)))))
    for (const [i, [, name, rows]] of groups.entries()) {
      let squares = 0
      for (const [path, p] of model.namedParameters())
        if (name.test(path) && p.grad !== null) {
          const g = Array.from(p.grad.dataSync())
          for (const [from, to] of rows ?? [[0, Infinity]])
            squares += g.slice(from * D * D, Math.min(g.length, to * D * D)).reduce((s, v) => s + v * v, 0)
        }
      norms[i].push(Math.sqrt(squares))
    }
    optimizer.step()
    optimizer.zeroGrad()
  }
  return groups.map(([title], i) => [title, norms[i]])
}

function awakeningTable(): string {
  const cell = (norm: number) => (norm === 0 ? '0' : norm.toPrecision(2))
  const rows = awakening().map(([title, norms]) => `| ${title} | ${norms.map(cell).join(' | ')} |`)
  return ['| norm of the gradient | step 1 | step 2 | step 3 |', '|---|--:|--:|--:|', ...rows].join('\n')
}

/** Tables of the chapter on layers. */
export const adaln = {
  'adaln-forward': forwardTable,
  'adaln-backward': backwardTable,
  'adaln-parameters': parameterTable,
  'adaln-awakening': awakeningTable,
}

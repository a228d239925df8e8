/**
 * Tables of the chapter on layers: adaLN-Zero on two tokens (playground/adaln.ts), and the order in which a new DiT's parameters
 * get gradients.
 */

import { add, backward, cpu, mul, rng, square, sum } from '../../core/index.ts'
import { DiT } from '../../models/index.ts'
import { AdamW } from '../../nn/index.ts'
import { byTape, chapterInputs } from '../playground/adaln.ts'

const f64 = { dtype: 'f64', backend: cpu } as const

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
  const { values } = byTape(chapterInputs)
  return table(tokenHead, [
    ['x', values.x],
    ['x̂ = LN(x)', values.normed],
    ['y = (1 + γ) ⊙ x̂ + β', values.y],
    ['u = F(y) = y²', values.u],
    ['o = x + α ⊙ u', values.o],
  ])
}

function backwardTable(): string {
  const { gradients } = byTape(chapterInputs)
  return table(tokenHead, [
    ['∂L/∂o = o', gradients.o],
    ['∂L/∂u = α ⊙ ∂L/∂o', gradients.u],
    ['∂L/∂y = 2y ⊙ ∂L/∂u', gradients.y],
    ['∂L/∂x̂ = (1 + γ) ⊙ ∂L/∂y', gradients.normed],
    ['∂L/∂x', gradients.x],
  ])
}

function parameterTable(): string {
  const { gradients } = byTape(chapterInputs)
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

/** Tables of the chapter on training: Adam's first steps, and the runs that go wrong. */

import { backward, cpu, mul, sum, tensor } from '../../core/index.ts'
import { AdamW } from '../../nn/index.ts'
import { recorded } from './training.ts'
import type { variants } from './training-runs.ts'

/** State of one weight after each of AdamW's steps with given gradients, from weight 1 at a rate of 0.1. */
export function adamSteps(gradients: readonly number[]) {
  const options = { dtype: 'f64', backend: cpu } as const
  const p = tensor([1], options).requireGrad()
  const optimizer = new AdamW([['p', p]], { lr: 0.1, weightDecay: 0 })
  return gradients.map(g => {
    backward(sum(mul(p, g))) // whose gradient is g
    optimizer.step()
    optimizer.zeroGrad()
    const state = optimizer.stateDict()
    const of = (slot: string) => state.get(`${slot}.p`)!.dataSync()[0]
    return { g, m: of('exp_avg'), v: of('exp_avg_sq'), p: p.dataSync()[0] }
  })
}

const cell = (value: number) => String(Number(value.toPrecision(4))).replace('-', '−')

function adamTable(): string {
  const [beta1, beta2] = [0.9, 0.999]
  const rows = adamSteps([2, -1]).map(({ g, m, v, p }, i) => {
    const [mHat, vHat] = [m / (1 - beta1 ** (i + 1)), v / (1 - beta2 ** (i + 1))]
    const numbers = [g, m, v, mHat, vHat, mHat / Math.sqrt(vHat), p]
    return `| ${i + 1} | ${numbers.map(cell).join(' | ')} |`
  })
  const head =
    '| step | g | m | v | m / (1 − β₁ᵏ) | v / (1 − β₂ᵏ) | their ratio, m over the root | weight from 1, η = 0.1 |'
  return [head, '|--:|--:|--:|--:|--:|--:|--:|--:|', ...rows].join('\n')
}

const mistakes: readonly (readonly [keyof typeof variants, string, string])[] = [
  ['good', 'none: rate 0.003, 50 steps of warm-up', 'falls fast, then slowly'],
  ['too high', 'learning rate 0.1', 'learns for 200 steps, then breaks and does not come back'],
  ['too low', 'learning rate 0.00003', 'falls smoothly, a hundred times too slowly'],
  ['no warm-up', 'rate 0.02 without warm-up', 'faster at first; the held-out loss is worse than that of the next row'],
  ['warm-up', 'rate 0.02 with 50 steps of warm-up', 'the grey line of that plot'],
  ['gradients kept', '`zeroGrad` forgotten', 'falls, then the sum of old gradients pushes past every minimum'],
  [
    'bytes',
    'pixels in [0, 255] in place of [−1, 1]',
    'stays near 1: noise of size 1 is invisible beside pixels of size 100',
  ],
  ['in order', 'pictures in the order of the file', 'close to the good run'],
  ['few pictures', '16 pictures', 'training loss falls, held-out loss stays behind'],
  ['moments lost', 'resumed at step 300 without AdamW’s moments', 'a bump at 300'],
]

function mistakesTable(): string {
  const runs = recorded()
  const rows = mistakes.map(([name, mistake, sign]) => {
    const last = runs[name].measured.at(-1)!
    return `| ${mistake} | ${sign} | ${cell(last.heldOut)} | ${cell(last.emaHeldOut)} |`
  })
  const head = '| mistake | what the curve shows | held-out loss at step 580 | with averaged weights |'
  return [head, '|---|---|--:|--:|', ...rows].join('\n')
}

/** Tables of the chapter. */
export const trainingTables = { 'adam-steps': adamTable, 'runs-gone-wrong': mistakesTable }

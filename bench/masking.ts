/**
 * Savings of masking: training steps of each model on all tokens and on those that a mask keeps, the model alone (loss
 * forward and backward) and with AdamW, beside the ratio that their arithmetic predicts. One thread. Run:
 * npx tsx bench/masking.ts [mdt] [maskdit] [maskdit-s] [maskdm] (default all). Steps that are compared take turns, the
 * fastest of each counts, and time is that of the processor, so that a busy machine disturbs little.
 */

import process, { argv } from 'node:process'
import { main } from '../cli/main.ts'
import { backward, profile, type Rng, ready, rng, scope, type Tensor } from '../core/index.ts'
import { UserError } from '../io/user-error.ts'
import {
  dit,
  type Family,
  maskDiT,
  maskDM,
  maskdmPreset,
  mdt,
  mdtV2,
  officialDecoder,
  type SettingsTable,
  type TransformerOptions,
} from '../models/index.ts'
import { AdamW, type Init, type Module } from '../nn/index.ts'
import { newSettings, type Settings } from '../training/index.ts'
import { table } from './table.ts'

/** Losses whose backward makes one training step of a model on N pictures x0 at steps t; they are drawn anew each time. */
interface Step {
  readonly name: string
  readonly model: () => Module
  /** One scalar for each pass of the step. */
  losses(model: Module, x0: Tensor, random: Rng): Iterable<Tensor>
}

/** Steps that see the same pictures. The first is what the others are compared with. */
interface Comparison {
  readonly name: string
  /** (N, C, H, W) */
  readonly pictures: readonly [number, number, number, number]
  readonly patchSize: number
  readonly steps: readonly Step[]
  /** By its name: the most that a step may cost, as a share of the first one. */
  readonly bound?: { readonly step: string; readonly ratio: number }
}

/** Weights of zeros: their values do not change how long a step takes. */
const init: Init = { rng: null }
const latents = { inputSize: 32, inChannels: 4, numClasses: 1000 }

/** A step of a family's model, or some of its passes, by their places. */
function step<Model extends Module, Options extends TransformerOptions, Own extends SettingsTable>(
  name: string,
  family: Family<Model, Options, Own>,
  options: Options,
  own: Partial<Settings<Own>> = {},
  which?: readonly number[],
): Step {
  const settings = newSettings<Model, Options, Own>(family, { size: options.inputSize, ...own })
  return {
    name,
    model: () => family.make(options, init),
    *losses(model, images, random) {
      const labels = options.numClasses > 0 ? random.integersArray(0, options.numClasses, images.shape[0]) : null
      const passes = family.training.passes(model as Model, { images, labels, rng: random, progress: 0 }, settings)
      for (const [i, pass] of [...passes].entries()) if (which?.includes(i) ?? true) yield pass().loss
    },
  }
}

const maskdm = (name: string, own: Partial<Settings<typeof maskDM.training.settings>>) =>
  step(name, maskDM, maskdmPreset('ablation/celeba_small').network, own)

const [full, masked] = [0, 1]
const small2 = { mdt: mdt.options('S/2', latents), mdtV2: mdtV2.options('S/2', latents) }
const xl = { ...latents, patchSize: 2, hiddenSize: 1152, depth: 8, numHeads: 16 }
const small = { ...latents, patchSize: 2, hiddenSize: 384, depth: 12, numHeads: 6 }
const lightDecoder = { hiddenSize: 512, depth: 2, numHeads: 16 }

const comparisons: Readonly<Record<string, Comparison>> = {
  mdt: {
    name: 'MDT-S/2, 256 tokens, batch 2, mask ratio 0.3, in version 2 from 0.3 to 0.5',
    pictures: [2, 4, 32, 32],
    patchSize: 2,
    steps: [
      step('DiT-S/2', dit, small),
      step('MDT, full pass', mdt, small2.mdt, {}, [full]),
      step('MDT, masked pass', mdt, small2.mdt, {}, [masked]),
      step('MDT, a step: both', mdt, small2.mdt),
      step('MDTv2, full pass', mdtV2, small2.mdtV2, {}, [full]),
      step('MDTv2, masked pass', mdtV2, small2.mdtV2, {}, [masked]),
      step('MDTv2, a step: both', mdtV2, small2.mdtV2),
    ],
  },
  maskdit: {
    name: "MaskDiT at XL/2's proportions: encoder 8 × 1152, decoder 2 × 512, 256 tokens, batch 2",
    pictures: [2, 4, 32, 32],
    patchSize: 2,
    steps: [
      step('DiT, 8 × 1152', dit, xl),
      step('MaskDiT, all tokens', maskDiT, { ...xl, decoder: lightDecoder }, { maskRatio: 0 }),
      step('MaskDiT, ratio 0.5', maskDiT, { ...xl, decoder: lightDecoder }, { maskRatio: 0.5 }),
    ],
    bound: { step: 'MaskDiT, ratio 0.5', ratio: 0.62 },
  },
  'maskdit-s': {
    name: 'MaskDiT-S/2 with the official decoder of 8 × 512, 256 tokens, batch 2',
    pictures: [2, 4, 32, 32],
    patchSize: 2,
    steps: [
      step('DiT-S/2', dit, small),
      step('MaskDiT-S/2, all tokens', maskDiT, { ...small, decoder: officialDecoder }, { maskRatio: 0 }),
      step('MaskDiT-S/2, ratio 0.5', maskDiT, { ...small, decoder: officialDecoder }, { maskRatio: 0.5 }),
    ],
  },
  maskdm: {
    name: 'MaskDM, 13 × 512, 64 px in patches of 4: 256 tokens, batch 8',
    pictures: [8, 3, 64, 64],
    patchSize: 4,
    steps: [
      maskdm('all tokens', { stage: 'finetune' }),
      maskdm('block mask, 50 %', { preset: 'ablation/pretrain/block4/celeba_50p' }),
      maskdm('block mask, 90 %', { preset: 'ablation/pretrain/block4/celeba_90p' }),
    ],
    bound: { step: 'block mask, 90 %', ratio: 0.2 },
  },
}

/** Cost of a step. */
interface Cost {
  /** Milliseconds of loss, forward and backward, and of the optimizer's step. */
  readonly model: number
  readonly optimizer: number
  readonly gflop: number
}

/** Milliseconds of processor time, which on one thread is wall time without the time of other processes. */
function timed(run: () => void): number {
  const start = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1000
}

/** Runs the steps of a comparison in turn: once to count operations, then `rounds` times against time. */
function measure({ pictures, steps }: Comparison, rounds: number): Cost[] {
  const random = rng(1)
  const x0 = random.uniform(pictures)
  const best = steps.map((): Cost => ({ model: Infinity, optimizer: Infinity, gflop: 0 }))
  for (let round = 0; round <= rounds; round++)
    steps.forEach(({ model: make, losses }, i) => {
      const model = make()
      const optimizer = new AdamW(model.namedParameters(), { lr: 1e-6 })
      const passes = () => {
        for (const loss of losses(model, x0, random)) backward(loss)
      }
      if (round === 0) {
        const rows = profile(() => scope(passes))
        best[i] = { ...best[i], gflop: rows.reduce((sum, { flops }) => sum + flops, 0) / 1e9 }
      } else {
        const ms = timed(() => scope(passes))
        // The first update makes the moments, so the second one is timed.
        scope(() => void optimizer.step())
        const update = timed(() => scope(() => void optimizer.step()))
        best[i] = { ...best[i], model: Math.min(best[i].model, ms), optimizer: Math.min(best[i].optimizer, update) }
      }
      optimizer.dispose()
      model.dispose()
    })
  x0.dispose()
  return best
}

/** Prints the table of a comparison; false where a bound is not kept. */
function report(comparison: Comparison, costs: readonly Cost[]): boolean {
  const { name, pictures, patchSize, steps, bound } = comparison
  const [N, , H, W] = pictures
  const tokens = (N * H * W) / patchSize ** 2
  const [first] = costs
  const rows = costs.map(({ model, optimizer, gflop }, i) => [
    steps[i].name,
    gflop.toFixed(1),
    (gflop / first.gflop).toFixed(3),
    model.toFixed(0),
    (model / first.model).toFixed(3),
    ((1000 * tokens) / model).toFixed(0),
    ((gflop / model) * 1000).toFixed(1),
    (model + optimizer).toFixed(0),
    ((model + optimizer) / (first.model + first.optimizer)).toFixed(3),
    ((1000 * tokens) / (model + optimizer)).toFixed(0),
  ])
  const heads = ['', 'GFLOP', 'ratio', 'ms', 'ratio', 'tokens/s', 'GFLOP/s', 'with AdamW: ms', 'ratio', 'tokens/s']
  console.log(`${name}\n${table([heads, ...rows])}`)
  const at = steps.findIndex(step => step.name === bound?.step)
  if (bound === undefined || at < 0) return true
  const ratio = costs[at].model / first.model
  console.log(`${bound.step} / ${steps[0].name}: ${ratio.toFixed(3)}, wanted at most ${bound.ratio}`)
  return ratio <= bound.ratio
}

await main(async () => {
  const asked = argv.slice(2)
  for (const name of asked)
    if (!Object.hasOwn(comparisons, name))
      throw new UserError(`bench: expected ${Object.keys(comparisons).join(', ')}, got '${name}'`)
  const backend = await ready({ backend: 'wasm', threads: 1 })
  console.log('tokens/s counts the tokens of the pictures, removed ones too\n')
  for (const [name, comparison] of Object.entries(comparisons)) {
    if (asked.length > 0 && !asked.includes(name)) continue
    if (!report(comparison, measure(comparison, 3))) process.exitCode = 1
    console.log()
  }
  backend.dispose()
})

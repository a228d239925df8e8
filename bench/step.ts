/**
 * A training step of MDT-S/2 (16 px, 64 tokens, batch 8) on one thread: its speed as a fraction of the multiply-adds
 * that the same run measures, and what an op costs beyond its arithmetic. The counts are in models/cost.ts and cost.ts.
 */

import { type Backend, backward, matmul, rng, scope, stats, tensor } from '../core/index.ts'
import { mdt } from '../models/index.ts'
import { AdamW } from '../nn/index.ts'
import { newSettings } from '../training/index.ts'
import { measureCeiling } from './ceiling.ts'
import { chainTimes, torchChainTimes } from './chain.ts'
import { stepBytes } from './cost.ts'
import { median, table, times } from './table.ts'

/** A model and its optimizer, and one step of them on pictures of noise. */
export function trainer(preset: string, N: number) {
  const settings = newSettings(mdt, { preset })
  const options = mdt.options(preset, { inputSize: 16, inChannels: 3, numClasses: 0 }, settings)
  const random = rng(1)
  const model = mdt.make(options, { rng: random.fork('weights') })
  const optimizer = new AdamW(model.namedParameters(), { lr: 1e-4 })
  const pixels = random.uniformArray(N * 3 * 16 * 16)
  const run = () =>
    scope(() => {
      const part = { images: tensor(pixels, { shape: [N, 3, 16, 16] }), labels: null, rng: random, progress: 0 }
      for (const pass of mdt.training.passes(model, part, settings)) backward(pass().loss)
      optimizer.step()
      optimizer.zeroGrad()
    })
  const parameters = model.countParameters().total
  const dispose = () => {
    optimizer.dispose()
    model.dispose()
  }
  const flops = mdt.cost(options, N).step
  return { run, dispose, options, parameters, flops, bytes: stepBytes(options, parameters, N) }
}

export async function step(backend: Backend): Promise<void> {
  const ceiling = await measureCeiling()
  const share = (gflops: number) => [`${gflops.toFixed(1)} GFLOP/s`, `${((100 * gflops) / ceiling).toFixed(0)} %`]
  const rows = [
    ['one thread', 'ms', 'GFLOP', '', 'of the ceiling'],
    ['multiply-adds on registers', '', '', ...share(ceiling)],
  ]

  const square = rng(1).normal([512, 512])
  const product = Math.min(...times(50, () => scope(() => void matmul(square, square))))
  rows.push([
    'matmul 512³',
    product.toFixed(2),
    (0.256 * 1.048576).toFixed(3),
    ...share((2 * 512 ** 3) / product / 1e6),
  ])
  square.dispose()

  const before = stats(backend)
  const large = trainer('S/2', 8)
  backend.resetPeak()
  const processor = process.cpuUsage()
  const started = performance.now()
  const ms = median(times(5, large.run))
  const { user, system } = process.cpuUsage(processor)
  const busy = (user + system) / 1000 / (performance.now() - started)
  const { peakBytes, fallbacks } = stats(backend)
  rows.push([
    'step of MDT-S/2, batch 8',
    ms.toFixed(0),
    (large.flops / 1e9).toFixed(1),
    ...share(large.flops / ms / 1e6),
  ])
  console.log(`${table(rows)}\n`)
  if (busy < 0.95) {
    const [rate, part] = share(large.flops / (ms * busy) / 1e6)
    console.log(
      `the machine was busy: the step had ${(100 * busy).toFixed(0)} % of a processor; by processor time ${rate}, ${part}`,
    )
  }
  large.dispose()

  const ours = median(chainTimes(backend, 20))
  const torch = torchChainTimes(20)
  const theirs = typeof torch === 'string' ? torch : `PyTorch ${torch.version} ${median(torch.ms).toFixed(2)} ms`
  const ratio = typeof torch === 'string' ? '' : `, ours / theirs ${(ours / median(torch.ms)).toFixed(2)}`
  console.log(`chain of 1,000 mul/add, forward + backward, median of 20: ${ours.toFixed(2)} ms; ${theirs}${ratio}`)

  const mega = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`
  const peak = peakBytes - before.bytes
  console.log(
    `peak of the S/2 step: ${mega(peak)}, by the formula ${mega(large.bytes)} (${((100 * peak) / large.bytes - 100).toFixed(1)} % apart); ` +
      `fallbacks ${fallbacks}`,
  )
}

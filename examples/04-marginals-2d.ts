/**
 * MaskDM's idea on points of a Swiss roll [MaskDM §3.1]: a network that is shown one coordinate at a time learns the roll's
 * two shadows, and draws a cloud that has them; shown both, it then learns the roll. Beside it a network that never
 * saw the shadows, trained on both coordinates for as many steps as the second phase. Run: npx tsx
 * examples/04-marginals-2d.ts.
 */

import { mkdirSync } from 'node:fs'
import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import {
  backward,
  broadcastTo,
  concat,
  mul,
  type Rng,
  ready,
  rng,
  scope,
  slice,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
} from '../core/index.ts'
import { ddimSample, gaussianDiffusion, linearBetas, qSample, respace, spaceTimesteps } from '../diffusion/index.ts'
import { AdamW } from '../nn/index.ts'
import { writeScatter } from '../training/index-node.ts'
import { PointDenoiser } from './point-denoiser.ts'
import { swissRoll } from './swiss-roll.ts'

const D = 128
const diffusion = gaussianDiffusion({ betas: linearBetas(1000), variance: 'fixedSmall' })

/** Steps of masked denoising score matching, each point shown by one coordinate or by both. */
function train(model: PointDenoiser, steps: number, hide: boolean, random: Rng): void {
  const N = 512
  const optimizer = new AdamW(model.namedParameters(), { lr: 2e-3, weightDecay: 0 })
  for (let step = 0; step < steps; step++) {
    const { points } = swissRoll(N, 0.02, random)
    const first = random.integersArray(0, 2, N)
    const flags = Float32Array.from({ length: 2 * N }, (_, i) => (hide && first[i >> 1] === i % 2 ? 0 : 1))
    const t = random.integersArray(0, diffusion.steps, N)
    scope(() => {
      const [x0, shown] = [tensor(points, { shape: [N, 2] }), tensor(flags, { shape: [N, 2] })]
      const noise = random.normal([N, 2])
      const predicted = model.forward(qSample(diffusion, x0, t, noise), t, shown)
      const error = mul(square(sub(predicted, noise)), shown) // of what is shown
      backward(mul(sum(error), 1 / (hide ? N : 2 * N)))
      optimizer.step({ lr: 2e-3 * (1 - step / steps) })
      optimizer.zeroGrad()
    })
  }
  optimizer.dispose()
}

/** Points drawn by 50 steps of DDIM; by shadows alone each coordinate goes its own way. (count, 2) */
async function generatePoints(model: PointDenoiser, xT: Tensor, shadows: boolean): Promise<Float32Array> {
  const flag = (a: number, b: number) => broadcastTo(tensor([[a, b]]), xT.shape)
  const few = respace(diffusion, spaceTimesteps(diffusion.steps, '50'))
  const sample = ddimSample(
    few,
    (x, t) => {
      if (!shadows) return model.forward(x, t, flag(1, 1))
      const [byX, byY] = [model.forward(x, t, flag(1, 0)), model.forward(x, t, flag(0, 1))]
      return concat([slice(byX, 1, 0, 1), slice(byY, 1, 1)], 1) // (N, 2)
    },
    xT,
  )
  const points = (await sample.data()) as Float32Array
  sample.dispose()
  return points
}

/** The mean distance from a point to the nearest of the data. */
function distance(points: Float32Array, data: Float32Array): number {
  let total = 0
  for (let i = 0; i < points.length; i += 2) {
    let nearest = Infinity
    for (let j = 0; j < data.length; j += 2)
      nearest = Math.min(nearest, (points[i] - data[j]) ** 2 + (points[i + 1] - data[j + 1]) ** 2)
    total += Math.sqrt(nearest)
  }
  return total / (points.length / 2)
}

await main(async () => {
  const {
    before,
    steps,
    points: count,
    out,
  } = readFlags({
    command: 'npx tsx examples/04-marginals-2d.ts',
    about: 'Learns the shadows of a Swiss roll first, then the roll, and draws both.',
    flags: {
      before: { type: 'integer', min: 1, default: 2000, about: 'steps with one coordinate hidden' },
      steps: { type: 'integer', min: 1, default: 500, about: 'steps with both shown' },
      points: { type: 'integer', min: 1, default: 2000, about: 'points to draw' },
      out: { type: 'text', value: 'DIR', default: 'runs/04-marginals-2d', about: 'where the picture goes' },
    },
    examples: [['--steps 100', 'a shorter second phase']],
  })
  await ready()
  const random = rng(1)
  const data = swissRoll(count, 0.02, random.fork('data')).points
  const xT = random.fork('noise').normal([count, 2])
  const model = () => new PointDenoiser(D, { rng: random.fork('weights') }, { masked: true })
  const [tuned, fresh] = [model(), model()]

  train(tuned, before, true, random.fork('shadows'))
  const shadows = await generatePoints(tuned, xT, true)
  train(tuned, steps, false, random.fork('roll'))
  train(fresh, steps, false, random.fork('roll'))
  const panels = [
    { title: 'the data', points: data },
    { title: `its shadows, ${before} steps`, points: shadows },
    { title: `and the roll, ${steps} steps more`, points: await generatePoints(tuned, xT, false) },
    { title: `the roll alone, ${steps} steps`, points: await generatePoints(fresh, xT, false) },
  ]
  mkdirSync(out, { recursive: true })
  await writeScatter(`${out}/samples.png`, panels)
  for (const { title, points } of panels.slice(1))
    console.log(`${title}: ${distance(points, data).toFixed(3)} from the nearest point of the data`)
  console.log(`${out}/samples.png`)
})

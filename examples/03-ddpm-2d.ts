/**
 * A diffusion model in two dimensions: a small network learns to take noise out of points on a Swiss roll, then makes
 * new points from noise alone, by all 1,000 steps of DDPM and by 50 of DDIM. [DDPM alg. 1 and 2, DDIM eq. 12]
 * Run: npx tsx examples/03-ddpm-2d.ts.
 */

import { mkdirSync } from 'node:fs'
import { readFlags } from '../cli/flags.ts'
import { main } from '../cli/main.ts'
import { backward, mean, ready, rng, scope, type Tensor, tensor } from '../core/index.ts'
import {
  ddimSample,
  ddpmSample,
  gaussianDiffusion,
  linearBetas,
  respace,
  spaceTimesteps,
  trainingLoss,
} from '../diffusion/index.ts'
import { AdamW, Ema, warmUpDecay } from '../nn/index.ts'
import { writeScatter } from '../training/index-node.ts'
import { PointDenoiser } from './point-denoiser.ts'
import { swissRoll } from './swiss-roll.ts'

await main(async () => {
  const {
    steps,
    points: count,
    out,
  } = readFlags({
    command: 'npx tsx examples/03-ddpm-2d.ts',
    about: 'Trains a diffusion model on a Swiss roll and draws its samples beside the data.',
    flags: {
      steps: { type: 'integer', min: 1, default: 3000, about: 'optimizer steps' },
      points: { type: 'integer', min: 1, default: 2000, about: 'points to draw' },
      out: { type: 'text', value: 'DIR', default: 'runs/03-ddpm-2d', about: 'where the picture goes' },
    },
    examples: [['--steps 500', 'see a blurred roll']],
  })
  await ready()
  const [N, D] = [512, 128]
  const random = rng(1)
  const diffusion = gaussianDiffusion({ betas: linearBetas(1000), variance: 'fixedSmall' })
  const model = new PointDenoiser(D, { rng: random.fork('weights') })
  const ema = new Ema(model, new PointDenoiser(D, { rng: null }), { decay: warmUpDecay(0.999) })
  const optimizer = new AdamW(model.namedParameters(), { lr: 2e-3, weightDecay: 0 })

  const roll = (count: number) => swissRoll(count, 0.02, random).points
  let average = 0
  for (let step = 1; step <= steps; step++) {
    const points = roll(N)
    const t = random.integersArray(0, diffusion.steps, N)
    const loss = scope(() => {
      const x0 = tensor(points, { shape: [N, 2] })
      const noise = random.normal([N, 2])
      const loss = mean(trainingLoss(diffusion, (x, t) => model.forward(x, t), x0, t, noise).loss)
      backward(loss)
      optimizer.step({ lr: 2e-3 * (1 - (step - 1) / steps) })
      optimizer.zeroGrad()
      ema.update()
      return loss.detach()
    })
    average += (await loss.item()) / 300
    loss.dispose()
    if (step % 300 === 0) {
      console.log(`step ${step}  mean loss of the last 300 ${average.toFixed(4)}`)
      average = 0
    }
  }

  const network = (x: Tensor, t: ArrayLike<number>) => ema.average.forward(x, t)
  const noise = random.normal([count, 2])
  const few = respace(diffusion, spaceTimesteps(diffusion.steps, '50'))
  const panels = [
    { title: 'the data', points: roll(count) },
    { title: 'DDPM, 1,000 steps', points: await ddpmSample(diffusion, network, noise, { noise: random }).data() },
    { title: 'DDIM, 50 steps', points: await ddimSample(few, network, noise).data() },
  ]
  mkdirSync(out, { recursive: true })
  await writeScatter(`${out}/samples.png`, panels)
  console.log(`${out}/samples.png`)
})

/**
 * Kind `sampling`: respaced DDPM and DDIM loops of a DiT or an MDT with guidance, every intermediate x. The respacing is the
 * one in the description of the loop's timesteps (`respacing "2,3,4"`). Without one it is that of as many steps as the
 * stored loop has: `N` for DDPM, `ddimN` for DDIM.
 */

import { stack, type Tensor } from '../../../core/index.ts'
import type { Network } from '../../../diffusion/gaussian.ts'
import { classifierFreeGuidance } from '../../../diffusion/guidance.ts'
import { respace, spaceTimesteps } from '../../../diffusion/respace.ts'
import { ddimSteps, ddpmSteps, type SampleStep } from '../../../diffusion/samplers.ts'
import { spacingIn } from '../description.ts'
import type { Fixture, Run } from '../fixture.ts'
import { numbered, once, type Results } from '../kind.ts'
import { diffusionOf, guidedChannels, labels, setCounts } from '../transformer.ts'
import { transformerOf } from '../transformer-of.ts'

export function compute(fixture: Fixture, run: Run): Results {
  const model = transformerOf(fixture, run)
  const { diffusion } = diffusionOf(fixture)
  const results: Results = new Map()
  setCounts(results, model)

  const network = once((): Network => {
    const y = labels(fixture, 'in.y')
    const plain: Network = (x, t) => model.forward(x, t, y)
    if (!fixture.scalars.has('cfg_scale')) return plain
    const power = fixture.scalars.has('scale_pow') ? fixture.setting('scale_pow') : undefined
    const channels = guidedChannels(model.options)
    return classifierFreeGuidance(plain, { scale: fixture.setting('cfg_scale'), power, channels })
  })
  const respaced = (prefix: string, name: string) => {
    const key = `out.${name}_timesteps`
    const steps = fixture.tensors.get(key)?.shape[0]
    if (steps === undefined) throw new Error(`expected '${key}', which the fixture does not hold`)
    return respace(diffusion, spaceTimesteps(diffusion.steps, spacingIn(fixture, key) ?? prefix + steps))
  }
  const setTimesteps = (name: string, prefix: string) =>
    results.set(`out.${name}_timesteps`, () => {
      const { timesteps } = respaced(prefix, name)
      return { data: timesteps.toReversed(), shape: [timesteps.length] }
    })

  setTimesteps('ddpm', '')
  results.set('out.ddpm', () => {
    const noise = (step: number) => fixture.row('in.ddpm_noise', step, run)
    return every(ddpmSteps(respaced('', 'ddpm'), network(), fixture.tensor('in.z', run), { noise }))
  })
  setTimesteps('ddim', 'ddim')
  for (const [key, eta] of numbered(fixture, 'out.ddim_eta'))
    results.set(key, () => {
      const noise = (step: number) => fixture.row('in.ddim_noise', step, run)
      return every(ddimSteps(respaced('ddim', 'ddim'), network(), fixture.tensor('in.z', run), { eta, noise }))
    })
  return results
}

/** x after each step of a loop: (steps, N, C, H, W). */
function every(loop: Iterable<SampleStep>): Tensor {
  return stack(
    Array.from(loop, ({ x }) => x.alias()),
    0,
  )
}

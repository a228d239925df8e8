/**
 * Trainee of kind `trajectory`: the model that a fixture's parameters name and its loss at each step, from stored draws.
 * Every family of models has a file of its own; this one has DiT and MDT, and chooses.
 */

import { mean, type Tensor } from '../../core/index.ts'
import { trainingLoss } from '../../diffusion/losses.ts'
import { DiT } from '../../models/dit.ts'
import { mdtLoss } from '../../models/mdt-loss.ts'
import { dropLabels, type Module } from '../../nn/index.ts'
import type { Fixture, Run } from './fixture.ts'
import { isMaskDiT, maskDiTTrainee } from './maskdit.ts'
import { isMaskdm, maskdmTrainee } from './maskdm.ts'
import { storedPasses } from './mdt.ts'
import { diffusionOf } from './transformer.ts'
import { transformerOf } from './transformer-of.ts'

/** Terms of a step, by the names of the fixture: scalars and (N). `loss` is minimised. */
export type Terms = Readonly<Record<string, Tensor>> & { readonly loss: Tensor }

export interface Trainee {
  readonly model: Module
  termsAt(step: number): Terms
  /** A second model like the first, for a moving average of the weights. */
  another?(): Module
}

export function traineeOf(fixture: Fixture, run: Run): Trainee {
  if (isMaskdm(fixture)) return maskdmTrainee(fixture, run)
  return isMaskDiT(fixture) ? maskDiTTrainee(fixture, run) : transformerTrainee(fixture, run)
}

/** A DiT, or an MDT of either version. */
function transformerTrainee(fixture: Fixture, run: Run): Trainee {
  const model = transformerOf(fixture, run)
  const { diffusion, options } = diffusionOf(fixture)
  const termsAt = (step: number): Terms => {
    const read = (name: string) => (fixture.has(`in.${name}`) ? fixture.hostRow(`in.${name}`, step) : null)
    const x0 = fixture.row('in.x0', step, run)
    const t = fixture.hostRow('in.t', step).data
    if (!(model instanceof DiT)) {
      const weighting = options ?? { weighting: model.weighting }
      const { full, masked, loss } = mdtLoss(model, diffusion, x0, t, storedPasses(model, run, read), weighting)
      return { ...termsNamed('full_', full), ...termsNamed('mask_', masked), loss }
    }
    const { numClasses, classDropoutProb = 0.1 } = model.options
    const [y, u] = [read('y')?.data ?? null, read('drop_u')?.data ?? null]
    const labels = y === null || u === null ? y : dropLabels(y, u, classDropoutProb, numClasses)
    const noise = fixture.row('in.noise', step, run)
    const terms = trainingLoss(diffusion, (x, time) => model.forward(x, time, labels), x0, t, noise, options)
    const { loss: perSample, ...rest } = termsNamed('', terms)
    return { ...rest, loss_per_sample: perSample, loss: mean(perSample) }
  }
  return { model, termsAt }
}

function termsNamed(
  prefix: string,
  { mse, vb, loss }: { mse: Tensor; vb: Tensor | null; loss: Tensor },
): Record<string, Tensor> {
  return { [`${prefix}mse`]: mse, ...(vb === null ? {} : { [`${prefix}vb`]: vb }), [`${prefix}loss`]: loss }
}

/** Multiply-adds of the runs of docs/evidence, from their command lines and the cost of their family. */

import { readTrainingCommand } from '../../cli/train-flags.ts'
import { families } from '../../models/families.ts'
import type { MDTOptions } from '../../models/mdt.ts'
import { type MDTAblation, type MDTAblationName, mdtAblations } from '../../models/mdt-ablations.ts'
import { type AnyProgram, programs } from '../../training/programs.ts'
import { newSettings } from '../../training/settings.ts'

/** Classes of emoji, which change the cost of a MaskDiT by less than a thousandth. */
const numClasses = 9

/** Settings of single families that a cost depends on. */
interface Own {
  readonly maskRatio?: number
  readonly stage?: 'pretrain' | 'finetune'
  readonly tune?: 'zero' | 'cosine'
  readonly ablation?: MDTAblationName
}

/** The mask ratio of a run; that of tuning by a cosine is its mean. */
function meanRatio({ maskRatio, stage, tune }: Own): number | undefined {
  if (stage === 'finetune' || tune === 'zero') return 0
  return tune === 'cosine' ? maskRatio! / 2 : maskRatio
}

/**
 * Multiply-adds of a training step with the command line of a run, `train FAMILY …`: matrix products, forward and backward.
 * An MDT without a side-interpolator is counted as one that has it. Tuning has the labels of the run that it tunes.
 */
export function multiplyAddsOf([, command, ...words]: readonly string[]): number {
  const family = families.find(each => each.command === command)!
  const program: AnyProgram = programs[command as keyof typeof programs]
  const { given } = readTrainingCommand(program, `demask train ${command}`, words)
  const settings = newSettings(program.family, given)
  const own = settings as unknown as Own
  const row: MDTAblation = own.ablation === undefined ? {} : mdtAblations[own.ablation]
  const { preset, size, batch } = settings
  const pictures = { inputSize: size, inChannels: 3, numClasses: given.labels === 'no' ? 0 : numClasses }
  const options = family.options(preset, pictures, settings as never)
  const decodeLayer = row.decoderPosition && { decodeLayer: Number(row.decoderPosition.slice('Last'.length)) }
  const { forward, step } = family.cost({ ...(options as MDTOptions), ...decodeLayer } as never, batch, meanRatio(own))
  return (row.latentType === 'full' ? 3 * forward : step) / 2
}

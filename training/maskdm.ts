/**
 * MaskDM's program: pre-training on masked pictures, then fine-tuning on whole ones [MaskDM §3.2]. Fine-tuning starts with
 * the weights that pre-training left, on the same pictures or others. Needs Node.
 */

import { keptPatches } from '../diffusion/index.ts'
import { gridOf } from '../models/dit.ts'
import { type MaskDMOptions, type MaskedUViT, maskDM, maskingOf } from '../models/index.ts'
import { presetOfRun } from './checkpoint.ts'
import { familyProgram } from './family-program.ts'
import type { TrainingProgram } from './program.ts'
import { checkPatches, folderOf } from './settings.ts'

type Own = (typeof maskDM)['training']['settings']

export const maskDMProgram: TrainingProgram<MaskedUViT, MaskDMOptions, Own> = familyProgram(maskDM, {
  about:
    'Trains MaskDM on pictures in two stages: the first, on masked ones, is cheap; the second continues with whole ones.',
  examples: [
    ['pretrain', 'the first stage, on smileys'],
    ['finetune', 'the second, which starts with the weights of the first'],
    ['pretrain --mask-ratio 0.9', 'learn from a tenth of every picture'],
    ['finetune --from runs/maskdm-tiny-pretrain --data my-pictures --size 32', 'other pictures, larger ones'],
  ],
  folder: ({ preset, stage = 'pretrain' }) => `${folderOf(maskDM, preset)}-${stage}`,
  complete({ from, ...given }, _, preset) {
    if (given.stage !== 'finetune') return { ...given, from }
    const pretrained = given.init === undefined ? `${folderOf(maskDM, preset)}-pretrain` : 'scratch'
    return { ...given, from: from ?? pretrained }
  },
  /** Fine-tuning continues with the model that was pre-trained. */
  inheritedPreset: ({ stage, from }) => (stage === 'finetune' ? presetOfRun(from) : undefined),
  check(options, settings) {
    checkPatches(options, { preset: settings.preset, latents: settings.latents })
    const masking = maskingOf(settings)
    if (masking !== null) keptPatches(masking, gridOf(options))
  },
  title: ({ preset, stage }) => `MaskDM-${preset}, ${stage},`,
  origin({ stage, from = 'scratch' }) {
    if (stage === 'pretrain' || from === 'scratch') return null
    return { flag: '--from', weights: { path: from, weights: 'model' } } // of the last step, as in the official code
  },
})

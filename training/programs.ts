/** The training programs, by the word after `demask train`. Needs Node. The loop that they share is train.ts. */

import type { SettingsTable } from '../models/family.ts'
import { dit, mdt, mdtV2 } from '../models/index.ts'
import type { Module } from '../nn/index.ts'
import { familyProgram } from './family-program.ts'
import { maskDiTProgram } from './maskdit.ts'
import { maskDMProgram } from './maskdm.ts'
import type { TrainingProgram } from './program.ts'
import { duration } from './progress.ts'
import type { CommonSettings } from './settings.ts'
import { vaeProgram } from './vae.ts'

export const ditProgram = familyProgram(dit, {
  about: 'Trains a diffusion transformer [DiT] on pictures and shows what it generates.',
  examples: [
    ['', 'a small model of smileys'],
    ['--resume --steps 20000', 'continue a run, for longer'],
    ['--data my-pictures --size 32 --minutes 60', 'pictures of your own, for an hour'],
    [
      '--held-out 0.05 --lr-schedule cosine',
      'with the loss on pictures that it does not learn, and a rate that falls to 0',
    ],
  ],
})

export const mdtProgram = familyProgram(mdt, {
  about: 'Trains a masked diffusion transformer [MDT] on pictures and shows what it generates.',
  examples: [
    ['', 'a small model on smileys: faces in minutes'],
    ['--resume --steps 20000', 'continue a run, for longer'],
    ['--preset S/2', 'MDT-S/2: coloured discs after 150 steps, within 10 minutes on 2 cores'],
    ['--data my-pictures --size 32 --minutes 60', 'pictures of your own, for an hour'],
    ['--ablation no-side-interpolator', "a row of the paper's tables"],
    ['--latents runs/latents-emoji-smileys-32', 'on latents that encode-latents left, decoded to be seen'],
  ],
  speed: firstFaces,
})

export const mdtV2Program = familyProgram(mdtV2, {
  about: 'Trains a masked diffusion transformer of the second version [MDTv2] on pictures and shows what it generates.',
  examples: [
    ['', 'a small model of smileys'],
    ['--resume --steps 20000', 'continue a run, for longer'],
    ['--optimizer adan --clip 1 --lr-schedule linear', "with the optimizer and annealing of the authors' code"],
  ],
})

/** A program whose types are erased: it is only given settings and models of its own. */
export type AnyProgram = TrainingProgram<Module, unknown, SettingsTable>

/** Programs of `demask train`, by the word after it. */
export const programs = {
  dit: ditProgram,
  mdt: mdtProgram,
  mdtv2: mdtV2Program,
  maskdit: maskDiTProgram,
  maskdm: maskDMProgram,
  vae: vaeProgram,
} satisfies Record<string, AnyProgram>

/** Steps until samples on emoji:smileys at 16 px are recognisable as faces: measured for tiny, guessed for the others. */
const facesAfter = { tiny: 500, S: 800, B: 1500, L: 3000, XL: 4000 } as const

/** Tells when the first faces are due, once a step has been timed. */
function firstFaces({ preset, data, size, latents }: CommonSettings, step: number, seconds: number): string {
  const speed = `${seconds.toFixed(2)} s a step`
  const faces = facesAfter[preset.split('/')[0] as keyof typeof facesAfter]
  if (data !== 'emoji:smileys' || size !== 16 || latents !== null || step >= faces) return speed
  const hope = `${speed}: first recognisable faces after about ${faces} steps, in ${duration(seconds * (faces - step))}`
  return preset.startsWith('tiny') ? hope : `${hope}, by estimate (--preset tiny gets there in minutes)`
}

/**
 * Flags that every training program has, and how a run's settings follow from them: a resumed run keeps those it began
 * with. Used by train-settings.ts, maskdit-settings.ts, maskdm-settings.ts and vae-settings.ts.
 */

import type { Flags } from '../cli/flags.ts'
import { backendNames } from '../core/index.ts'
import { dataHelp } from '../data/open.ts'
import { keptTokens } from '../diffusion/index.ts'
import { UserError } from '../io/user-error.ts'
import type { TransformerOptions } from '../models/index.ts'
import { unguarded } from './index.ts'

export const runFlags = {
  data: { type: 'text', value: 'SET', about: `${dataHelp} (default emoji:smileys)` },
  strict: { type: 'switch', about: 'end at a picture that cannot be read, in place of leaving it out' },
  size: { type: 'integer', min: 1, max: 256, about: 'height and width of the pictures (default 16)' },
  steps: { type: 'integer', min: 1, default: 10_000, about: 'steps in all, those before a resume among them' },
  minutes: { type: 'number', min: 0, about: 'stop after so many minutes, if that comes first' },
  batch: { type: 'integer', min: 1, about: 'pictures per step (default by preset)' },
  lr: { type: 'number', min: 0, about: 'learning rate after the warm-up (default by preset)' },
  clip: { type: 'number', min: 1e-6, about: 'scale gradients of a larger norm down to this (default by preset)' },
  'skip-nonfinite': {
    type: 'integer',
    min: 0,
    about: 'skip up to N steps in a row whose loss or gradient is NaN or infinite; default 0, stop at once',
  },
  seed: { type: 'integer', min: 0, about: 'the same seed gives the same run (default 0)' },
  backend: { type: 'text', choices: backendNames, about: 'where tensors live (default wasm)' },
  threads: { type: 'integer', min: 1, max: 256, about: 'threads of the wasm backend (default one per core)' },
  resume: { type: 'switch', about: 'go on from the last checkpoint in DIR' },
} as const satisfies Flags

/**
 * Settings that a resumed run may change: all others decide what its steps so far have computed. Pictures may be in another
 * place by now; that they are the same is for `otherPictures`.
 */
const mayChange = new Set(['lr', 'maxNorm', 'skipNonfinite', 'data', 'latents'])

/**
 * `base`, with the values of the flags that were given in place of its own. Throws UserError where that would change
 * what a resumed run in `out` has computed.
 */
export function settled<S extends object>(
  base: S,
  asked: Readonly<Record<string, unknown>>,
  { out, resumed }: { readonly out: string; readonly resumed: boolean },
): S {
  const flags = { ...asked, maxNorm: asked.clip, skipNonfinite: asked['skip-nonfinite'] }
  // Runs of earlier versions have no such settings.
  const chosen = Object.entries({ ...unguarded, ...base }).map(([name, value]) => {
    const given = flags[name as keyof typeof flags]
    if (given === undefined) return [name, value]
    if (resumed && given !== value && !mayChange.has(name))
      throw new UserError(`--${dashed(name)}: the run in ${out} has ${value}, got ${given}: a change needs a new run`)
    return [name, given]
  })
  return Object.fromEntries(chosen) as S
}

/** What `checkPatches` looks at. */
interface Masked {
  readonly preset: string
  readonly maskRatio: number
  readonly latents: unknown
}

/** Throws UserError where patches do not divide what a model draws, or where its mask would keep none of them. */
export function checkPatches(
  { inputSize, patchSize }: TransformerOptions,
  { preset, maskRatio, latents }: Masked,
): void {
  const flag = latents === null ? '--size' : '--latents'
  if (inputSize % patchSize !== 0)
    throw new UserError(`${flag}: wanted a multiple of ${preset}'s patch size, ${patchSize}, got ${inputSize}`)
  const T = (inputSize / patchSize) ** 2
  if (keptTokens(T, maskRatio) === 0)
    throw new UserError(`--mask-ratio: wanted a mask that keeps one of ${T} patches or more, got ${maskRatio}`)
}

/** maskRatio as the flag: mask-ratio. */
function dashed(name: string): string {
  return name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)
}

/**
 * The models of the papers by size and patch, with the official numbers of parameters, and tiny ones, which learn to
 * generate small pictures in minutes on a laptop: `tiny` at 16 pixels, `tiny/4` at 32, `tiny/8` at 64; and the training
 * defaults of each.
 */

import { aCount, aString, check } from '../core/arguments.ts'
import { atCaller } from '../core/traceback.ts'
import { checkPreset } from './arguments.ts'
import type { TransformerOptions } from './dit.ts'
import type { GenerationRequest, TrainingDefaults } from './family.ts'
import { type MaskDiTOptions, officialDecoder } from './maskdit.ts'
import type { MDTOptions } from './mdt.ts'

const sizes = {
  S: { depth: 12, hiddenSize: 384, numHeads: 6 },
  B: { depth: 12, hiddenSize: 768, numHeads: 12 },
  L: { depth: 24, hiddenSize: 1024, numHeads: 16 },
  XL: { depth: 28, hiddenSize: 1152, numHeads: 16 },
} as const

const patches = [2, 4, 8] as const

const tinySizes = { depth: 6, hiddenSize: 128, numHeads: 4 } as const

/** Tiny presets by patch size. */
const tinyNames = { 2: 'tiny', 4: 'tiny/4', 8: 'tiny/8' } as const
type TinyName = (typeof tinyNames)[keyof typeof tinyNames]

/** Size and patch, as in MDT-S/2. `tiny` has patch 2. */
export type PresetName = `${keyof typeof sizes}/${(typeof patches)[number]}` | TinyName

/** All of them, small to large. */
export const presetNames: readonly PresetName[] = [
  ...patches.map(P => tinyNames[P]),
  ...(Object.keys(sizes) as (keyof typeof sizes)[]).flatMap(size => patches.map(P => `${size}/${P}` as const)),
]

/** The pictures that a model generates. */
export interface Pictures {
  /** H = W: of pixels, or of latents (a 256-pixel picture has 32). */
  readonly inputSize: number
  /** 3 for RGB, 4 for the usual latents. */
  readonly inChannels: number
  /** 0 without labels. */
  readonly numClasses: number
}

/** True for `tiny`, `tiny/4` and `tiny/8`. */
export function isTiny(name: string): name is TinyName {
  return Object.values(tinyNames).includes(name as TinyName)
}

function tinyPatch(name: TinyName): number {
  return name === 'tiny' ? 2 : Number(name.slice('tiny/'.length))
}

/**
 * The tiny preset for a model's input of `side` by `side`, the default of a training run: the smallest patch of 2, 4 and 8
 * that divides the side and leaves at most 64 tokens, else the largest that divides it. 16 → tiny, 32 → tiny/4, 64 → tiny/8.
 */
export function tinyFor(side: number): TinyName {
  check('tinyFor', 'side', side, aCount)
  const dividing = patches.filter(P => side % P === 0)
  return tinyNames[dividing.find(P => side / P <= 8) ?? dividing.at(-1) ?? 2]
}

/** Depth, width, heads and patch of a preset. Throws RangeError on an unknown name. */
function bodyOf(op: string, name: string): Pick<TransformerOptions, 'depth' | 'hiddenSize' | 'numHeads' | 'patchSize'> {
  if (isTiny(name)) return { ...tinySizes, patchSize: tinyPatch(name) }
  if (!presetNames.includes(name as PresetName))
    throw atCaller(new RangeError(`${op}: preset: expected one of ${presetNames.join(', ')}, got '${name}'`))
  const [size, P] = name.split('/')
  return { ...sizes[size as keyof typeof sizes], patchSize: Number(P) }
}

/** DiT-S/2 … DiT-XL/8, or tiny. [DiT table 1] Throws RangeError on an unknown name. */
export function ditPreset(name: string, pictures: Pictures): TransformerOptions {
  return presetOf('ditPreset', name, pictures)
}

function presetOf(op: string, name: string, pictures: Pictures): TransformerOptions {
  checkPreset(op, name, pictures)
  return { ...bodyOf(op, name), ...pictures, classDropoutProb: dropoutOf(pictures) }
}

/** MDT-S/2 … MDT-XL/8, or tiny: N₂ = 2, mask ratio 0.3. [MDT §4.1] Throws RangeError on an unknown name. */
export function mdtPreset(name: string, pictures: Pictures): MDTOptions {
  return { ...presetOf('mdtPreset', name, pictures), maskRatio: 0.3, decodeLayer: 2 }
}

/** The same sizes for MDTv2; S has 6 decoder blocks, others 4, as its authors train them. Throws RangeError. */
export function mdtV2Preset(name: string, pictures: Pictures): MDTOptions {
  const options = presetOf('mdtV2Preset', name, pictures)
  const decodeLayer = isTiny(name) ? 2 : name.startsWith('S/') ? 6 : 4
  return { ...options, maskRatio: 0.3, decodeLayer }
}

/** MaskDiT's: those, and H, which only MaskDiT has. */
export const maskDiTPresetNames: readonly string[] = [...presetNames, ...patches.map(P => `H/${P}`)]

/**
 * MaskDiT-S/2 … MaskDiT-XL/8, MaskDiT-H/2 … H/8, or tiny: a decoder of 8 blocks of width 512 whatever the size (tiny: 2
 * of 128), reconstruction with weight 0.1. The official models without a decoder have `decoder: null, maeLossCoef: 0`.
 * Throws RangeError on an unknown name.
 */
export function maskDiTPreset(name: string, pictures: Pictures): MaskDiTOptions {
  checkPreset('maskDiTPreset', name, pictures)
  const decoder = isTiny(name) ? { hiddenSize: 128, depth: 2, numHeads: 4 } : officialDecoder
  const huge = { depth: 32, hiddenSize: 1280, numHeads: 16, patchSize: Number(name.slice('H/'.length)) }
  const body = maskDiTPresetNames.includes(name) && name.startsWith('H/') ? huge : bodyOf('maskDiTPreset', name)
  return { ...body, ...pictures, classDropoutProb: dropoutOf(pictures), decoder, maeLossCoef: 0.1 }
}

/** Where there are no labels, none are dropped, and there is no table of them. */
function dropoutOf({ numClasses }: Pictures): number {
  return numClasses > 0 ? 0.1 : 0
}

/** Pictures in the grid that a run of DiT or MDT writes with its checkpoints: as many as are drawn in seconds. */
export function samplesIn(preset: string): number {
  return preset === 'tiny' ? 96 : 24
}

/**
 * Settings of that grid's generation. After ten minutes of training on pictures of five classes, ancestral sampling with guidance
 * drew clearer pictures than DDIM, whose whole pictures had wrong colours; in 25 steps it left specks, in 100 none.
 */
export function gridIn(
  preset: string,
  labelled: boolean,
): Partial<Pick<GenerationRequest, 'sampler' | 'steps' | 'guidance'>> {
  if (preset === 'tiny' || !isTiny(preset)) return {}
  return { sampler: 'ddpm', steps: 100, ...(labelled && { guidance: { scale: 4 } }) }
}

/**
 * Weighting of the squared error of DiT and MDT. On 300 pictures of five classes, 1,000 steps of `tiny/4` with min-SNR drew what
 * 1,600 without it did.
 */
export function weightingIn(preset: string): 'uniform' | 'min-snr-5' {
  return preset !== 'tiny' && isTiny(preset) ? 'min-snr-5' : 'uniform'
}

/**
 * Training settings of DiT, MDT and MaskDiT on small pictures. The paper's rate, 3e-4, is for batches of 256; S and tiny
 * have rates at which faces take shape within minutes. `tiny/4` and `tiny/8` learn more from many steps than from large batches.
 * `tiny` learns smileys faster without labels. Throws RangeError on an unknown name.
 */
export function trainingDefaults(name: string): TrainingDefaults {
  check('trainingDefaults', 'name', name, aString)
  if (!maskDiTPresetNames.includes(name)) bodyOf('trainingDefaults', name)
  const large: TrainingDefaults = {
    size: 16,
    batch: 16,
    lr: 3e-4,
    warmUpSteps: 0,
    weightDecay: 0,
    emaDecay: 0.9999,
    maxNorm: null,
    labels: 'yes',
    flip: true,
  }
  if (isTiny(name)) {
    const tiny: TrainingDefaults = { ...large, size: 8 * tinyPatch(name), lr: 2e-3, warmUpSteps: 100, emaDecay: 0.999 }
    return name === 'tiny' ? { ...tiny, batch: 64, labels: 'no' } : tiny
  }
  return name.startsWith('S/') ? { ...large, lr: 6e-4 } : large
}

/**
 * Memory that each model needs, in training and in sampling, for latents of 256-pixel pictures (32 px, 4 channels, 1000
 * classes), and so which ones fit into the 4 GiB that wasm can address. Nothing is computed: the steps run on a backend that
 * only counts bytes (training/memory.ts), which tests compare with wasm's own count. Training is a step with the family's
 * optimizer and a moving average of the weights; sampling generates a picture with guidance, so passes are on two pictures for one.
 * Run: npm run bench -- memory.
 */

import type { Backend } from '../core/index.ts'
import { type Family, families, type Pictures } from '../models/index.ts'
import { countGeneration, countTraining, newSettings } from '../training/index.ts'
import { table } from './table.ts'

const latents = { inputSize: 32, inChannels: 4, numClasses: 1000 }

/** Bytes at the peak of a step on N pictures. */
export function trainingBytes(
  family: Family,
  preset: string,
  N: number,
  { backend, pictures = latents }: { backend?: Backend; pictures?: Pictures } = {},
): number {
  const { inputSize: size, inChannels: channels, numClasses } = pictures
  const settings = newSettings(family, { preset, size, batch: N })
  const options = family.options(preset, pictures, settings)
  const labelled = numClasses > 0
  return countTraining({ family, options, settings, images: { channels, size }, labelled }, { backend }).step
}

/** Bytes at the peak while one picture is generated with guidance, and the number of parameters. */
export function samplingBytes(family: Family, preset: string): { bytes: number; parameters: number } {
  const { sampler } = family.generation.defaults
  const request = { seeds: [0], labels: [0], sampler, steps: 2, guidance: { scale: 4 }, clip: false }
  return countGeneration(family, family.options(preset, latents), request)
}

/** Usable part of 4 GiB: packed panels, the code's own data and holes between blocks take the rest. */
const usable = 0.95 * 2 ** 32

/** The largest power of two of pictures whose step fits, at most 256; 0 where not even one does. */
function largestBatch(family: Family, preset: string): number {
  let N = 0
  for (let next = 1; next <= 256 && trainingBytes(family, preset, next) <= usable; next *= 2) N = next
  return N
}

const giga = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`

export function memory(): void {
  const rows = [['32 × 32 × 4', 'parameters', 'draws with', 'trains with: batch 1', 'batch 16', 'largest batch']]
  for (const family of families.filter(({ presets }) => presets.includes('XL/2')))
    for (const preset of ['S/2', 'B/2', 'L/2', 'XL/2']) {
      const { bytes, parameters } = samplingBytes(family, preset)
      const N = largestBatch(family, preset)
      rows.push([
        `${family.name}-${preset}`,
        `${(parameters / 1e6).toFixed(0)} M`,
        bytes <= usable ? giga(bytes) : `${giga(bytes)}: too much`,
        giga(trainingBytes(family, preset, 1)),
        giga(trainingBytes(family, preset, 16)),
        N === 0 ? 'draws only' : `${N}`,
      ])
    }
  console.log(table(rows))
  console.log(`\nfits: up to ${giga(usable)} of the 4 GiB that wasm can address`)
}

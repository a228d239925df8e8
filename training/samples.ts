/** The grid of samples that a run writes with each checkpoint. Needs Node. */

import { type Generation, readGenerated } from '../models/index.ts'
import { type Decode, showDrawn } from './latents.ts'

interface Sizes {
  readonly inputSize: number
  readonly inChannels: number
  readonly numClasses: number
}

/**
 * Writes a grid of `count` pictures of seeds 0, 1, …, of all classes in turn; latents are decoded. Writes nothing if `stop`
 * ended the generation. Throws UserError where the file cannot be written.
 */
export async function writeSamples(
  path: string,
  { inputSize: S, inChannels: C, numClasses }: Sizes,
  count: number,
  generate: (seeds: readonly number[], labels: readonly number[] | null) => Generation,
  stop: () => Promise<boolean>,
  decode: Decode | null,
): Promise<void> {
  const seeds = Array.from({ length: count }, (_, i) => i)
  const values = await readGenerated(generate(seeds, numClasses > 0 ? seeds.map(i => i % numClasses) : null), stop)
  if (values !== null) await showDrawn(path, { values, shape: [count, C, S, S] }, decode)
}

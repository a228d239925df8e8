/** The grid of pictures that training shows as it goes on. Needs Node. Which pictures those are: drawing.ts. */

import { type Drawing, drawn } from '../models/drawing.ts'
import { type Decode, showDrawn } from './latents.ts'

/** What models of all families are made by. */
interface Sizes {
  readonly inputSize: number
  readonly inChannels: number
  readonly numClasses: number
}

/**
 * Writes `count` pictures of seeds 0, 1, …, of all classes of a model of these sizes in turn, decoded where they are latents. Nothing is written where
 * `stop` says so. Throws UserError where the file cannot be written.
 */
export async function writeSamples(
  path: string,
  { inputSize: S, inChannels: C, numClasses }: Sizes,
  count: number,
  draw: (seeds: readonly number[], labels: readonly number[] | null) => Drawing,
  stop: () => Promise<boolean>,
  decode: Decode | null,
): Promise<void> {
  const seeds = Array.from({ length: count }, (_, i) => i)
  const values = await drawn(draw(seeds, numClasses > 0 ? seeds.map(i => i % numClasses) : null), stop)
  if (values !== null) await showDrawn(path, { values, shape: [count, C, S, S] }, decode)
}

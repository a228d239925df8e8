/**
 * Parts of a data set: one to train on and one that is held out, whose loss shows whether a model learns more than its
 * pictures. The split follows from the set alone, so that runs of any seed and family can be compared.
 */

import { aFunction, aNumber, check, integers, optional } from '../core/arguments.ts'
import { rng } from '../core/random.ts'
import { UserError } from '../io/user-error.ts'
import { aTrainingSet } from './arguments.ts'
import type { ImageDataset } from './dataset.ts'
import type { LatentDataset } from './latents.ts'

/** The pictures of a set at these indices, in this order, as a set. */
export function subsetOf<S extends ImageDataset | LatentDataset>(set: S, indices: ArrayLike<number>): S {
  check('subsetOf', 'set', set, aTrainingSet)
  check('subsetOf', 'indices', indices, integers)
  const { group } = set
  const common = {
    ...set,
    length: indices.length,
    label: (i: number) => set.label(indices[i]),
    ...(group !== undefined && { group: (i: number) => group(indices[i]) }),
  }
  if ('moments' in set) return { ...common, moments: (i, mirrored) => set.moments(indices[i], mirrored) }
  const { pixels, window } = set
  return {
    ...common,
    pixels: (i: number) => pixels(indices[i]),
    ...(window !== undefined && { window: (i: number, top: number, left: number) => window(indices[i], top, left) }),
  }
}

/**
 * Splits off a share of a set, in (0, 1): whole groups, drawn at random, until they are that many pictures. `group` tells
 * which pictures belong together; by default what the set says, or each alone. Throws UserError on fewer than 2 groups.
 */
export function holdOut<S extends ImageDataset | LatentDataset>(
  set: S,
  share: number,
  group?: (i: number) => number,
): { readonly training: S; readonly heldOut: S } {
  check('holdOut', 'set', set, aTrainingSet)
  check('holdOut', 'share', share, aNumber)
  check('holdOut', 'group', group, optional(aFunction))
  const groupOf = group ?? set.group ?? (i => i)
  const groups = new Map<number, number[]>()
  for (let i = 0; i < set.length; i++) {
    const key = groupOf(i)
    const members = groups.get(key)
    if (members === undefined) groups.set(key, [i])
    else members.push(i)
  }
  if (groups.size < 2)
    throw new UserError(`--held-out: expected a set of at least 2 different pictures, got ${groups.size} (${set.name})`)
  const all = [...groups.values()]
  const heldOut = new Set<number>()
  for (const index of rng(0).fork('held out').permutationArray(all.length).subarray(0, -1)) {
    for (const i of all[index]) heldOut.add(i)
    if (heldOut.size >= share * set.length) break
  }
  const indices = Array.from({ length: set.length }, (_, i) => i)
  return {
    training: subsetOf(
      set,
      indices.filter(i => !heldOut.has(i)),
    ),
    heldOut: subsetOf(
      set,
      indices.filter(i => heldOut.has(i)),
    ),
  }
}

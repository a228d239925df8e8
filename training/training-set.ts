/**
 * The pictures or latents of a run as its settings want them: cropped, mirrored, and a share of them held out. Needs Node.
 */

import {
  holdOut,
  type ImageDataset,
  type LatentDataset,
  type OpenOptions,
  openDataset,
  withCrops,
} from '../data/index.ts'
import { UserError } from '../io/user-error.ts'
import { type LatentSpace, openTrainingSet } from './latents.ts'
import type { CommonSettings } from './settings.ts'

/** Settings that decide what a run is trained on. */
export type DataSettings = Pick<CommonSettings, 'data' | 'classFrom' | 'latents' | 'size' | 'crop' | 'flip' | 'heldOut'>

/** What a run is trained on, and what it is measured on. */
export interface TrainingSets<S = ImageDataset | LatentDataset> {
  readonly training: S
  /** Null if all is trained on. */
  readonly heldOut: S | null
  /** Number of pictures of both. */
  readonly pictures: number
}

/** Opens the data of a run. `before` is what a resumed run was trained on. Throws UserError. */
export async function openTrainingSets(
  settings: DataSettings,
  before?: { readonly latents?: LatentSpace | null },
  options?: OpenOptions,
): Promise<TrainingSets> {
  const { size, crop = size, heldOut: share } = settings
  const opened = await openTrainingSet({ ...settings, size: crop }, before, options)
  const cropped = 'moments' in opened || crop === size ? opened : withCrops(opened, size)
  const whole = { ...cropped, flips: flipsOf(settings, opened) }
  const pictures = whole.length
  if (share === 0) return { training: whole, heldOut: null, pictures }
  const { training, heldOut } = holdOut(whole, share, await groupOf(whole))
  return { training, heldOut: unaugmented(heldOut), pictures }
}

/** True if a run mirrors pictures of this set at random. Throws UserError on latents that have no mirror images. */
export function flipsOf({ flip }: Pick<DataSettings, 'flip'>, set: ImageDataset | LatentDataset): boolean {
  if (flip === 'auto') return set.flips
  if (flip === 'yes' && 'moments' in set && !set.flips)
    throw new UserError(`--flip: expected auto or no for latents without their mirror images (${set.name}), got yes`)
  return flip === 'yes'
}

/** Pictures that belong together. Latents of emoji are grouped as the emoji are. */
async function groupOf(set: ImageDataset | LatentDataset): Promise<((i: number) => number) | undefined> {
  if (!('index' in set) || !/^emoji(:|$)/.test(set.index.data)) return set.group
  return (await openDataset(set.index.data, set.index.size)).group
}

/** The same pictures without random crops and mirroring. */
function unaugmented<S extends ImageDataset | LatentDataset>(set: S): S {
  return { ...set, flips: false, margin: undefined }
}

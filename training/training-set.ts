/**
 * The pictures or latents of a run as its settings want them: cropped, mirrored, and a share of them held out. Needs Node.
 */

import {
  holdOut,
  type ImageDataset,
  type LatentDataset,
  type OpenOptions,
  openDataset,
  openLatents,
  readIndex,
  withCrops,
} from '../data/index.ts'
import { UserError } from '../io/user-error.ts'
import type { LatentSpace } from './latents.ts'
import type { CommonSettings } from './settings.ts'

/** Settings that decide what a run is trained on. */
export type DataSettings = Pick<CommonSettings, 'data' | 'classFrom' | 'latents' | 'size' | 'crop' | 'flip' | 'heldOut'>

/** Training set of a run, and its held-out pictures. */
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

/**
 * Opens the training set of a run: the latents in a folder, or else pictures. `before` is that of a resumed run. Reports
 * progress of the checksums after 2 s. Throws UserError, also on latents of another autoencoder than before.
 */
export async function openTrainingSet(
  { latents, data, classFrom, size }: Pick<CommonSettings, 'latents' | 'data' | 'classFrom' | 'size'>,
  before?: { readonly latents?: LatentSpace | null },
  options?: OpenOptions,
): Promise<ImageDataset | LatentDataset> {
  if (latents === null) return openDataset(data, size, { strict: options?.strict, report: options?.report, classFrom })
  const total = readIndex(latents)?.shards.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0
  const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(1)
  let said = performance.now()
  const set = await openLatents(latents, bytes => {
    if (performance.now() - said < 2000) return
    said = performance.now()
    console.log(`${latents}: checked ${gigabytes(bytes)} of ${gigabytes(total)} GB`)
  })
  const [had, has] = [before?.latents, set.index.vae]
  if (had != null && (had.sha256 !== has.sha256 || had.scalingFactor !== has.scalingFactor))
    throw new UserError(`${latents}: expected latents of the autoencoder ${had.sha256} as before, got ${has.sha256}`)
  return set
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

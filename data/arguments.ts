/** Checks of the arguments that functions here share: sets of pictures and of latents. Plain JavaScript may pass anything. */

import {
  aBoolean,
  aCount,
  aFunction,
  anObject,
  aSize,
  aString,
  either,
  type Kind,
  objectWith,
  oneOf,
  optional,
  strings,
} from '../core/arguments.ts'
import type { ImageDataset, TrainingSet } from './dataset.ts'
import { classSources } from './help.ts'
import type { LatentDataset } from './latents.ts'
import type { OpenOptions } from './unreadable.ts'

type KindsOf<T> = { readonly [K in keyof T]-?: Kind }

const setKinds: KindsOf<TrainingSet> = {
  name: aString,
  length: aSize,
  size: aCount,
  channels: aCount,
  classes: strings,
  flips: aBoolean,
  label: aFunction,
  group: optional(aFunction),
}

const pictureKinds: KindsOf<ImageDataset> = {
  ...setKinds,
  pixels: aFunction,
  margin: optional(aSize),
  window: optional(aFunction),
  skipped: optional(anObject),
}

const latentKinds: KindsOf<LatentDataset> = { ...setKinds, index: anObject, moments: aFunction, close: aFunction }

/** An `ImageDataset`. */
export const aPictureSet = objectWith('a set of pictures, as openDataset returns one', pictureKinds)
/** An `ImageDataset` or a `LatentDataset`. */
export const aTrainingSet = either(aPictureSet, objectWith('a set of latents, as openLatents returns one', latentKinds))

/** A `World`: this process among several. */
export const aWorld = objectWith('a world of ranks', { rank: aSize, size: aCount, first: aBoolean, agreed: aFunction })

/** Kinds of `OpenOptions`. */
export const openKinds: KindsOf<OpenOptions> = { strict: aBoolean, report: aFunction, classFrom: oneOf(classSources) }

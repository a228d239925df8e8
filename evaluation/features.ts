/**
 * Interface of networks whose features measure pictures. Distances of one network's features must not be
 * compared with those of another: FID is those of Inception alone (evaluation/inception.ts), and other networks here
 * have other names.
 */

import type { Tensor } from '../core/tensor.ts'

/** Features of N pictures. */
export interface PictureFeatures<T> {
  /** (N, D): of the Fréchet distance, precision and recall. */
  readonly pool: T
  /** (N, S): where things are, of the spatial Fréchet distance. [sFID] */
  readonly spatial: T
  /** (N, K): of the classes that the network knows, for the inception score. */
  readonly logits: T
}

/** A network that sees pictures; `T` is its kind of tensor. */
export interface FeatureNetwork<T = Tensor> {
  /** x (N, 3, H, W) in [−1, 1]. The network may have sizes that it takes, or resizes. */
  features(x: T): PictureFeatures<T>
}

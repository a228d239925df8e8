/**
 * Kind `metrics`: moments of features and the Fréchet distance, of the reference with itself and of too few features too;
 * inception score, whole and split; radii, precision and recall, and by how much the nearest of their decisions was made.
 */

import {
  type FeatureGaussian,
  type Features,
  featureGaussian,
  frechetDistance,
  inceptionScore,
  manifoldRadii,
  precisionRecall,
} from '../../../evaluation/index.ts'
import type { Fixture, JsonObject } from '../fixture.ts'
import { once, type Results } from '../kind.ts'
import { withDefaults } from '../transformer.ts'

/** The sizes are those of the features. */
const defaults: JsonObject = { k: 3, n_ref: null, n_sample: null, dim: null, classes: null }

export function compute(fixture: Fixture): Results {
  const k = Number(withDefaults(fixture.config, defaults).k)
  const results: Results = new Map()
  const features = {
    ref: once((): Features => fixture.host('in.ref_features')),
    sample: once((): Features => fixture.host('in.sample_features')),
  }
  const gaussians = {
    ref: once(() => featureGaussian(features.ref())),
    sample: once(() => featureGaussian(features.sample())),
  }
  for (const name of ['ref', 'sample'] as const) {
    const gaussian = gaussians[name]
    results.set(`out.mu_${name}`, () => ({ data: gaussian().mean, shape: [gaussian().mean.length] }))
    results.set(`out.sigma_${name}`, () => {
      const { rows, columns, data } = gaussian().covariance
      return { data, shape: [rows, columns] }
    })
    results.set(`out.radii_${name}`, () => {
      const data = manifoldRadii(features[name](), k)
      return { data, shape: [data.length] }
    })
  }
  const fid = (reference: () => FeatureGaussian) => () => frechetDistance(gaussians.sample(), reference())
  results.set('scalar.fid', fid(gaussians.ref))
  results.set('scalar.fid_self', () => frechetDistance(gaussians.ref(), gaussians.ref()))
  results.set(
    'scalar.fid_singular',
    fid(() => featureGaussian(firstHalfOfWidth(features.ref()))),
  )

  const logits = once((): Features => fixture.host('in.logits'))
  results.set('scalar.inception_score', () => inceptionScore(logits()))
  results.set('scalar.inception_score_split', () => inceptionScore(logits(), fixture.setting('split_size')))
  if (fixture.scalars.has('split_size')) fixture.setting('split_size')

  const both = once(() => precisionRecall(features.ref(), features.sample(), k))
  results.set('scalar.precision', () => both().precision)
  results.set('scalar.recall', () => both().recall)
  results.set('scalar.pr_margin', () => margin(features.ref(), features.sample(), k))
  return results
}

/** The first D/2 of the features (N, D): fewer than numbers in each, so that their covariance is singular. */
function firstHalfOfWidth({ data, shape: [all, D] }: Features): Features {
  const N = Math.min(Math.floor(D / 2), all)
  return { data: Array.from({ length: N * D }, (_, i) => data[i]), shape: [N, D] }
}

/** The smallest |squared distance − radius| over all pairs and both sets of balls. */
function margin(ref: Features, sample: Features, k: number): number {
  const [radiiRef, radiiSample] = [manifoldRadii(ref, k), manifoldRadii(sample, k)]
  const D = ref.shape[1]
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < radiiSample.length; i++) {
    for (let j = 0; j < radiiRef.length; j++) {
      let distance = 0
      for (let d = 0; d < D; d++) distance += (sample.data[i * D + d] - ref.data[j * D + d]) ** 2
      least = Math.min(least, Math.abs(distance - radiiRef[j]), Math.abs(distance - radiiSample[i]))
    }
  }
  return least
}

/**
 * How good a set of pictures is, from features that some network made of it and of a reference: mathematics on arrays in
 * f64, nothing here needs Node or a network. Read it in the order statistics.ts, frechet.ts, inception-score.ts,
 * precision-recall.ts.
 */

export { doubles, plainDoubles } from './doubles.ts'
export { EmojiFeatures } from './emoji-features.ts'
export type { FeatureNetwork, PictureFeatures } from './features.ts'
export { frechetDistance } from './frechet.ts'
export { InceptionV3 } from './inception.ts'
export { inceptionScore } from './inception-score.ts'
export type { Features, Matrix } from './matrix.ts'
export { manifoldRadii, type PrecisionRecall, precisionRecall } from './precision-recall.ts'
export { type FeatureGaussian, FeatureStatistics, featureGaussian } from './statistics.ts'

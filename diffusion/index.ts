/**
 * The mathematics of diffusion models: schedules, losses, samplers, guidance and masks. Runs anywhere. Read it in the order
 * betas.ts, gaussian.ts, vlb.ts, losses.ts, samplers.ts, guidance.ts, masking.ts, block-masks.ts, edm.ts.
 */

export { cosineBetas, linearBetas, type Schedule, scheduleOf, shiftedCosineBetas } from './betas.ts'
export { cropSize, keptPatches, type Masking, removedBlocks, removedTokens, sampleMask } from './block-masks.ts'
export {
  type Denoiser,
  logNormalSigma,
  lossWeight,
  type Preconditioning,
  precondition,
  preconditioning,
  type RawNetwork,
  type SigmaOptions,
  sigmaSteps,
} from './edm.ts'
export {
  type Churn,
  dpmSolverSample,
  dpmSolverSteps,
  eulerSample,
  eulerSteps,
  heunSample,
  heunSteps,
  type SigmaStep,
} from './edm-samplers.ts'
export {
  type ClipOption,
  type DiffusionOptions,
  epsilonOf,
  type Gaussian,
  type GaussianDiffusion,
  gaussianDiffusion,
  type Network,
  type OutputParts,
  type Prediction,
  pMeanVariance,
  qPosterior,
  qSample,
  type ReverseStep,
  reverseStep,
  type Variance,
  xStartOf,
} from './gaussian.ts'
export { classifierFreeGuidance, type GuidanceOptions, powerCosineScale } from './guidance.ts'
export { type Inpainting, type InpaintStep, inpaintSteps, type JumpOptions, repaintLevels } from './inpainting.ts'
export type { NoiseSource, OnStep, Sampled, Stepped } from './loop.ts'
export {
  type Diffused,
  hybridLoss,
  type LossOptions,
  type LossTerms,
  minSnrWeight,
  predictionTarget,
  trainingLoss,
} from './losses.ts'
export { keepLeast, keptTokens, type TokenMask, tokenMask } from './masking.ts'
export { meanPerSample, perSample, scaled, type Timesteps } from './per-sample.ts'
export { maskdmTimesteps, respace, spaceTimesteps } from './respace.ts'
export {
  type DdimLoopOptions,
  type DdimOptions,
  type DdpmOptions,
  ddimReverseStep,
  ddimSample,
  ddimStep,
  ddimSteps,
  ddpmSample,
  ddpmStep,
  ddpmSteps,
  type SampleStep,
} from './samplers.ts'
export { fromNoise, logSnrTimesteps, timestepDenoiser, timestepSigmas } from './timestep-denoiser.ts'
export { discretizedLogLikelihood, gaussianKl, priorTerm, vlbTerms } from './vlb.ts'

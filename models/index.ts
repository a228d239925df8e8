/**
 * demask's models. Read them in the order dit.ts, mdt.ts, mdt-loss.ts, maskdit.ts, maskdit-loss.ts,
 * maskdm.ts, maskdm-diffusion.ts; presets.ts and maskdm-presets.ts have their sizes. The latents that they are trained on
 * are made by autoencoder-kl.ts; autoencoder-kl-config.ts has its sizes.
 */

export { AutoencoderKL, type AutoencoderKLOptions, DiagonalGaussian, stableDiffusionVae } from './autoencoder-kl.ts'
export {
  type AutoencoderPresetName,
  autoencoderConfig,
  autoencoderOptions,
  autoencoderOptionsOfShapes,
  autoencoderPresetNames,
  autoencoderPresets,
} from './autoencoder-kl-config.ts'
export { DiT, DiTBlock, FinalLayer, type TransformerOptions } from './dit.ts'
export {
  type DecoderOptions,
  MaskDiT,
  type MaskDiTOptions,
  officialDecoder,
  PreconditionedMaskDiT,
} from './maskdit.ts'
export {
  drawMaskDiT,
  type MaskDiTDraws,
  type MaskDiTLoss,
  type MaskRatio,
  type MaskRatioName,
  maskDiTLoss,
  maskRatioSchedule,
  unmaskingTuning,
} from './maskdit-loss.ts'
export { extraTokens, type MaskDMOptions, MaskedUViT, UViTAttention, UViTBlock, UViTEncoder } from './maskdm.ts'
export {
  drawMaskDM,
  type MaskDMDiffusionOptions,
  type MaskDMDraws,
  type MaskDMLossOptions,
  type MaskDMSampling,
  maskdmDiffusion,
  maskdmSample,
  maskdmSteps,
  maskedDenoisingScoreMatching,
} from './maskdm-diffusion.ts'
export {
  type MaskDMPreset,
  type MaskDMTraining,
  maskdmOptimizer,
  maskdmPreset,
  maskdmPresets,
} from './maskdm-presets.ts'
export { loadPretrained, networkState, resizePositions } from './maskdm-transfer.ts'
export { MaskedDiffusionTransformer, MDT, MDTBlock, type MDTOptions, MDTv2 } from './mdt.ts'
export { type AblatedLoss, AblatedMDT, ablatedLoss, type MDTAblation } from './mdt-ablations.ts'
export { drawPasses, type MDTLoss, mdtLoss, type Pass, type Passes, passLoss } from './mdt-loss.ts'
export * from './presets.ts'

/**
 * demask's models. Read them in the order dit.ts, mdt.ts, mdt-loss.ts, maskdit.ts, maskdit-loss.ts, maskdm.ts,
 * maskdm-diffusion.ts. presets.ts and maskdm-presets.ts hold their sizes; families.ts lists one record per family, through
 * which programs use them. autoencoder-kl.ts encodes pictures as latents; autoencoder-kl-config.ts holds its sizes.
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
export { type AutoencoderLoss, autoencoderLoss } from './autoencoder-kl-loss.ts'
export { DiT, DiTBlock, FinalLayer, type TransformerOptions } from './dit.ts'
export { dit } from './dit-family.ts'
export { families, familyOf } from './families.ts'
export {
  type Cost,
  type Family,
  type FamilyGeneration,
  type FamilyTraining,
  type Generation,
  type GenerationRequest,
  type LossPass,
  type NoiseSchedule,
  type NumberSetting,
  type OwnSettings,
  type Part,
  type Recognised,
  type SamplerName,
  type Setting,
  type SettingsOf,
  type SettingsTable,
  type State,
  type SwitchSetting,
  samplerNames,
  type TextSetting,
  type Told,
  type Trainable,
  type TrainingDefaults,
} from './family.ts'
export { readGenerated, seedNoise, timestepDiffusion } from './generate.ts'
export {
  type DecoderOptions,
  MaskDiT,
  type MaskDiTOptions,
  officialDecoder,
  PreconditionedMaskDiT,
} from './maskdit.ts'
export { maskDiT, maskRatioOf } from './maskdit-family.ts'
export {
  type MaskDiTInputs,
  type MaskDiTLoss,
  type MaskRatio,
  type MaskRatioName,
  type MaskRatioOptions,
  maskDiTLoss,
  maskRatioSchedule,
  sampleMaskDiTInputs,
  unmaskingTuning,
} from './maskdit-loss.ts'
export { extraTokens, type MaskDMOptions, MaskedUViT, UViTAttention, UViTBlock, UViTEncoder } from './maskdm.ts'
export {
  type MaskDMDiffusionOptions,
  type MaskDMInputs,
  type MaskDMLossOptions,
  type MaskDMSampling,
  maskdmDiffusion,
  maskdmSample,
  maskdmSteps,
  maskedDenoisingScoreMatching,
  sampleMaskDMInputs,
} from './maskdm-diffusion.ts'
export { maskDM, maskingOf } from './maskdm-family.ts'
export {
  type MaskDMPreset,
  type MaskDMTraining,
  maskdmOptimizer,
  maskdmPreset,
  maskdmPresets,
} from './maskdm-presets.ts'
export { MaskedDiffusionTransformer, MDT, MDTBlock, type MDTOptions, MDTv2 } from './mdt.ts'
export {
  type AblatedLoss,
  AblatedMDT,
  ablatedLoss,
  ablatedPasses,
  type MDTAblation,
  type MDTAblationName,
  mdtAblationNames,
  mdtAblations,
} from './mdt-ablations.ts'
export { type AblatedMDTOptions, mdt, mdtV2 } from './mdt-family.ts'
export {
  type MDTInputs,
  type MDTLoss,
  mdtLoss,
  mdtPasses,
  mdtTerms,
  type PassInputs,
  passLoss,
  sampleMDTInputs,
} from './mdt-loss.ts'
export {
  ditPreset,
  maskDiTPreset,
  maskDiTPresetNames,
  mdtPreset,
  mdtV2Preset,
  type Pictures,
  type PresetName,
  presetNames,
  tinyFor,
  trainingDefaults,
} from './presets.ts'
export { describe, type RecognisedModel, recognise } from './recognise.ts'
export {
  type Adapted,
  type Fate,
  type Pretrained,
  type TransferContext,
  type TransferRule,
  type TransferRules,
  type TransferredTensor,
  type TransferTarget,
  transferTable,
  transferWeights,
} from './transfer.ts'

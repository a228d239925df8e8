/**
 * demask's models. Read them in the order dit.ts, mdt.ts, mdt-loss.ts, maskdit.ts, maskdit-loss.ts; presets.ts has their
 * sizes.
 */

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
export { MaskedDiffusionTransformer, MDT, MDTBlock, type MDTOptions, MDTv2 } from './mdt.ts'
export { drawPasses, type MDTLoss, mdtLoss, type Pass, type Passes, passLoss } from './mdt-loss.ts'
export * from './presets.ts'

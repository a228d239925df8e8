/**
 * demask's models. Read them in the order dit.ts, mdt.ts, mdt-loss.ts; presets.ts has their sizes.
 */

export { DiT, DiTBlock, FinalLayer, type TransformerOptions } from './dit.ts'
export { MaskedDiffusionTransformer, MDT, MDTBlock, type MDTOptions, MDTv2 } from './mdt.ts'
export { drawPasses, type MDTLoss, mdtLoss, type Pass, type Passes } from './mdt-loss.ts'
export * from './presets.ts'

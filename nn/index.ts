/**
 * demask's layers, embedders and optimizers. Read them in the order module.ts, linear.ts, attention.ts, adaln.ts,
 * optim.ts.
 */

export * from './adaln.ts'
export * from './adamw.ts'
export * from './adan.ts'
export * from './attention.ts'
export * from './checkpoint-blocks.ts'
export * from './conv.ts'
export * from './ema.ts'
export * from './embedding.ts'
export * from './init.ts'
export * from './label-embedder.ts'
export * from './layer-names.ts'
export * from './linear.ts'
export * from './lr-schedule.ts'
export * from './mlp.ts'
export * from './module.ts'
export * from './norm.ts'
export {
  type Active,
  clipGradNorm,
  type Group,
  gradNorm,
  type NamedParameters,
  Optimizer,
  type OptimizerOptions,
  type OptimizerParameters,
  type ParameterGroup,
  type SlotKinds,
  type Slots,
  type StepInfo,
  type StepOptions,
  type StepScalars,
} from './optim.ts'
export * from './optimizers.ts'
export * from './patch-embed.ts'
export * from './pos-embed.ts'
export * from './sgd.ts'
export * from './timestep-embedder.ts'

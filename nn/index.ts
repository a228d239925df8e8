/**
 * demask's layers, embedders and optimizers. Read them in the order module.ts, linear.ts, attention.ts, adaln.ts,
 * optim.ts.
 */

export { Modulation } from './adaln.ts'
export { Adam, type AdamOptions, AdamW, type AdamWOptions } from './adamw.ts'
export { Adan, type AdanOptions } from './adan.ts'
export {
  Attention,
  type AttentionOptions,
  type Grid,
  keptPairs,
  RelativePositionBias,
  relativePositions,
} from './attention.ts'
export { BatchNorm, type BatchNormOptions } from './batch-norm.ts'
export { checkpointBlocks } from './checkpoint-blocks.ts'
export { Conv1d, type Conv1dLayerOptions, Conv2d, type Conv2dOptions } from './conv.ts'
export { Dropout } from './dropout.ts'
export { constantDecay, type Decay, Ema, type EmaOptions, powerDecay, warmUpDecay } from './ema.ts'
export { Embedding } from './embedding.ts'
export { freezeParameters } from './freeze.ts'
export {
  constantOne,
  constantZero,
  given,
  type Init,
  type Initializer,
  normal,
  shapesOnly,
  uniform,
  xavierUniform,
} from './init.ts'
export { dropLabels, LabelEmbedder } from './label-embedder.ts'
export { withLayerNames } from './layer-names.ts'
export { Linear, type LinearOptions } from './linear.ts'
export {
  constant,
  cosine,
  linearAnneal,
  rampUp,
  type Schedule,
  type ScheduleName,
  scheduleNames,
  scheduleOf,
  stepDecay,
  warmUp,
} from './lr-schedule.ts'
export { Mlp, type MlpOptions } from './mlp.ts'
export {
  Activation,
  buffer,
  frozen,
  type HostState,
  Layer,
  Module,
  ModuleList,
  type ParameterCount,
  parameter,
  Sequential,
  type StateSource,
  zeroGrad,
} from './module.ts'
export {
  MultiHeadAttention,
  type MultiHeadAttentionMasks,
  type MultiHeadAttentionOptions,
} from './multi-head-attention.ts'
export { GroupNorm, LayerNorm, type LayerNormOptions, RMSNorm } from './norm.ts'
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
export { type NamedOptimizerOptions, type OptimizerName, optimizerNames, optimizerOf } from './optimizers.ts'
export { PatchEmbed, unpatchify } from './patch-embed.ts'
export { sinCos1d, sinCos2d } from './pos-embed.ts'
export { Sgd, type SgdOptions } from './sgd.ts'
export { TimestepEmbedder, timestepEmbedding } from './timestep-embedder.ts'

/**
 * demask's core: tensors, ops and their gradients, backends, random numbers. Read it in the order
 * tensor.ts, op.ts, ops/elementwise.ts, tape.ts, scope.ts, backend.ts, backends/cpu/.
 */

export type {
  AssignRow,
  Backend,
  BackendKernels,
  BackendStats,
  FusedKernels,
  Kernels,
  Operand,
  Spec,
  Storage,
  UpdateKernel,
  UpdateKernels,
  Window2d,
} from './backend.ts'
export { cpu } from './backends/cpu/backend.ts'
export { createShapes, shapes } from './backends/shapes.ts'
export { checkpoint } from './checkpoint.ts'
export { type CustomOp, customOp } from './custom.ts'
export { defaultBackend, setDefaultBackend } from './default-backend.ts'
export { showTensorsInDevtools } from './devtools.ts'
export type { Doubles, ExactSums } from './doubles.ts'
export type { DType, TypedArray } from './dtype.ts'
export { enableGrad, gradEnabled, labelled, noGrad } from './graph.ts'
export type { GradientHook } from './hooks.ts'
export {
  type AnyOp,
  apply,
  applyMany,
  type Binary,
  defineManyOp,
  defineOp,
  type ManyOp,
  type None,
  type Observer,
  type Op,
  observe,
  registry,
  type Sample,
  type Unary,
} from './op.ts'
export { gelu, geluTanh, relu, sigmoid, silu, softplus } from './ops/activation.ts'
export { flatten, flip, repeat, roll, squeeze, tile, tril, triu } from './ops/arrange.ts'
export { attention, type ScaledAttentionOptions, selfAttention } from './ops/attention.ts'
export { type Axes, broadcastTo, sum, sumTo } from './ops/broadcast.ts'
export {
  greater,
  greaterEqual,
  isNaN,
  logicalAnd,
  logicalNot,
  logicalOr,
  notEqual,
} from './ops/compare.ts'
export { type ConvOptions, type ConvPadding, type ConvTransposeOptions, conv2d, convTranspose2d } from './ops/conv.ts'
export { type Conv1dOptions, conv1d } from './ops/conv1d.ts'
export { eye, fullLike, linspace, oneHot, onesLike, zerosLike } from './ops/creation.ts'
export { cumsum } from './ops/cumsum.ts'
export {
  type BinaryCrossEntropyOptions,
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  type KlDivergenceOptions,
  klDivergence,
  type LogitsOptions,
} from './ops/divergence.ts'
export { einsum } from './ops/einsum.ts'
export { atan2, expm1, log1p, tan } from './ops/elementary.ts'
export {
  abs,
  add,
  affine,
  type ClampBounds,
  cast,
  clamp,
  cos,
  type Destination,
  div,
  equal,
  erf,
  exp,
  floor,
  isFinite,
  less,
  lessEqual,
  log,
  maximum,
  minimum,
  mul,
  neg,
  pow,
  reciprocal,
  rsqrt,
  sign,
  sin,
  sqrt,
  square,
  sub,
  tanh,
  to,
} from './ops/elementwise.ts'
export {
  embedding,
  gather,
  gatherRows,
  pick,
  type ScatterOptions,
  scatter,
  scatterAdd,
  scatterRows,
} from './ops/gather.ts'
export { type IndexItem, type IndexRange, index } from './ops/indexing.ts'
export {
  type InterpolateMode,
  type InterpolateOptions,
  type InterpolateSize,
  interpolate,
} from './ops/interpolate.ts'
export {
  type CrossEntropyOptions,
  crossEntropy,
  type LossOptions,
  l1,
  mse,
  type SmoothL1Options,
  smoothL1,
} from './ops/loss.ts'
export { linear, type MatmulOptions, matmul } from './ops/matmul.ts'
export {
  type Border,
  concat,
  copy,
  pad,
  permute,
  reshape,
  slice,
  split,
  stack,
  transpose,
  unsqueeze,
} from './ops/movement.ts'
export { adaLayerNorm, gatedResidual, groupNorm, layerNorm } from './ops/norm.ts'
export { avgPool2d, maxPool2d, patchify } from './ops/pool.ts'
export { elu, leakyRelu } from './ops/rectifiers.ts'
export { max, mean, min, type VarianceOptions, variance } from './ops/reduce.ts'
export type { Reduction } from './ops/reduction.ts'
export { all, any, argmax, argmin, logsumexp, type NormOptions, norm, prod, std } from './ops/reductions.ts'
export { rmsNorm } from './ops/rms-norm.ts'
export { ceil, remainder, round, trunc } from './ops/rounding.ts'
export { dropout, type MultinomialOptions, multinomial } from './ops/sampling.ts'
export { logSoftmax, softmax } from './ops/softmax.ts'
export { argsort, type Sorted, type SortOptions, sort, type TopkOptions, topk } from './ops/sort.ts'
export { fold, unfold } from './ops/unfold.ts'
export {
  type AdamWAttrs,
  type AdamWRow,
  type AdamWScalars,
  type AdanAttrs,
  type AdanRow,
  type AdanScalars,
  adamW,
  adan,
  type ClipScalars,
  type Hyperparameters,
  lerp,
  type SgdAttrs,
  type SgdRow,
  sgd,
  sumOfSquares,
} from './ops/update.ts'
export { where } from './ops/where.ts'
export { Rng, type RngState, rng, type SampleOptions, type Words } from './random.ts'
export { type BackendName, backendNames, type ReadyOptions, ready } from './ready.ts'
export type { Sampler } from './samples.ts'
export { scope } from './scope.ts'
export { type Shape, ShapeError } from './shape.ts'
export { firstNonFinite, type NonFinite, type ProfileRow, profile, stats } from './stats.ts'
export { type BackwardOptions, backward, type GradOptions, gradients } from './tape.ts'
export { arange, full, type NestedNumbers, ones, Tensor, type TensorOptions, tensor, zeros } from './tensor.ts'
export { type Each, grad, hessianVectorProduct, jvp, type ValueAndGrads, valueAndGrad, vjp } from './transforms.ts'
export {
  type AnyUpdate,
  assign,
  defineUpdate,
  type FieldRole,
  type Update,
  type UpdateSample,
  update,
  updates,
} from './update.ts'

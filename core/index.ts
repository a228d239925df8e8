/**
 * demask's core: tensors, ops and their gradients, backends, random numbers. Read it in the order
 * tensor.ts, op.ts, ops/elementwise.ts, tape.ts, scope.ts, backend.ts, backends/cpu/.
 */

export type {
  AssignRow,
  Backend,
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
export { defaultBackend, setDefaultBackend } from './default-backend.ts'
export type { Doubles, ExactSums } from './doubles.ts'
export type { DType, TypedArray } from './dtype.ts'
export { enableGrad, gradEnabled, labelled, noGrad } from './graph.ts'
export {
  type AnyOp,
  apply,
  applyMany,
  defineManyOp,
  defineOp,
  type ManyOp,
  type Observer,
  type Op,
  observe,
  registry,
  type Sample,
} from './op.ts'
export * from './ops/activation.ts'
export * from './ops/attention.ts'
export { type Axes, broadcastTo, sum, sumTo } from './ops/broadcast.ts'
export * from './ops/conv.ts'
export * from './ops/elementwise.ts'
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
export * from './ops/interpolate.ts'
export * from './ops/loss.ts'
export * from './ops/matmul.ts'
export * from './ops/movement.ts'
export * from './ops/norm.ts'
export * from './ops/reduce.ts'
export type { Reduction } from './ops/reduction.ts'
export * from './ops/softmax.ts'
export * from './ops/update.ts'
export { where } from './ops/where.ts'
export * from './random.ts'
export { type BackendName, backendNames, type ReadyOptions, ready } from './ready.ts'
export { scope } from './scope.ts'
export { type Shape, ShapeError } from './shape.ts'
export { firstNonFinite, type NonFinite, type ProfileRow, profile, stats } from './stats.ts'
export { backward, type GradOptions, grad, gradients } from './tape.ts'
export { arange, full, type NestedNumbers, ones, Tensor, type TensorOptions, tensor, zeros } from './tensor.ts'
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

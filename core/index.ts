/**
 * demask's core: tensors, ops and their gradients, backends, random numbers, safetensors. Read it in the order
 * tensor.ts, op.ts, ops/elementwise.ts, tape.ts, scope.ts, backend.ts, backends/cpu/.
 */

export type { Backend, BackendStats, FusedKernels, Kernels, Operand, Spec, Storage, Window2d } from './backend.ts'
export { cpu } from './backends/cpu/backend.ts'
export { defaultBackend, setDefaultBackend } from './default-backend.ts'
export type { DType, TypedArray } from './dtype.ts'
export { enableGrad, gradEnabled, noGrad } from './graph.ts'
export { type Observer, observe, registry } from './op.ts'
export * from './ops/activation.ts'
export * from './ops/attention.ts'
export * from './ops/conv.ts'
export * from './ops/elementwise.ts'
export * from './ops/gather.ts'
export * from './ops/loss.ts'
export * from './ops/matmul.ts'
export * from './ops/movement.ts'
export * from './ops/norm.ts'
export * from './ops/reduce.ts'
export * from './ops/softmax.ts'
export * from './random.ts'
export * from './safetensors.ts'
export { scope } from './scope.ts'
export { type Shape, ShapeError } from './shape.ts'
export { firstNonFinite, type NonFinite, type ProfileRow, profile, stats } from './stats.ts'
export { backward, checkpoint, type GradOptions, grad, gradients } from './tape.ts'
export { arange, full, type NestedNumbers, ones, Tensor, type TensorOptions, tensor, zeros } from './tensor.ts'

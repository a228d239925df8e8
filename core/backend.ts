/**
 * The contract between ops (core/ops) and backends (core/backends). A backend owns storages and offers kernels on them:
 * a kernel takes operands and the shape and dtype of its result, and returns a storage that it allocated. Dispatch is
 * synchronous everywhere; only reading may be asynchronous. The kernels of `Kernels` are required. Those of
 * `FusedKernels` and `UpdateKernels` are optional: an op or update whose kernel a backend lacks runs its decomposition.
 * The `cpu` backend is the specification. What all backends must agree on stands here once: the names of functions, the
 * reduction of no elements, the positions of a window, and the error of an index out of range.
 */

import type { Doubles } from './doubles.ts'
import type { DType, TypedArray } from './dtype.ts'
import { type Shape, show } from './shape.ts'
import { atCaller } from './traceback.ts'

/** Contiguous memory on a backend. `holds` counts handles, views and tape entries; the last one frees it. */
export interface Storage {
  readonly backend: Backend
  readonly dtype: DType
  readonly length: number
  /** Bumped by every in-place write: what was saved at an older version must not be used. */
  version: number
  /** Kept by tensor.ts and tape.ts; 0 after the storage was freed. */
  holds: number
}

/** Shape and dtype of a kernel's result. */
export interface Spec {
  readonly shape: Shape
  readonly dtype: DType
}

/** Input of a kernel. Tensors are operands. */
export interface Operand extends Spec {
  readonly storage: Storage
}

export const unaryNames = [
  'neg',
  'abs',
  'sign',
  'floor',
  'round', // to the nearest integer, of two equally near ones the even one
  'square',
  'sqrt',
  'rsqrt',
  'reciprocal',
  'exp',
  'expm1',
  'log',
  'log1p',
  'sin',
  'cos',
  'tanh',
  'erf',
  'sigmoid',
  'softplus',
  'relu',
  'silu',
  'gelu',
  'geluTanh',
  'affine', // p·x + q
  'pow', // x^p
  'clamp', // min(max(x, p), q)
  'isFinite', // 1 or 0
] as const

/** Functions of the `unary` kernel. A backend's tables are records over these names, so a missing one does not compile. */
export type UnaryName = (typeof unaryNames)[number]

export const binaryNames = [
  'add',
  'sub',
  'mul',
  'div',
  'pow',
  'remainder', // with the sign of b; of i32 by 0 it is 0
  'atan2', // of (y, x)
  'maximum',
  'minimum',
  'equal',
  'less',
  'lessEqual',
  'siluGrad',
  'geluGrad',
  'geluTanhGrad',
] as const

/**
 * Functions of the `binary` kernel. Comparisons return 1 or 0 in the dtype of the operands. The …Grad functions take
 * (gradient of the output, input).
 */
export type BinaryName = (typeof binaryNames)[number]

export const reduceNames = ['sum', 'max', 'min'] as const

/** Reductions of the `reduce` kernel. */
export type ReduceName = (typeof reduceNames)[number]

/** Result of a reduction of no elements. */
export const reduceIdentity: Readonly<Record<ReduceName, number>> = { sum: 0, max: -Infinity, min: Infinity }

/** Kernel window over an image: kernel size, stride, zero padding before and after, dilation, per axis (height, width). */
export interface Window2d {
  readonly kernel: readonly [number, number]
  readonly stride: readonly [number, number]
  /** top, bottom, left, right */
  readonly padding: readonly [number, number, number, number]
  /** Pixels from one tap of the kernel to the next. Default: 1. */
  readonly dilation?: readonly [number, number]
}

/** A window that slides over an image, and the number of groups that channels in and out are divided into. */
export interface Convolution {
  readonly window: Window2d
  readonly groups: number
}

/** Number of window positions [down, across] on an image (N, C, H, W). Below 1 where the window does not fit. */
export function windowPositions([, , H, W]: Shape, window: Window2d): [number, number] {
  const { stride, padding, kernel, dilation = [1, 1] } = window
  const [top, bottom, left, right] = padding
  return [
    Math.floor((H + top + bottom - dilation[0] * (kernel[0] - 1) - 1) / stride[0]) + 1,
    Math.floor((W + left + right - dilation[1] * (kernel[1] - 1) - 1) / stride[1]) + 1,
  ]
}

/** Error of `gatherRows` and `scatterAdd` for an index outside [0, rows); `at` is its position in the index (B, K). */
export function indexError(op: string, rows: number, got: number | string, at?: readonly number[]): RangeError {
  const place = at === undefined ? '' : ` at ${show(at)}`
  return atCaller(new RangeError(`${op}: expected indices in [0, ${rows}), got ${got}${place}`))
}

/** The required kernels. Operands of one call share backend and dtype, except index operands, which are i32. */
export interface Kernels {
  /** `value` in every element. */
  fill(value: number, out: Spec): Storage
  /** f(x), element by element; p and q are what the function of this name takes besides. */
  unary(name: UnaryName, x: Operand, out: Spec, p?: number, q?: number): Storage
  /** a and b broadcast to out.shape. */
  binary(name: BinaryName, a: Operand, b: Operand, out: Spec): Storage
  /** condition ≠ 0 ? a : b; all three broadcast to out.shape; the condition may have another dtype. */
  where(condition: Operand, a: Operand, b: Operand, out: Spec): Storage
  /** Over `axes` (rising, each once, may be empty). Sums of f32 are as exact as pairwise or wider accumulation. */
  reduce(name: ReduceName, x: Operand, axes: readonly number[], out: Spec): Storage
  /** (…, M, K) × (…, K, N) → (…, M, N); leading axes broadcast. With transposeA, a is (…, K, M); b alike. */
  matmul(a: Operand, b: Operand, transposeA: boolean, transposeB: boolean, out: Spec): Storage
  /** Axis i of out is axis order[i] of x. */
  permute(x: Operand, order: readonly number[], out: Spec): Storage
  /** The box of out.shape that begins at `starts`. */
  slice(x: Operand, starts: readonly number[], out: Spec): Storage
  /** x at `before` in a box of out.shape filled with `value`. */
  pad(x: Operand, before: readonly number[], value: number, out: Spec): Storage
  /** xs one after the other along `axis`. */
  concat(xs: readonly Operand[], axis: number, out: Spec): Storage
  /** x (B, R, D), index (B, K) i32 → (B, K, D): row index[b, k] of x[b]. Throws on an index out of range. */
  gatherRows(x: Operand, index: Operand, out: Spec): Storage
  /** index (B, K) i32, source (B, K, D) → (B, R, D): sums of source rows by index, 0 where none. */
  scatterAdd(index: Operand, source: Operand, out: Spec): Storage
  /**
   * x in the dtype of `out`. To i32 the fraction is dropped, what is out of range becomes the nearest i32, and NaN
   * becomes 0, as WebAssembly's i32.trunc_sat_f32_s has it.
   */
  cast(x: Operand, out: Spec): Storage
  /** x (N, C, H, W) → (N, C·kh·kw, H'·W'): the patch under each window position, channel-major. */
  unfold(x: Operand, window: Window2d, out: Spec): Storage
  /** The adjoint of unfold: (N, C·kh·kw, H'·W') → (N, C, H, W), overlapping entries summed. */
  fold(x: Operand, window: Window2d, out: Spec): Storage
  /** A copy in memory of its own. */
  copy(x: Operand): Storage
  /** target ← source for each row, of any dtype. Every other update comes down to this where a backend has no kernel. */
  assign: UpdateKernel<AssignRow, unknown, unknown>
}

/**
 * Writes a list of rows in place, in one launch where that pays. A row holds the tensors of one parameter. `scalars` are
 * operands of one element; the kernel writes nothing where `finite` is 0. The caller bumps the versions.
 */
export type UpdateKernel<Row, Scalars, Attrs> = (
  rows: readonly Row[],
  attrs: Attrs,
  scalars: Scalars & { readonly finite: Operand },
) => void

/** target ← source */
export interface AssignRow<T = Operand> {
  readonly target: T
  readonly source: T
}

export interface LerpAttrs {
  readonly weight: number
}

/** The factor of all gradients. */
export interface ClipScalars<T = Operand> {
  readonly clip: T
}

/** A parameter, its gradient and moments; with `vmax`, the running maximum of v, the step is AMSGrad's. */
export interface AdamWRow<T = Operand> {
  readonly p: T
  readonly g: T
  readonly m: T
  readonly v: T
  readonly vmax?: T
}

/** correction1 and correction2 are 1 − β^t. */
export interface AdamWScalars<T = Operand> extends ClipScalars<T> {
  readonly correction1: T
  readonly correction2: T
}

/** Hyperparameters of one AdamW update, the same for all rows. */
export interface AdamWAttrs {
  readonly lr: number
  readonly betas: readonly [number, number]
  readonly eps: number
  readonly weightDecay: number
  /** Ascends the gradient. */
  readonly maximize: boolean
}

/** d is the moment of the gradient's change since `before`, which counts only where `started` (one element) is not 0. */
export interface AdanRow<T = Operand> {
  readonly p: T
  readonly g: T
  readonly m: T
  readonly d: T
  readonly v: T
  readonly before: T
  readonly started: T
}

export interface AdanScalars<T = Operand> extends AdamWScalars<T> {
  readonly correction3: T
}

/** Hyperparameters of one Adan update, the same for all rows. */
export interface AdanAttrs {
  readonly lr: number
  readonly betas: readonly [number, number, number]
  readonly eps: number
  readonly weightDecay: number
  /** 'after': p ← p / (1 + lr · weightDecay) at the end; 'before': p ← p (1 − lr · weightDecay) first (no_prox). */
  readonly decay: 'after' | 'before'
}

/** b is the momentum buffer. Where `started` (one element) is 0, b begins as the gradient, undampened. */
export interface SgdRow<T = Operand> {
  readonly p: T
  readonly g: T
  readonly b: T
  readonly started?: T
}

/** Hyperparameters of one SGD update, the same for all rows. */
export interface SgdAttrs {
  readonly lr: number
  readonly momentum: number
  readonly dampening: number
  readonly nesterov: boolean
  readonly weightDecay: number
  /** Ascends the gradient. */
  readonly maximize: boolean
}

/** Kernels of updates that a backend may add. The records in ops/update.ts say in plain ops what each writes. */
export interface UpdateKernels {
  lerp: UpdateKernel<AssignRow, unknown, LerpAttrs>
  adamW: UpdateKernel<AdamWRow, AdamWScalars, AdamWAttrs>
  adan: UpdateKernel<AdanRow, AdanScalars, AdanAttrs>
  sgd: UpdateKernel<SgdRow, ClipScalars, SgdAttrs>
}

/** Kernels a backend may add; `null` operands are absent. Shapes: N batch, T tokens, D width, h heads, R rows. */
export interface FusedKernels {
  /** y = x wᵀ + b: x (…, I), w (O, I), b (O) or null. */
  linear(x: Operand, w: Operand, b: Operand | null, out: Spec): Storage
  /** [gw, gb], the gradients of w and b in `linear`, gᵀ x and Σ g over rows: g (R, O), x (R, I) → (O, I) and (O). */
  linearWeightGrad(g: Operand, x: Operand): Storage[]
  /**
   * Convolution: x (N, C, H, W), w (O, C/groups, kh, kw), b (O) or null → (N, O, H', W'). Neither this kernel nor the two
   * of its gradients is called with an operand of no elements.
   */
  conv2d(x: Operand, w: Operand, b: Operand | null, conv: Convolution, out: Spec): Storage
  /** The gradient of conv2d by x: g (N, O, H', W'), w (O, C/groups, kh, kw) → (N, C, H, W). */
  conv2dInputGrad(g: Operand, w: Operand, conv: Convolution, out: Spec): Storage
  /** The gradient of conv2d by w: g (N, O, H', W'), x (N, C, H, W) → (O, C/groups, kh, kw). */
  conv2dWeightGrad(g: Operand, x: Operand, conv: Convolution, out: Spec): Storage
  /** Over the last axis. */
  softmax(x: Operand, out: Spec): Storage
  /** y ⊙ (g − Σ g ⊙ y), over the last axis. */
  softmaxGrad(g: Operand, y: Operand, out: Spec): Storage
  /** x − log Σ exp(x), over the last axis. */
  logSoftmax(x: Operand, out: Spec): Storage
  /** g − exp(y) Σ g, over the last axis. */
  logSoftmaxGrad(g: Operand, y: Operand, out: Spec): Storage
  /** (x − mean) / √(var + eps) ⊙ w + b over the last axis; w and b (D) or null. */
  layerNorm(x: Operand, w: Operand | null, b: Operand | null, eps: number, out: Spec): Storage
  /** [gx] or, with w, [gx, gw, gb]. */
  layerNormGrad(g: Operand, x: Operand, w: Operand | null, eps: number): Storage[]
  /** layerNorm(x) ⊙ (1 + scale) + shift: x (N, T, D), shift and scale (N, D). */
  adaLayerNorm(x: Operand, shift: Operand, scale: Operand, eps: number, out: Spec): Storage
  /** [gx, gshift, gscale] */
  adaLayerNormGrad(g: Operand, x: Operand, scale: Operand, eps: number): Storage[]
  /** x + gate ⊙ y: x, y (N, T, D), gate (N, D). */
  gatedResidual(x: Operand, gate: Operand, y: Operand, out: Spec): Storage
  /** [ggate, gy]; the gradient of x is g itself. */
  gatedResidualGrad(g: Operand, gate: Operand, y: Operand): Storage[]
  /** softmax(q kᵀ/√d + bias) v of qkv (N, T, 3·h·d), split as (3, h, d); bias (h, T, T) or (N, h, T, T) or null. */
  selfAttention(qkv: Operand, bias: Operand | null, heads: number, out: Spec): Storage
  /** [gqkv] or, with bias, [gqkv, gbias]. */
  selfAttentionGrad(g: Operand, qkv: Operand, bias: Operand | null, heads: number): Storage[]
  /** Sums up to each element along an axis, or from the end where `reverse`. As exact as `reduce`. */
  cumsum(x: Operand, axis: number, reverse: boolean, out: Spec): Storage
  /**
   * Positions that sort x along the last axis, i32. NaN counts as the largest, −0 equals 0, and equal elements keep their
   * order in either direction.
   */
  argsort(x: Operand, descending: boolean, out: Spec): Storage
  /** x in `parts` equal parts along an axis. Undefined where the backend does it by slices. */
  split(x: Operand, parts: number, axis: number): Storage[] | undefined
  /** Σ of squares of all elements of all operands, as one scalar. */
  sumOfSquares(xs: readonly Operand[], out: Spec): Storage
}

/** Kernels of a backend: all required ones, and the fused ones and updates that it has. */
export type BackendKernels = Kernels & Partial<FusedKernels & UpdateKernels>

/** Bytes and counters of a backend. */
export interface BackendStats {
  /** Live bytes of storages, and their highest value since the last reset. */
  readonly bytes: number
  readonly peakBytes: number
  readonly storages: number
  /** Kernels that ran on a fallback loop rather than the backend's own code. */
  readonly fallbacks: number
  /** Transfers from the backend to the host. */
  readonly reads: number
}

export interface Backend {
  readonly name: string
  readonly dtypes: readonly DType[]
  readonly kernels: BackendKernels
  /** Linear algebra in f64 on the host, where there is something faster than plain loops. */
  readonly doubles?: Doubles
  /** Uninitialised memory. Throws when there is no room, saying how much was asked. */
  alloc(dtype: DType, length: number): Storage
  /** Gives the memory back; the storage must not be used again. */
  free(storage: Storage): void
  /** Overwrites all elements and bumps the version. */
  write(storage: Storage, data: TypedArray): void
  /** A copy of all elements. */
  read(storage: Storage): Promise<TypedArray>
  /** A copy, where the backend can read at once. */
  readSync?(storage: Storage): TypedArray
  /** Live bytes and counters. */
  stats(): BackendStats
  /** Makes the bytes that are live now the peak. */
  resetPeak(): void
  /** Releases what the backend holds (memory, threads, device). */
  dispose(): void
  /** True after `dispose`. */
  readonly disposed: boolean
}

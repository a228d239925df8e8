/**
 * A backend without memory: its kernels hand out storages of the right dtype and length that hold nothing, and count
 * the bytes that they would take. Modules built on it cost nothing, so the parameters of the largest models can be
 * counted exactly, a forward pass on it tells every shape and, under `profile`, every FLOP, and a training step the
 * memory that it would need. `shapes` has no fused kernels: ops run as their decompositions.
 */

import type { Backend, FusedKernels, Kernels, Spec, Storage, UpdateKernels } from '../backend.ts'
import { bytesPerElement, type DType } from '../dtype.ts'
import { sizeOf } from '../shape.ts'

function unreadable(): never {
  throw new Error("shapes: this backend holds no values; build on 'cpu' or 'wasm' to read them")
}

/**
 * Tensors with shape and dtype only; reading one throws. With `fused`, ops run fused where wasm has a kernel for that, so
 * that stats() says what wasm's would.
 */
export function createShapes({ fused = false } = {}): Backend {
  let bytes = 0
  let peakBytes = 0
  let storages = 0

  function alloc(dtype: DType, length: number): Storage {
    bytes += length * bytesPerElement[dtype]
    storages++
    peakBytes = Math.max(peakBytes, bytes)
    return { backend, dtype, length, version: 0, holds: 0 }
  }

  const like = ({ dtype, shape }: Spec) => alloc(dtype, sizeOf(shape))
  const likeAll = (...xs: readonly (Spec | null)[]) => xs.flatMap(x => (x === null ? [] : like(x)))

  const required: Kernels = {
    fill: (_, out) => like(out),
    unary: (_, __, out) => like(out),
    binary: (_, __, ___, out) => like(out),
    where: (_, __, ___, out) => like(out),
    reduce: (_, __, ___, out) => like(out),
    matmul: (_, __, ___, ____, out) => like(out),
    permute: (_, __, out) => like(out),
    slice: (_, __, out) => like(out),
    pad: (_, __, ___, out) => like(out),
    concat: (_, __, out) => like(out),
    gatherRows: (_, __, out) => like(out),
    scatterAdd: (_, __, out) => like(out),
    cast: (_, out) => like(out),
    unfold: (_, __, out) => like(out),
    fold: (_, __, out) => like(out),
    copy: like,
    assign() {},
  }

  const fusedKernels: Partial<FusedKernels> = {
    linear: (_, __, ___, out) => like(out),
    linearWeightGrad: ({ shape: [, O], dtype }, { shape: [, I] }) =>
      likeAll({ shape: [O, I], dtype }, { shape: [O], dtype }),
    conv2d: (_, __, ___, ____, out) => like(out),
    conv2dInputGrad: (_, __, ___, out) => like(out),
    conv2dWeightGrad: (_, __, ___, out) => like(out),
    softmax: (_, out) => like(out),
    softmaxGrad: (_, __, out) => like(out),
    logSoftmax: (_, out) => like(out),
    logSoftmaxGrad: (_, __, out) => like(out),
    layerNorm: (_, __, ___, ____, out) => like(out),
    layerNormGrad: (_, x, w) => likeAll(x, w, w),
    adaLayerNorm: (_, __, ___, ____, out) => like(out),
    adaLayerNormGrad: (_, x, scale) => likeAll(x, scale, scale),
    gatedResidual: (_, __, ___, out) => like(out),
    gatedResidualGrad: (_, gate, y) => likeAll(gate, y),
    selfAttention: (_, __, ___, out) => like(out),
    selfAttentionGrad: (_, qkv, bias) => likeAll(qkv, bias),
    cumsum: (_, __, ___, out) => like(out),
    argsort: (_, __, out) => like(out),
    sumOfSquares: (_, out) => like(out),
  }

  const updateKernels: UpdateKernels = { lerp() {}, adamW() {}, adan() {}, sgd() {} }

  const backend: Backend = {
    name: 'shapes',
    dtypes: ['f32', 'f64', 'i32'],
    kernels: fused ? { ...required, ...fusedKernels, ...updateKernels } : required,
    alloc,
    free({ dtype, length }) {
      bytes -= length * bytesPerElement[dtype]
      storages--
    },
    write(storage) {
      storage.version++
    },
    read: async () => unreadable(),
    readSync: unreadable,
    stats: () => ({ bytes, peakBytes, storages, fallbacks: 0, reads: 0 }),
    resetPeak() {
      peakBytes = bytes
    },
    dispose() {},
    disposed: false, // it holds nothing
  }
  return backend
}

/** Without fused kernels. */
export const shapes: Backend = createShapes()

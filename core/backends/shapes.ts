/**
 * A backend without memory: its kernels hand out storages of the right dtype and length that hold nothing. Modules
 * built on it cost no bytes, so the parameters of the largest models can be counted exactly, and a forward pass on it
 * tells every shape and, under `profile`, every FLOP. Fused kernels are absent: ops run as their decompositions.
 */

import type { Backend, Spec, Storage } from '../backend.ts'
import type { DType } from '../dtype.ts'
import { sizeOf } from '../shape.ts'

function storage(dtype: DType, length: number): Storage {
  return { backend: shapes, dtype, length, version: 0, holds: 0 }
}

function like({ dtype, shape }: Spec): Storage {
  return storage(dtype, sizeOf(shape))
}

function unreadable(): never {
  throw new Error("shapes: this backend holds no values; build on 'cpu' or 'wasm' to read them")
}

/** Tensors with shape and dtype only. Reading one throws. */
export const shapes: Backend = {
  name: 'shapes',
  dtypes: ['f32', 'f64', 'i32'],
  kernels: {
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
    gather: (_, __, out) => like(out),
    scatterAdd: (_, __, out) => like(out),
    cast: (_, out) => like(out),
    unfold: (_, __, out) => like(out),
    fold: (_, __, out) => like(out),
    copy: like,
  },
  alloc: storage,
  free() {},
  write() {},
  read: async () => unreadable(),
  readSync: unreadable,
  stats: () => ({ bytes: 0, peakBytes: 0, storages: 0, fallbacks: 0, reads: 0 }),
  resetPeak() {},
  dispose() {},
}

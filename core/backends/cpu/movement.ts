/**
 * Kernels that move elements and compute nothing: permute, slice, pad, concat, split.
 */

import type { BackendKernels } from '../../backend.ts'
import { sizeOf, stridesOf } from '../../shape.ts'
import { type Host, output } from './host.ts'
import { eachRow, lastStride } from './walk.ts'

export function movementLoops(host: Host) {
  return {
    permute(x, order, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      const own = stridesOf(x.shape)
      const strides = order.map(axis => own[axis])
      const length = out.shape[out.shape.length - 1] ?? 1
      const step = lastStride(strides)
      eachRow(out.shape, [strides], (start, [at]) => {
        for (let j = 0; j < length; j++) Y[start + j] = X[at + j * step]
      })
      return y
    },

    slice(x, starts, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      const strides = stridesOf(x.shape)
      const corner = starts.reduce((sum, start, axis) => sum + start * strides[axis], 0)
      const length = out.shape[out.shape.length - 1] ?? 1
      eachRow(out.shape, [strides], (start, [at]) => {
        Y.set(X.subarray(corner + at, corner + at + length), start)
      })
      return y
    },

    pad(x, before, value, out) {
      const y = output(host, out)
      const [X, Y] = [host.view(x.storage), host.view(y)]
      Y.fill(value)
      const strides = stridesOf(out.shape)
      const corner = before.reduce((sum, start, axis) => sum + start * strides[axis], 0)
      const length = x.shape[x.shape.length - 1] ?? 1
      eachRow(x.shape, [strides], (start, [at]) => {
        Y.set(X.subarray(start, start + length), corner + at)
      })
      return y
    },

    concat(xs, axis, out) {
      const y = output(host, out)
      const Y = host.view(y)
      const outer = sizeOf(out.shape.slice(0, axis))
      const stride = sizeOf(out.shape.slice(axis))
      let at = 0
      for (const x of xs) {
        const X = host.view(x.storage)
        const chunk = sizeOf(x.shape.slice(axis))
        for (let i = 0; i < outer; i++) Y.set(X.subarray(i * chunk, (i + 1) * chunk), i * stride + at)
        at += chunk
      }
      return y
    },

    split(x, parts, axis) {
      const chunk = sizeOf(x.shape.slice(axis)) / parts
      const shape = x.shape.with(axis, x.shape[axis] / parts)
      const made = Array.from({ length: parts }, () => output(host, { dtype: x.dtype, shape }))
      const X = host.view(x.storage)
      for (const [k, y] of made.entries()) {
        const Y = host.view(y)
        for (let at = 0; at < Y.length; at += chunk)
          Y.set(X.subarray(parts * at + k * chunk, parts * at + (k + 1) * chunk), at)
      }
      return made
    },
  } satisfies Partial<BackendKernels>
}

/**
 * Launches layer norm, adaptive layer norm, gated residual, softmax, log-softmax and their gradients. A norm's gradients
 * of weight and bias are summed per segment of rows, then over segments. Kernels: kernels/norm.as.ts, softmax.as.ts.
 */

import type { FusedKernels, Operand, Storage } from '../../../backend.ts'
import { ceilDiv, sizeOf } from '../../../shape.ts'
import type { SoftmaxArgs, SoftmaxGradArgs } from '../generated/kernels.ts'
import { type Address, addBytes } from '../memory.ts'
import type { Kernel } from '../runtime.ts'
import { addressOf, CHUNK, type LaunchContext, type WasmStorage } from '../storage.ts'
import type { Reduce } from './reduce.ts'

/** Rows per segment of a gradient that is summed over rows. */
const SEGMENT = 64

type Names =
  | 'layerNorm'
  | 'layerNormGrad'
  | 'adaLayerNorm'
  | 'adaLayerNormGrad'
  | 'gatedResidual'
  | 'gatedResidualGrad'
  | 'softmax'
  | 'softmaxGrad'
  | 'logSoftmax'
  | 'logSoftmaxGrad'

/** Rows of x, and their division into chunks. */
function rowsOf(x: Operand): { D: number; rows: number; rowsPerChunk: number; chunks: number } {
  const D = x.shape[x.shape.length - 1]
  const rows = D === 0 ? 0 : sizeOf(x.shape) / D
  const rowsPerChunk = Math.max(1, Math.floor(CHUNK / 2 / D))
  return { D, rows, rowsPerChunk, chunks: ceilDiv(rows, rowsPerChunk) }
}

export function norms(context: LaunchContext, reduce: Reduce): Pick<FusedKernels, Names> {
  const { runtime } = context
  const { kernels } = runtime

  function layerNorm(
    x: Operand,
    a: Operand | null,
    b: Operand | null,
    rowsPerGroup: number,
    eps: number,
    plus: number,
  ): Storage {
    const y = context.output(x)
    const { D, rows, rowsPerChunk, chunks } = rowsOf(x)
    runtime.launch(kernels.layerNorm, chunks, {
      x: addressOf(x),
      a: addressOf(a),
      b: addressOf(b),
      y: y.address,
      rows,
      rowsPerChunk,
      D,
      rowsPerGroup,
      eps,
      plus,
    })
    return y
  }

  /** Returns [gx, ga, gb], or [gx] where there is no a; a has one row per group of rows. */
  function layerNormGrad(
    g: Operand,
    x: Operand,
    a: Operand | null,
    rowsPerGroup: number,
    eps: number,
    plus: number,
  ): Storage[] {
    const gx = context.output(x)
    const { D, rows } = rowsOf(x)
    if (rows === 0) return a === null ? [gx] : [gx, zeros(a), zeros(a)]
    const groups = rows / rowsPerGroup
    const segmentsPerGroup = ceilDiv(rowsPerGroup, SEGMENT)
    const launch = (ga: Address | null, gb: Address | null) =>
      runtime.launch(kernels.layerNormGrad, groups * segmentsPerGroup, {
        g: addressOf(g),
        x: addressOf(x),
        a: addressOf(a),
        gx: gx.address,
        ga,
        gb,
        D,
        rowsPerGroup,
        rowsPerSegment: SEGMENT,
        segmentsPerGroup,
        eps,
        plus,
      })
    if (a === null) {
      launch(null, null)
      return [gx]
    }
    const ga = context.output(a)
    const gb = context.output(a)
    if (segmentsPerGroup === 1) launch(ga.address, gb.address)
    else {
      const bytes = 4 * groups * segmentsPerGroup * D
      context.scratch(2 * bytes, slots => {
        const slotsOfB = addBytes(slots, bytes)
        launch(slots, slotsOfB)
        reduce('sum', slots, ga.address, groups, segmentsPerGroup, D)
        reduce('sum', slotsOfB, gb.address, groups, segmentsPerGroup, D)
      })
    }
    return [gx, ga, gb]
  }

  function zeros(like: Operand): WasmStorage {
    const y = context.output(like)
    runtime.floats(y.address, y.length).fill(0)
    return y
  }

  function softmax(kernel: Kernel<SoftmaxArgs>, x: Operand): Storage {
    const y = context.output(x)
    const { D, rows, rowsPerChunk, chunks } = rowsOf(x)
    runtime.launch(kernel, chunks, { x: addressOf(x), y: y.address, rows, rowsPerChunk, D })
    return y
  }

  function softmaxGrad(kernel: Kernel<SoftmaxGradArgs>, g: Operand, y: Operand): Storage {
    const gx = context.output(y)
    const { D, rows, rowsPerChunk, chunks } = rowsOf(y)
    runtime.launch(kernel, chunks, { g: addressOf(g), y: addressOf(y), gx: gx.address, rows, rowsPerChunk, D })
    return gx
  }

  return {
    layerNorm: (x, w, b, eps) => layerNorm(x, w, b, Math.max(1, rowsOf(x).rows), eps, 0),

    layerNormGrad: (g, x, w, eps) => layerNormGrad(g, x, w, Math.max(1, rowsOf(x).rows), eps, 0),

    adaLayerNorm: (x, shift, scale, eps) => layerNorm(x, scale, shift, x.shape[1], eps, 1),

    adaLayerNormGrad(g, x, scale, eps) {
      const [gx, gscale, gshift] = layerNormGrad(g, x, scale, x.shape[1], eps, 1)
      return [gx, gshift, gscale]
    },

    gatedResidual(x, gate, y, out) {
      const z = context.output(out)
      const { D, rows, rowsPerChunk, chunks } = rowsOf(x)
      runtime.launch(kernels.gatedResidual, chunks, {
        x: addressOf(x),
        gate: addressOf(gate),
        y: addressOf(y),
        z: z.address,
        rows,
        rowsPerChunk,
        D,
        rowsPerGroup: x.shape[1],
      })
      return z
    },

    gatedResidualGrad(g, gate, y) {
      const gy = context.output(y)
      const [N, T, D] = y.shape
      if (gy.length === 0) return [zeros(gate), gy]
      const ggate = context.output(gate)
      const segmentsPerGroup = ceilDiv(T, SEGMENT)
      const launch = (slots: Address) =>
        runtime.launch(kernels.gatedResidualGrad, N * segmentsPerGroup, {
          g: addressOf(g),
          gate: addressOf(gate),
          y: addressOf(y),
          gy: gy.address,
          ggate: slots,
          D,
          rowsPerGroup: T,
          rowsPerSegment: SEGMENT,
          segmentsPerGroup,
        })
      if (segmentsPerGroup === 1) launch(ggate.address)
      else
        context.scratch(4 * N * segmentsPerGroup * D, slots => {
          launch(slots)
          reduce('sum', slots, ggate.address, N, segmentsPerGroup, D)
        })
      return [ggate, gy]
    },

    softmax: x => softmax(kernels.softmax, x),
    softmaxGrad: (g, y) => softmaxGrad(kernels.softmaxGrad, g, y),
    logSoftmax: x => softmax(kernels.logSoftmax, x),
    logSoftmaxGrad: (g, y) => softmaxGrad(kernels.logSoftmaxGrad, g, y),
  }
}

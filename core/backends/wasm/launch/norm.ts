/**
 * Launches layer norm, adaptive layer norm, gated residual, softmax, log-softmax and their gradients. A norm's gradients
 * of weight and bias are summed per segment of rows, then over segments. Kernels: kernels/norm.as.ts, softmax.as.ts.
 * Next: attention.ts.
 */

import type { FusedKernels, Operand, Storage } from '../../../backend.ts'
import { sizeOf } from '../../../shape.ts'
import { addBytes } from '../memory.ts'
import { bits } from '../runtime.ts'
import { addressOf, CHUNK, ceilDiv, type LaunchContext, type WasmStorage } from '../storage.ts'
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

export function norms(context: LaunchContext, reduce: Reduce): Pick<FusedKernels, Names> {
  const { runtime } = context
  const normKernel = runtime.kernel('layerNorm')
  const normGradKernel = runtime.kernel('layerNormGrad')
  const residualKernel = runtime.kernel('gatedResidual')
  const residualGradKernel = runtime.kernel('gatedResidualGrad')
  const softmaxKernel = runtime.kernel('softmax')
  const softmaxGradKernel = runtime.kernel('softmaxGrad')
  const logSoftmaxKernel = runtime.kernel('logSoftmax')
  const logSoftmaxGradKernel = runtime.kernel('logSoftmaxGrad')

  /** Rows of x, and how many a chunk takes. */
  function rowsOf(x: Operand): { D: number; rows: number; perChunk: number; chunks: number } {
    const D = x.shape[x.shape.length - 1]
    const rows = D === 0 ? 0 : sizeOf(x.shape) / D
    const perChunk = Math.max(1, Math.floor(CHUNK / 2 / D))
    return { D, rows, perChunk, chunks: ceilDiv(rows, perChunk) }
  }

  function norm(x: Operand, a: number, b: number, perGroup: number, eps: number, plus: number): Storage {
    const y = context.output(x)
    const { D, rows, perChunk, chunks } = rowsOf(x)
    runtime.launchWords(
      normKernel,
      chunks,
      addressOf(x),
      a,
      b,
      y.address,
      rows,
      perChunk,
      D,
      perGroup,
      bits(eps),
      bits(plus),
    )
    return y
  }

  /** [gx, ga, gb], or [gx] where there is no a; a belongs to groups of rows and has its own shape. */
  function normGrad(g: Operand, x: Operand, a: Operand | null, perGroup: number, eps: number, plus: number): Storage[] {
    const gx = context.output(x)
    const { D, rows } = rowsOf(x)
    if (rows === 0) return a === null ? [gx] : [gx, zeros(a), zeros(a)]
    const groups = rows / perGroup
    const segments = ceilDiv(perGroup, SEGMENT)
    const launch = (ga: number, gb: number) =>
      runtime.launchWords(
        normGradKernel,
        groups * segments,
        addressOf(g),
        addressOf(x),
        a === null ? 0 : addressOf(a),
        gx.address,
        ga,
        gb,
        D,
        perGroup,
        SEGMENT,
        segments,
        bits(eps),
        bits(plus),
      )
    if (a === null) {
      launch(0, 0)
      return [gx]
    }
    const ga = context.output(a)
    const gb = context.output(a)
    if (segments === 1) launch(ga.address, gb.address)
    else {
      const bytes = 4 * groups * segments * D
      context.scratch(2 * bytes, slots => {
        launch(slots, addBytes(slots, bytes))
        reduce('sum', slots, ga.address, groups, segments, D)
        reduce('sum', addBytes(slots, bytes), gb.address, groups, segments, D)
      })
    }
    return [gx, ga, gb]
  }

  function zeros(like: Operand): WasmStorage {
    const y = context.output(like)
    runtime.floats(y.address, y.length).fill(0)
    return y
  }

  function softmaxLike(kernel: number, x: Operand, y: Operand | null): Storage {
    const out = context.output(x)
    const { D, rows, perChunk, chunks } = rowsOf(x)
    runtime.launchWords(kernel, chunks, addressOf(x), y === null ? 0 : addressOf(y), out.address, rows, perChunk, D)
    return out
  }

  return {
    layerNorm: (x, w, b, eps) =>
      norm(x, w === null ? 0 : addressOf(w), b === null ? 0 : addressOf(b), Math.max(1, rowsOf(x).rows), eps, 0),

    layerNormGrad: (g, x, w, eps) => normGrad(g, x, w, Math.max(1, rowsOf(x).rows), eps, 0),

    adaLayerNorm: (x, shift, scale, eps) => norm(x, addressOf(scale), addressOf(shift), x.shape[1], eps, 1),

    adaLayerNormGrad(g, x, scale, eps) {
      const [gx, gscale, gshift] = normGrad(g, x, scale, x.shape[1], eps, 1)
      return [gx, gshift, gscale]
    },

    gatedResidual(x, gate, y, out) {
      const z = context.output(out)
      const { D, rows, perChunk, chunks } = rowsOf(x)
      runtime.launchWords(
        residualKernel,
        chunks,
        addressOf(x),
        addressOf(gate),
        addressOf(y),
        z.address,
        rows,
        perChunk,
        D,
        x.shape[1],
      )
      return z
    },

    gatedResidualGrad(g, gate, y) {
      const gy = context.output(y)
      const [N, T, D] = y.shape
      if (gy.length === 0) return [zeros(gate), gy]
      const ggate = context.output(gate)
      const segments = ceilDiv(T, SEGMENT)
      const launch = (slots: number) =>
        runtime.launchWords(
          residualGradKernel,
          N * segments,
          addressOf(g),
          addressOf(gate),
          addressOf(y),
          gy.address,
          slots,
          D,
          T,
          SEGMENT,
          segments,
        )
      if (segments === 1) launch(ggate.address)
      else
        context.scratch(4 * N * segments * D, slots => {
          launch(slots)
          reduce('sum', slots, ggate.address, N, segments, D)
        })
      return [ggate, gy]
    },

    softmax: x => softmaxLike(softmaxKernel, x, null),
    softmaxGrad: (g, y) => softmaxLike(softmaxGradKernel, g, y),
    logSoftmax: x => softmaxLike(logSoftmaxKernel, x, null),
    logSoftmaxGrad: (g, y) => softmaxLike(logSoftmaxGradKernel, g, y),
  }
}

/**
 * `npm run profile -- products MODEL`: every distinct product of one step of MODEL. A row has the op, the size M×N×K of
 * one product with its transposes, the products of one call, calls, milliseconds, and the share of the machine's
 * multiply-adds.
 */

import { observe, type Tensor } from '../core/index.ts'
import { type AnyOp, untyped } from '../core/op.ts'
import { show, sizeOf } from '../core/shape.ts'
import { table } from './table.ts'
import { countedShare, productOps, type Workload } from './workloads.ts'

/** A distinct product of a workload. */
export interface Product {
  readonly op: string
  /** M×N×K of one product, and the transposes of its operands. */
  readonly size: string
  /** Products of this size in one call. */
  readonly batch: number
  /** Calls, milliseconds and floating-point operations of one run. */
  calls: number
  ms: number
  flops: number
}

/** Returns the size of one product of a call, and how many of them it has. */
function sizeOfCall(op: string, x: readonly Tensor[], attrs: unknown, y: Tensor): Pick<Product, 'size' | 'batch'> {
  if (op === 'matmul') {
    const { transposeA, transposeB } = attrs as { readonly transposeA: boolean; readonly transposeB: boolean }
    const [M, N] = y.shape.slice(-2)
    const K = x[0].shape.at(transposeA ? -2 : -1)!
    const size = `${M}×${N}×${K} a${transposeA ? 'ᵀ' : ''} b${transposeB ? 'ᵀ' : ''}`
    return { size, batch: sizeOf(y.shape.slice(0, -2)) }
  }
  if (op === 'linear') {
    const [N, K] = x[1].shape
    return { size: `${x[0].size / K}×${N}×${K} x wᵀ`, batch: 1 }
  }
  if (op === 'linearWeightGrad') {
    const [[R, O], I] = [x[0].shape, x[1].shape[1]]
    return { size: `${O}×${I}×${R} gᵀ x`, batch: 1 }
  }
  if (op === 'selfAttention' || op === 'selfAttentionGrad') {
    const { heads } = attrs as { readonly heads: number }
    const [N, T, width] = x[op === 'selfAttention' ? 0 : 1].shape
    return { size: `${T}×${T}×${width / 3 / heads} tokens, tokens, width`, batch: N * heads }
  }
  return { size: x.map(({ shape }) => show(shape)).join(' '), batch: 1 }
}

/** Runs a workload `repeats` times after one run that is not counted. Returns its products, the slowest first. */
export function productsOf({ run }: Workload, repeats: number): Product[] {
  const products = new Map<string, Product>()
  run()
  observe(
    (op, x, attrs, [y], ms) => {
      if (!productOps.has(op.name)) return
      const { size, batch } = sizeOfCall(op.name, x, attrs, y)
      const key = `${op.name} ${size} ${batch}`
      const product = products.get(key) ?? { op: op.name, size, batch, calls: 0, ms: 0, flops: 0 }
      products.set(key, product)
      product.calls += 1 / repeats
      product.ms += ms / repeats
      product.flops += (countedShare(op.name) * untyped(op as AnyOp).flops!(x, attrs)) / repeats
    },
    () => {
      for (let i = 0; i < repeats; i++) run()
    },
  )
  return [...products.values()].sort((a, b) => b.ms - a.ms)
}

/** Formats products as a table; `ceiling` in GFLOP/s. */
export function productTable(products: readonly Product[], ceiling: number): string {
  const total = products.reduce((sum, { ms }) => sum + ms, 0)
  const heads = ['', 'M×N×K', 'batch', 'calls', 'ms', 'share', 'GFLOP/s', 'of the ceiling']
  const rows = products.map(({ op, size, batch, calls, ms, flops }) => {
    const rate = flops / ms / 1e6
    const share = `${((100 * ms) / total).toFixed(1)} %`
    const ofCeiling = `${((100 * rate) / ceiling).toFixed(0)} %`
    return [op, size, `${batch}`, calls.toFixed(0), ms.toFixed(2), share, rate.toFixed(1), ofCeiling]
  })
  return table([heads, ...rows])
}

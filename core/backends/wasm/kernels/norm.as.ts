/**
 * Layer normalisation y = x̂ ⊙ a + b with x̂ = (x − mean)/√(var + eps) over rows of D, its gradient, and the gated
 * residual of DiT's blocks. a and b belong to a group of rows: all rows for a plain layer norm, the T tokens of one
 * picture for the adaptive one, where a = 1 + scale. A row stays in the first-level cache while it is read three times.
 * Gradients of a and b are summed per segment of rows; the host adds the segments.
 */

import { Address, OptionalAddress } from './arguments.as'
import { VEC, firstLanes, madd, splat, storeFirst, sumLanes } from './simd.as'
import { rowSum } from './reduce.as'

/** Σ (x − mean)² */
function rowVariance(x: usize, D: i32, mean: v128): f32 {
  let a = splat(0), b = a
  let i = 0
  for (; i + 8 <= D; i += 8, x += 2 * VEC) {
    const v = f32x4.sub(v128.load(x), mean)
    const w = f32x4.sub(v128.load(x, VEC), mean)
    a = madd(v, v, a)
    b = madd(w, w, b)
  }
  for (; i < D; i += 4, x += VEC) {
    let v = f32x4.sub(v128.load(x), mean)
    if (i + 4 > D) v = v128.and(v, firstLanes(D - i))
    a = madd(v, v, a)
  }
  return sumLanes(f32x4.add(a, b))
}

/**
 * 2⁻⁸⁰. Squares of differences overflow from 1e19 on, but a row and its multiple have the same norm. Beside the variance
 * of such a row eps is below the last digit, unless all its elements are equal.
 */
const SMALLER: f32 = 8.271806125530277e-25

/** y = factor · x of n floats. */
function scaleInto(x: usize, y: usize, n: i32, factor: f32): void {
  const f = splat(factor)
  let i = 0
  for (; i + 4 <= n; i += 4, x += VEC, y += VEC) v128.store(y, f32x4.mul(v128.load(x), f))
  if (i < n) storeFirst(y, f32x4.mul(v128.load(x), f), n - i)
}

/** a of four columns: 1 where there is none, `plus` added. */
@inline
function factor(a: usize, offset: usize, plus: v128): v128 {
  return a != 0 ? f32x4.add(v128.load(a + offset), plus) : splat(1)
}

@unmanaged class LayerNormArgs {
  x: Address
  /** One row of a and b per group. */
  a: OptionalAddress
  b: OptionalAddress
  y: Address
  rows: i32
  rowsPerChunk: i32
  D: i32
  rowsPerGroup: i32
  eps: f32
  /** Added to a: 0, or 1 where a is a scale. */
  plus: f32
}

/** y = x̂ ⊙ (a + plus) + b */
export function layerNorm(args: LayerNormArgs, chunk: i32): void {
  const D = args.D
  const per = args.rowsPerChunk
  const perGroup = args.rowsPerGroup
  const plus = splat(args.plus)
  const step = <usize>D << 2
  const end = min(args.rows, (chunk + 1) * per)
  for (let row = chunk * per; row < end; ++row) {
    let x = args.x + <usize>row * step
    const y = args.y + <usize>row * step
    const group = <usize>(row / perGroup) * step
    const a = args.a != 0 ? args.a + group : 0
    const b = args.b != 0 ? args.b + group : 0
    let mean = splat(<f32>(rowSum(x, D) / <f64>D))
    let squares = rowVariance(x, D, mean)
    let eps = args.eps
    if (!(squares < Infinity)) {
      // The scaled row lies in y until the result replaces it, element by element.
      scaleInto(x, y, D, SMALLER)
      x = y
      mean = splat(<f32>(rowSum(x, D) / <f64>D))
      squares = rowVariance(x, D, mean)
      if (squares > 0) eps = 0
    }
    const inverse = splat(1 / sqrt(squares / <f32>D + eps))
    let i = 0
    let at: usize = 0
    if (a != 0 && b != 0) {
      for (; i + 8 <= D; i += 8, at += 2 * VEC) {
        const v = f32x4.mul(f32x4.sub(v128.load(x + at), mean), inverse)
        const w = f32x4.mul(f32x4.sub(v128.load(x + at, VEC), mean), inverse)
        v128.store(y + at, madd(v, f32x4.add(v128.load(a + at), plus), v128.load(b + at)))
        v128.store(y + at, madd(w, f32x4.add(v128.load(a + at, VEC), plus), v128.load(b + at, VEC)), VEC)
      }
    }
    for (; i < D; i += 4, at += VEC) {
      let v = f32x4.mul(f32x4.mul(f32x4.sub(v128.load(x + at), mean), inverse), factor(a, at, plus))
      if (b != 0) v = f32x4.add(v, v128.load(b + at))
      if (i + 4 <= D) v128.store(y + at, v)
      else storeFirst(y + at, v, D - i)
    }
  }
}

@unmanaged class LayerNormGradArgs {
  g: Address
  x: Address
  a: OptionalAddress
  gx: Address
  /** A slot of D per segment; both are absent where a is. */
  ga: OptionalAddress
  gb: OptionalAddress
  D: i32
  rowsPerGroup: i32
  rowsPerSegment: i32
  segmentsPerGroup: i32
  eps: f32
  /** Added to a: 0, or 1 where a is a scale. */
  plus: f32
}

/**
 * gx = (ĝ − mean(ĝ) − x̂ mean(ĝ ⊙ x̂))/√(var + eps) with ĝ = g ⊙ a, ga = Σ g ⊙ x̂, gb = Σ g over the rows of a segment.
 * A chunk is a segment; its sums go to slot `chunk`.
 */
export function layerNormGrad(args: LayerNormGradArgs, chunk: i32): void {
  const D = args.D
  const perGroup = args.rowsPerGroup
  const segments = args.segmentsPerGroup
  const plus = splat(args.plus)
  const step = <usize>D << 2
  const group = chunk / segments
  const start = (chunk - group * segments) * args.rowsPerSegment
  const first = group * perGroup + start
  const end = first + min(perGroup - start, args.rowsPerSegment)
  const a = args.a != 0 ? args.a + <usize>group * step : 0
  const wanted = args.ga != 0
  const ga = args.ga + <usize>chunk * step
  const gb = args.gb + <usize>chunk * step
  if (wanted) {
    memory.fill(ga, 0, step)
    memory.fill(gb, 0, step)
  }
  for (let row = first; row < end; ++row) {
    const g = args.g + <usize>row * step
    let x = args.x + <usize>row * step
    const gx = args.gx + <usize>row * step
    let mean = splat(<f32>(rowSum(x, D) / <f64>D))
    let squares = rowVariance(x, D, mean)
    let eps = args.eps
    let scale: f32 = 1
    if (!(squares < Infinity)) {
      // As in layerNorm: the scaled row lies in gx.
      scaleInto(x, gx, D, SMALLER)
      x = gx
      mean = splat(<f32>(rowSum(x, D) / <f64>D))
      squares = rowVariance(x, D, mean)
      if (squares > 0) {
        eps = 0
        scale = SMALLER
      }
    }
    const inverse = splat(1 / sqrt(squares / <f32>D + eps))
    const slope = f32x4.mul(inverse, splat(scale)) // of x̂ by x
    let sum = splat(0), dot = sum
    let i = 0
    for (let at: usize = 0; i < D; i += 4, at += VEC) {
      const unit = f32x4.mul(f32x4.sub(v128.load(x + at), mean), inverse)
      const gi = v128.load(g + at)
      let scaled = f32x4.mul(gi, factor(a, at, plus))
      let product = f32x4.mul(scaled, unit)
      if (i + 4 > D) {
        scaled = v128.and(scaled, firstLanes(D - i))
        product = v128.and(product, firstLanes(D - i))
      }
      sum = f32x4.add(sum, scaled)
      dot = f32x4.add(dot, product)
      if (wanted) {
        const toA = madd(gi, unit, v128.load(ga + at))
        const toB = f32x4.add(gi, v128.load(gb + at))
        if (i + 4 <= D) {
          v128.store(ga + at, toA)
          v128.store(gb + at, toB)
        } else {
          storeFirst(ga + at, toA, D - i)
          storeFirst(gb + at, toB, D - i)
        }
      }
    }
    const meanG = splat(sumLanes(sum) / <f32>D)
    const meanDot = splat(sumLanes(dot) / <f32>D)
    i = 0
    for (let at: usize = 0; i < D; i += 4, at += VEC) {
      const unit = f32x4.mul(f32x4.sub(v128.load(x + at), mean), inverse)
      const scaled = f32x4.mul(v128.load(g + at), factor(a, at, plus))
      const v = f32x4.mul(f32x4.sub(f32x4.sub(scaled, meanG), f32x4.mul(unit, meanDot)), slope)
      if (i + 4 <= D) v128.store(gx + at, v)
      else storeFirst(gx + at, v, D - i)
    }
  }
}

@unmanaged class GatedResidualArgs {
  x: Address
  /** One row per group. */
  gate: Address
  y: Address
  z: Address
  rows: i32
  rowsPerChunk: i32
  D: i32
  rowsPerGroup: i32
}

/** z = x + gate ⊙ y */
export function gatedResidual(args: GatedResidualArgs, chunk: i32): void {
  const D = args.D
  const per = args.rowsPerChunk
  const step = <usize>D << 2
  const end = min(args.rows, (chunk + 1) * per)
  for (let row = chunk * per; row < end; ++row) {
    const shift = <usize>row * step
    const x = args.x + shift
    const gate = args.gate + <usize>(row / args.rowsPerGroup) * step
    const y = args.y + shift
    const z = args.z + shift
    let i = 0
    for (let at: usize = 0; i < D; i += 4, at += VEC) {
      const v = madd(v128.load(gate + at), v128.load(y + at), v128.load(x + at))
      if (i + 4 <= D) v128.store(z + at, v)
      else storeFirst(z + at, v, D - i)
    }
  }
}

@unmanaged class GatedResidualGradArgs {
  g: Address
  gate: Address
  y: Address
  gy: Address
  /** A slot of D per segment. */
  ggate: Address
  D: i32
  rowsPerGroup: i32
  rowsPerSegment: i32
  segmentsPerGroup: i32
}

/** gy = g ⊙ gate, ggate = Σ g ⊙ y over the rows of a segment. A chunk is a segment; its sum goes to slot `chunk`. */
export function gatedResidualGrad(args: GatedResidualGradArgs, chunk: i32): void {
  const D = args.D
  const perGroup = args.rowsPerGroup
  const segments = args.segmentsPerGroup
  const step = <usize>D << 2
  const group = chunk / segments
  const start = (chunk - group * segments) * args.rowsPerSegment
  const first = group * perGroup + start
  const end = first + min(perGroup - start, args.rowsPerSegment)
  const gate = args.gate + <usize>group * step
  const ggate = args.ggate + <usize>chunk * step
  memory.fill(ggate, 0, step)
  for (let row = first; row < end; ++row) {
    const shift = <usize>row * step
    const g = args.g + shift
    const y = args.y + shift
    const gy = args.gy + shift
    let i = 0
    for (let at: usize = 0; i < D; i += 4, at += VEC) {
      const gi = v128.load(g + at)
      const product = f32x4.mul(gi, v128.load(gate + at))
      const sum = madd(gi, v128.load(y + at), v128.load(ggate + at))
      if (i + 4 <= D) {
        v128.store(gy + at, product)
        v128.store(ggate + at, sum)
      } else {
        storeFirst(gy + at, product, D - i)
        storeFirst(ggate + at, sum, D - i)
      }
    }
  }
}

/**
 * softmax and log-softmax over rows, and their gradients.
 */

import { Address } from './arguments.as'
import { VEC, firstLanes, madd, maxLane, nmadd, splat, storeFirst, sumLanes } from './simd.as'
import { expNegative, log, select } from './math.as'
import { rowSum } from './reduce.as'

@unmanaged class SoftmaxArgs {
  x: Address
  y: Address
  rows: i32
  rowsPerChunk: i32
  D: i32
}

@unmanaged class SoftmaxGradArgs {
  g: Address
  /** The softmax, or the log-softmax. */
  y: Address
  gx: Address
  rows: i32
  rowsPerChunk: i32
  D: i32
}

/** The largest of n floats. A NaN is passed over here and comes back with its exponential. */
function rowTop(x: usize, n: i32): f32 {
  let top = splat(-Infinity), b = top, c = top, d = top
  for (; n >= 16; n -= 16, x += 4 * VEC) {
    top = f32x4.pmax(top, v128.load(x))
    b = f32x4.pmax(b, v128.load(x, VEC))
    c = f32x4.pmax(c, v128.load(x, 2 * VEC))
    d = f32x4.pmax(d, v128.load(x, 3 * VEC))
  }
  top = f32x4.pmax(f32x4.pmax(top, b), f32x4.pmax(c, d))
  for (; n >= 4; n -= 4, x += VEC) top = f32x4.pmax(top, v128.load(x))
  if (n > 0) top = f32x4.pmax(top, select(firstLanes(n), v128.load(x), splat(-Infinity)))
  return maxLane(top)
}

/** y = e^(x − top) of n floats; returns its sum. y = 0: only the sum. */
function expRow(x: usize, n: i32, top: f32, y: usize): f32 {
  const most = splat(top)
  let sum = splat(0)
  let at: usize = 0
  for (; n >= 4; n -= 4, at += VEC) {
    const e = expNegative(f32x4.sub(v128.load(x + at), most))
    sum = f32x4.add(sum, e)
    if (y != 0) v128.store(y + at, e)
  }
  if (n > 0) {
    const e = v128.and(expNegative(f32x4.sub(v128.load(x + at), most)), firstLanes(n))
    sum = f32x4.add(sum, e)
    if (y != 0) storeFirst(y + at, e, n)
  }
  return sumLanes(sum)
}

/** y = e^x / Σ e^x */
export function softmax(args: SoftmaxArgs, chunk: i32): void {
  const D = args.D
  const end = min(args.rows, (chunk + 1) * args.rowsPerChunk)
  for (let row = chunk * args.rowsPerChunk; row < end; ++row) {
    const x = args.x + ((<usize>row * D) << 2)
    const y = args.y + ((<usize>row * D) << 2)
    const factor = splat(1 / expRow(x, D, rowTop(x, D), y))
    let i = 0
    for (let at: usize = 0; i < D; i += 4, at += VEC) {
      const v = f32x4.mul(v128.load(y + at), factor)
      if (i + 4 <= D) v128.store(y + at, v)
      else storeFirst(y + at, v, D - i)
    }
  }
}

/** gx = y ⊙ (g − Σ g ⊙ y) with the softmax y */
export function softmaxGrad(args: SoftmaxGradArgs, chunk: i32): void {
  const D = args.D
  const end = min(args.rows, (chunk + 1) * args.rowsPerChunk)
  for (let row = chunk * args.rowsPerChunk; row < end; ++row) {
    const shift = (<usize>row * D) << 2
    const g = args.g + shift
    const y = args.y + shift
    const gx = args.gx + shift
    let dot = splat(0)
    let i = 0
    let at: usize = 0
    for (; i + 4 <= D; i += 4, at += VEC) dot = madd(v128.load(g + at), v128.load(y + at), dot)
    if (i < D) dot = f32x4.add(dot, v128.and(f32x4.mul(v128.load(g + at), v128.load(y + at)), firstLanes(D - i)))
    const total = splat(sumLanes(dot))
    i = 0
    for (at = 0; i < D; i += 4, at += VEC) {
      const v = f32x4.mul(v128.load(y + at), f32x4.sub(v128.load(g + at), total))
      if (i + 4 <= D) v128.store(gx + at, v)
      else storeFirst(gx + at, v, D - i)
    }
  }
}

/** y = x − log Σ e^x */
export function logSoftmax(args: SoftmaxArgs, chunk: i32): void {
  const D = args.D
  const end = min(args.rows, (chunk + 1) * args.rowsPerChunk)
  for (let row = chunk * args.rowsPerChunk; row < end; ++row) {
    const x = args.x + ((<usize>row * D) << 2)
    const y = args.y + ((<usize>row * D) << 2)
    const top = rowTop(x, D)
    const most = splat(top)
    const logSum = log(splat(expRow(x, D, top, 0)))
    let i = 0
    for (let at: usize = 0; i < D; i += 4, at += VEC) {
      const v = f32x4.sub(f32x4.sub(v128.load(x + at), most), logSum)
      if (i + 4 <= D) v128.store(y + at, v)
      else storeFirst(y + at, v, D - i)
    }
  }
}

/** gx = g − e^y Σ g with the log-softmax y */
export function logSoftmaxGrad(args: SoftmaxGradArgs, chunk: i32): void {
  const D = args.D
  const end = min(args.rows, (chunk + 1) * args.rowsPerChunk)
  for (let row = chunk * args.rowsPerChunk; row < end; ++row) {
    const shift = (<usize>row * D) << 2
    const g = args.g + shift
    const y = args.y + shift
    const gx = args.gx + shift
    const total = splat(<f32>rowSum(g, D))
    let i = 0
    for (let at: usize = 0; i < D; i += 4, at += VEC) {
      const v = nmadd(expNegative(v128.load(y + at)), total, v128.load(g + at))
      if (i + 4 <= D) v128.store(gx + at, v)
      else storeFirst(gx + at, v, D - i)
    }
  }
}

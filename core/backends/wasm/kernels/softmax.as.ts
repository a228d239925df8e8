/**
 * softmax and log-softmax over rows, and their gradients. All have the arguments 0 first operand, 1 second or 0, 2 y,
 * 3 rows, 4 rows per chunk, 5 D. Next: attention.as.ts.
 */

import { VEC, arg, firstLanes, madd, maxLane, nmadd, pointer, splat, storeFirst, sumLanes } from './simd.as'
import { expNegative, log, select } from './math.as'
import { rowSum } from './reduce.as'

/** The largest of n floats. A NaN is passed over here and comes back with its exponential. */
function rowTop(x: usize, n: i32): f32 {
  let top = splat(-Infinity)
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

/** e^x / Σ e^x */
export function softmax(args: usize, chunk: i32): void {
  const D = arg(args, 5)
  const end = min(arg(args, 3), (chunk + 1) * arg(args, 4))
  for (let row = chunk * arg(args, 4); row < end; ++row) {
    const x = pointer(args, 0) + ((<usize>row * D) << 2)
    const y = pointer(args, 2) + ((<usize>row * D) << 2)
    const factor = splat(1 / expRow(x, D, rowTop(x, D), y))
    let i = 0
    for (let at: usize = 0; i < D; i += 4, at += VEC) {
      const v = f32x4.mul(v128.load(y + at), factor)
      if (i + 4 <= D) v128.store(y + at, v)
      else storeFirst(y + at, v, D - i)
    }
  }
}

/** y ⊙ (g − Σ g ⊙ y). First operand g, second the softmax. */
export function softmaxGrad(args: usize, chunk: i32): void {
  const D = arg(args, 5)
  const end = min(arg(args, 3), (chunk + 1) * arg(args, 4))
  for (let row = chunk * arg(args, 4); row < end; ++row) {
    const shift = (<usize>row * D) << 2
    const g = pointer(args, 0) + shift
    const s = pointer(args, 1) + shift
    const y = pointer(args, 2) + shift
    let dot = splat(0)
    let i = 0
    let at: usize = 0
    for (; i + 4 <= D; i += 4, at += VEC) dot = madd(v128.load(g + at), v128.load(s + at), dot)
    if (i < D) dot = f32x4.add(dot, v128.and(f32x4.mul(v128.load(g + at), v128.load(s + at)), firstLanes(D - i)))
    const total = splat(sumLanes(dot))
    i = 0
    for (at = 0; i < D; i += 4, at += VEC) {
      const v = f32x4.mul(v128.load(s + at), f32x4.sub(v128.load(g + at), total))
      if (i + 4 <= D) v128.store(y + at, v)
      else storeFirst(y + at, v, D - i)
    }
  }
}

/** x − log Σ e^x */
export function logSoftmax(args: usize, chunk: i32): void {
  const D = arg(args, 5)
  const end = min(arg(args, 3), (chunk + 1) * arg(args, 4))
  for (let row = chunk * arg(args, 4); row < end; ++row) {
    const x = pointer(args, 0) + ((<usize>row * D) << 2)
    const y = pointer(args, 2) + ((<usize>row * D) << 2)
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

/** g − e^y Σ g. First operand g, second the log-softmax. */
export function logSoftmaxGrad(args: usize, chunk: i32): void {
  const D = arg(args, 5)
  const end = min(arg(args, 3), (chunk + 1) * arg(args, 4))
  for (let row = chunk * arg(args, 4); row < end; ++row) {
    const shift = (<usize>row * D) << 2
    const g = pointer(args, 0) + shift
    const s = pointer(args, 1) + shift
    const y = pointer(args, 2) + shift
    const total = splat(<f32>rowSum(g, D))
    let i = 0
    for (let at: usize = 0; i < D; i += 4, at += VEC) {
      const v = nmadd(expNegative(v128.load(s + at)), total, v128.load(g + at))
      if (i + 4 <= D) v128.store(y + at, v)
      else storeFirst(y + at, v, D - i)
    }
  }
}

/**
 * Elementwise functions and reductions of integers, as in elementwise.as.ts and reduce.as.ts.
 */

import { Address } from './arguments.as'
import { BinaryArgs, binary } from './elementwise.as'
import { VEC } from './simd.as'

@unmanaged export class UnaryIntArgs {
  x: Address
  y: Address
  /** Vectors of four elements. */
  vectors: i32
  vectorsPerChunk: i32
  /** Parameters of the function. */
  p: i32
  q: i32
}

/** y = f(x) */
@inline
export function unaryInt<F>(args: UnaryIntArgs, chunk: i32): void {
  const per = args.vectorsPerChunk
  const first = <usize>chunk * per
  const shift = first * VEC
  const p = i32x4.splat(args.p)
  const q = i32x4.splat(args.q)
  let x = args.x + shift
  let y = args.y + shift
  const end = y + <usize>min(args.vectors - <i32>first, per) * VEC
  while (y < end) {
    v128.store(y, changetype<F>(0).of(v128.load(x), p, q))
    x += VEC
    y += VEC
  }
}

@unaryInt @final @unmanaged export class Affine { @inline of(x: v128, p: v128, q: v128): v128 { return i32x4.add(i32x4.mul(x, p), q) } }
@unaryInt @final @unmanaged export class Neg { @inline of(x: v128, p: v128, q: v128): v128 { return i32x4.neg(x) } }

/** out = f(a, b) with broadcasting. */
@inline
export function binaryInt<F>(args: BinaryArgs, chunk: i32): void {
  binary<F>(args, chunk)
}

@binaryInt @final @unmanaged export class Add { @inline of(a: v128, b: v128): v128 { return i32x4.add(a, b) } }
@binaryInt @final @unmanaged export class Sub { @inline of(a: v128, b: v128): v128 { return i32x4.sub(a, b) } }
@binaryInt @final @unmanaged export class Mul { @inline of(a: v128, b: v128): v128 { return i32x4.mul(a, b) } }
@binaryInt @final @unmanaged export class Maximum { @inline of(a: v128, b: v128): v128 { return i32x4.max_s(a, b) } }
@binaryInt @final @unmanaged export class Minimum { @inline of(a: v128, b: v128): v128 { return i32x4.min_s(a, b) } }
// A mask of integers is −1 or 0.
@binaryInt @final @unmanaged export class Equal { @inline of(a: v128, b: v128): v128 { return i32x4.neg(i32x4.eq(a, b)) } }
@binaryInt @final @unmanaged export class Less { @inline of(a: v128, b: v128): v128 { return i32x4.neg(i32x4.lt_s(a, b)) } }
@binaryInt @final @unmanaged export class LessEqual { @inline of(a: v128, b: v128): v128 { return i32x4.neg(i32x4.le_s(a, b)) } }

@unmanaged export class ReduceIntArgs {
  x: Address
  y: Address
  /** At least 1. */
  R: i32
  inner: i32
  /** outer × inner */
  results: i32
  resultsPerChunk: i32
}

/** (outer, R, inner) → (outer, inner) of integers */
@inline
export function reduceInt<F>(args: ReduceIntArgs, chunk: i32): void {
  const R = args.R
  const inner = args.inner
  const per = args.resultsPerChunk
  const step = <usize>inner << 2
  const end = min(args.results, (chunk + 1) * per)
  for (let i = chunk * per; i < end; ++i) {
    const outer = i / inner
    let x = args.x + ((<usize>outer * R * inner + (i - outer * inner)) << 2)
    let result = load<i32>(x)
    for (let r = 1; r < R; ++r) {
      x += step
      result = changetype<F>(0).of(result, load<i32>(x))
    }
    store<i32>(args.y + (<usize>i << 2), result)
  }
}

/** Sums wrap around. */
@reduceInt @final @unmanaged export class Sum { @inline of(a: i32, b: i32): i32 { return a + b } }
@reduceInt @final @unmanaged export class Max { @inline of(a: i32, b: i32): i32 { return max(a, b) } }
@reduceInt @final @unmanaged export class Min { @inline of(a: i32, b: i32): i32 { return min(a, b) } }

/**
 * Elementwise functions of integers, as those of elementwise.as.ts.
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

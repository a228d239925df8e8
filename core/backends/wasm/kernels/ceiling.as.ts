/**
 * The most this machine can do: multiply-adds on registers, no memory at all. Twelve independent sums hide the
 * latency of the unit. bench/ceiling.ts times it; every GFLOP/s figure of this backend is a fraction of it.
 */

import { arg, madd, number, pointer } from './simd.as'

/** args: 0 rounds, each of 12 vectors × 4 lanes × 2 flops, 1 x, 2 out */
export function ceiling(args: usize, chunk: i32): void {
  const x = f32x4.splat(number(args, 1))
  let a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x
  for (let n = arg(args, 0); n > 0; --n) {
    a = madd(a, x, x)
    b = madd(b, x, x)
    c = madd(c, x, x)
    d = madd(d, x, x)
    e = madd(e, x, x)
    f = madd(f, x, x)
    g = madd(g, x, x)
    h = madd(h, x, x)
    i = madd(i, x, x)
    j = madd(j, x, x)
    k = madd(k, x, x)
    l = madd(l, x, x)
  }
  a = f32x4.add(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)), f32x4.add(f32x4.add(e, f), f32x4.add(g, h)))
  v128.store(pointer(args, 2) + (chunk << 6), f32x4.add(a, f32x4.add(f32x4.add(i, j), f32x4.add(k, l))))
}

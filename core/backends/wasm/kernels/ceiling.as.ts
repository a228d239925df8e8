/**
 * The most this machine can do: multiply-adds on registers, no memory at all. Twelve independent sums hide the
 * latency of the unit. bench/ceiling.ts times it; every GFLOP/s figure of this backend is a fraction of it.
 */

import { Address } from './arguments.as'
import { madd } from './simd.as'

@unmanaged class CeilingArgs {
  /** Each round is 12 vectors × 4 lanes × 2 flops. */
  rounds: i32
  x: f32
  /** 64 bytes per chunk. */
  out: Address
}

export function ceiling(args: CeilingArgs, chunk: i32): void {
  const x = f32x4.splat(args.x)
  let a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x
  for (let n = args.rounds; n > 0; --n) {
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
  v128.store(args.out + (chunk << 6), f32x4.add(a, f32x4.add(f32x4.add(i, j), f32x4.add(k, l))))
}

/**
 * When a computed tensor equals the stored one: the error measure and the tolerances, by kind, key and precision.
 * Floating-point type f32 is allowed about ten times what the reference code itself is off when run in f32.
 */

import type { Shape } from '../../core/shape.ts'
import { sameShape, show } from '../../core/shape.ts'

export type Precision = 'f32' | 'f64'

/** A result at t = 0: it subtracts two nearly equal probabilities, and is tested in f64 only. */
export function isAtTimeZero(key: string): boolean {
  return /[._]t0[._]/.test(key)
}

/** Why a result is checked in f64 alone; null where it is checked in both precisions. */
export function whyOnlyInF64(kind: string, key: string): string | null {
  if (kind === 'metrics') return 'metrics in f64 only'
  return isAtTimeZero(key) ? 't = 0 in f64 only' : null
}

/** A stored result that keeps the reference code's f32 roundings: `…_f32cast`, `…_f32`. */
export function hasRoundings(key: string): boolean {
  return /_f32(cast)?$/.test(key)
}

/** Weights after a training trajectory, or their moving average. */
export function isWeights(key: string): boolean {
  return /^out\.(final|ema)\./.test(key)
}

/** A result of a sampling loop, in which errors add up. */
export function isSampled(key: string): boolean {
  return /^out\.(heun|euler|ddim)\w*_(final|inputs)$/.test(key)
}

/** Largest error that is accepted. `lr` is the learning rate of a training trajectory. */
export function toleranceOf(kind: string, key: string, precision: Precision, lr: number): number {
  const f64 = precision === 'f64'
  if (hasRoundings(key)) return kind === 'schedules' ? 1e-4 : 1e-5
  if (isAtTimeZero(key)) return 1e-7
  if (kind === 'trajectory') return f64 ? 1e-8 : isWeights(key) ? 0.07 * lr : 1e-5
  if (key.startsWith('grad')) return f64 ? 1e-8 : 3e-4
  if (kind === 'sampling' || isSampled(key)) return f64 ? 1e-8 : 1e-4
  if (kind === 'vae') return f64 ? 1e-9 : 5e-5
  if (kind === 'metrics' && key.startsWith('scalar.')) return 1e-7
  return f64 ? 1e-9 : 2e-5
}

/** Least scale of relative errors: a metric of about 0 is allowed 1e-9. */
export function leastScaleOf(kind: string, key: string): number {
  return kind === 'metrics' && key.startsWith('scalar.') ? 1e-2 : 0
}

export interface Stored {
  readonly dtype: string
  readonly shape: Shape
  readonly data: ArrayLike<number>
}

export interface Comparison {
  /** Largest absolute difference over the largest stored entry, or `leastScale` (over 1 where that is below 1e-12). */
  readonly error: number
  /** Why the two cannot be compared, if they cannot. */
  readonly problem?: string
}

/** Compares elements for which `counts` holds (default: all). `leastScale`: see `leastScaleOf`. */
export function compare(
  stored: Stored,
  got: { readonly data: ArrayLike<number>; readonly shape: Shape },
  counts: (index: number) => boolean = () => true,
  leastScale = 0,
): Comparison {
  if (!sameShape(stored.shape, got.shape))
    return { error: Number.NaN, problem: `expected shape ${show(stored.shape)}, got ${show(got.shape)}` }
  let largest = 0
  let difference = 0
  for (let i = 0; i < stored.data.length; i++) {
    largest = Math.max(largest, Math.abs(stored.data[i]))
    const d = Math.abs(stored.data[i] - got.data[i])
    if (counts(i) && !(d <= difference)) difference = d // NaN stays
    if (Number.isNaN(difference)) break
  }
  return { error: difference / (largest < 1e-12 ? 1 : Math.max(largest, leastScale)) }
}

/** Leaves out the key third of a qkv bias: its true gradient is 0, and an optimizer makes a drift of the noise in f32. */
export function withoutKeyThird(length: number): (index: number) => boolean {
  return i => i < length / 3 || i >= (2 * length) / 3
}

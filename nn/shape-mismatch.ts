/**
 * Checks the shape of a value to load.
 */

import { type Shape, Tensor } from '../core/index.ts'
import { sameShape, show, sizeOf } from '../core/shape.ts'
import type { HostState } from './module.ts'

/** Returns the mismatch between a value and a shape (its shape, or its number of elements), or undefined. */
export function shapeMismatch(value: Tensor | HostState, wanted: Shape): string | undefined {
  if (!sameShape(value.shape, wanted)) return `expected ${show(wanted)}, got ${show(value.shape)}`
  if (value instanceof Tensor || value.data.length === sizeOf(wanted)) return undefined
  return `expected ${sizeOf(wanted)} values for ${show(wanted)}, got ${value.data.length}`
}

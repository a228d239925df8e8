/**
 * Whether a value that is to be loaded is what it says. Next: module.ts.
 */

import { type Shape, Tensor } from '../core/index.ts'
import { sameShape, show, sizeOf } from '../core/shape.ts'
import type { HostState } from './module.ts'

/** What keeps a value from being one of this shape: its shape, or the number of its elements. */
export function misfit(value: Tensor | HostState, wanted: Shape): string | undefined {
  if (!sameShape(value.shape, wanted)) return `expected ${show(wanted)}, got ${show(value.shape)}`
  if (value instanceof Tensor || value.data.length === sizeOf(wanted)) return undefined
  return `expected ${sizeOf(wanted)} values for ${show(wanted)}, got ${value.data.length}`
}

/**
 * Sum, maximum and minimum over any axes. x is read once, in order; every element goes to the slot of its result, found
 * by strides that are 0 along the reduced axes. Slots are f64.
 */

import { type BackendKernels, type ReduceName, reduceIdentity } from '../../backend.ts'
import type { TypedArray } from '../../dtype.ts'
import { reducedShape, sizeOf, stridesOf } from '../../shape.ts'
import { type Host, output } from './host.ts'
import { eachRow, lastStride } from './walk.ts'

export function reduceLoops(host: Host) {
  return {
    reduce(name, x, axes, out) {
      const y = output(host, out)
      const X = host.view(x.storage)
      const slots = new Float64Array(sizeOf(out.shape)).fill(reduceIdentity[name])
      const kept = stridesOf(reducedShape(x.shape, axes, true))
      const strides = kept.map((step, axis) => (axes.includes(axis) ? 0 : step))
      const length = x.shape[x.shape.length - 1] ?? 1
      const reducesRows = lastStride(strides) === 0
      eachRow(x.shape, [strides], (start, [slot]) => {
        if (reducesRows) slots[slot] = reduceRow(name, slots[slot], X, start, length)
        else mergeRow(name, slots, slot, X, start, length)
      })
      host.view(y).set(slots)
      return y
    },
  } satisfies Partial<BackendKernels>
}

/** A whole row into one number. */
function reduceRow(name: ReduceName, from: number, x: TypedArray, start: number, n: number): number {
  let slot = from
  if (name === 'sum') for (let i = 0; i < n; i++) slot += x[start + i]
  else if (name === 'max') for (let i = 0; i < n; i++) slot = Math.max(slot, x[start + i])
  else for (let i = 0; i < n; i++) slot = Math.min(slot, x[start + i])
  return slot
}

/** A row into as many slots, one element each. */
function mergeRow(name: ReduceName, slots: Float64Array, at: number, x: TypedArray, start: number, n: number): void {
  if (name === 'sum') for (let i = 0; i < n; i++) slots[at + i] += x[start + i]
  else if (name === 'max') for (let i = 0; i < n; i++) slots[at + i] = Math.max(slots[at + i], x[start + i])
  else for (let i = 0; i < n; i++) slots[at + i] = Math.min(slots[at + i], x[start + i])
}

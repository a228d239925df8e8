/**
 * What webgl2-browser.test.ts runs in a page: the walk over all ops on WebGL 2. Only what runs in a browser is used here.
 */

import type { GpuBackend } from '../core/backends/gpu/index.ts'
import * as core from '../core/index.ts'
import { walkEmpty } from './empty-arrays.ts'
import { walk } from './registry-walk.ts'
import { scalarValues } from './scalar-values.ts'

/** Bundlers leave out the ops that nobody names; these are all of them. */
export const ops = core

/** Opens the backend, which the walks share; what it says of itself. */
export async function open(): Promise<string> {
  const backend = (await core.ready({ backend: 'gpu:webgl2' })) as GpuBackend
  return backend.device.about
}

/** Walks one op. Throws an assertion with a line for all that is wrong. */
export async function walkOn(name: string): Promise<void> {
  await walk(core.registry().get(name)!, 'webgl2', core.defaultBackend())
}

/** Arrays of no elements. Throws an assertion with a line for all that is wrong. */
export function walkOnEmpty(): Promise<void> {
  return walkEmpty(core.defaultBackend())
}

/** Infinite and small values. Throws an assertion with a line for all that is wrong. */
export function scalarValuesOn(): Promise<void> {
  return scalarValues(core.defaultBackend())
}

/** Whether arrays of several sizes, one after the other, come back as they were written. */
export async function readBack(sizes: readonly number[]): Promise<boolean[]> {
  const equal: boolean[] = []
  for (const n of sizes) {
    const x = core.tensor(Float32Array.from({ length: n }, (_, i) => i))
    const values = await x.data()
    equal.push(values.length === n && values.every((value, i) => value === i))
    x.dispose()
  }
  return equal
}

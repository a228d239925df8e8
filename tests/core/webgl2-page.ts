/**
 * The program that webgl2-browser.test.ts runs in a page: the walk over all ops on WebGL 2. Imports nothing of Node.
 */

import { type GpuBackend, gpu } from '../../core/backends/gpu/index.ts'
import * as core from '../../core/index.ts'
import { walkEmpty } from './empty-arrays.ts'
import { walk } from './registry-walk.ts'
import { scalarValues } from './scalar-values.ts'

/** All ops: bundlers drop those that are not referenced. */
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

/** True for each array, of several sizes, that is read back as it was written. */
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

/** Errors after a backend has lost its context: of a read, of a compiled op, of one not yet compiled. */
export async function lose(): Promise<string[]> {
  const contexts: WebGL2RenderingContext[] = []
  const { getContext } = HTMLCanvasElement.prototype
  HTMLCanvasElement.prototype.getContext = function (this: HTMLCanvasElement, ...args: unknown[]) {
    const context = Reflect.apply(getContext, this, args)
    if (context instanceof WebGL2RenderingContext) contexts.push(context)
    return context
  } as typeof getContext
  const backend = await gpu({ device: 'webgl2' })
  const x = core.tensor([1, 2, 3], { backend })
  const run = [() => x, () => core.mul(x, 2), () => core.tanh(x), () => core.add(core.tensor([4, 5], { backend }), 1)]
  const said = [String(await core.mul(x, 2).data())]
  await backend.device.settled()
  HTMLCanvasElement.prototype.getContext = getContext
  for (const context of contexts) context.getExtension('WEBGL_lose_context')!.loseContext()
  for (const make of run)
    try {
      said.push(String(await make().data()))
    } catch (error) {
      said.push((error as Error).message)
    }
  return said
}

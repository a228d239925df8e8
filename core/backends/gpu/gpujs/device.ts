/**
 * Device for gpu.js' two synchronous modes. On `cpu` a handle is an array, on `webgl2` a texture. All numbers are
 * floats there. WebGL arrays have at most 2^22 elements: below that, the half that `quotient` adds keeps indices exact.
 */

import type { GPU, IKernelRunShortcut } from 'gpu.js'
import { type Device, type Handle, lostDevice } from '../program.ts'
import { type Elements, type FlatKernel, keyOf, type Thread } from './kernel.ts'
import { library, offsetHelper } from './library.ts'

interface Texture {
  toArray(): Float32Array
  delete(): void
}

function identity(this: Thread, x: Elements): number {
  return x[this.thread.x]
}

/** Returns the functions and argument types of a kernel in gpu.js' terms. */
export function kernelSettings({ functions = {}, rank = 0 }: FlatKernel, arrays: number, ints: number, floats: number) {
  const own = Object.entries(functions).map(([name, source]) => ({ name, source, settings: numbersOf(source) }))
  return {
    functions: [
      ...own,
      ...library.map(({ name, source, settings }) => ({ name, source, settings })),
      offsetHelper(rank),
    ],
    argumentTypes: (arrayType: string) => [
      ...Array.from({ length: arrays }, () => arrayType),
      ...Array.from({ length: ints }, () => 'Integer'),
      ...Array.from({ length: floats }, () => 'Float'),
    ],
  }
}

/** Types of a function given as source: all its numbers are floats. */
function numbersOf(source: string) {
  const parameters = source.slice(source.indexOf('(') + 1, source.indexOf(')')).split(',')
  return { argumentTypes: parameters.map(() => 'Number'), returnType: 'Number' }
}

/** Settings of all kernels. Without `tactic`, gpu.js recompiles and loses the output size when sizes pass 2^14. */
const settings = {
  pipeline: true,
  immutable: true,
  dynamicOutput: true,
  dynamicArguments: true,
  precision: 'single',
  tactic: 'precision',
}

export function openGpuJs(gpu: GPU, mode: 'webgl2' | 'cpu', about: string): Device {
  const compiled = new Map<string, IKernelRunShortcut>()
  let dispatches = 0
  const onCpu = mode === 'cpu'
  const arrayType = onCpu ? 'Array' : 'ArrayTexture(1)'
  // The GLSL of headless WebGL has no access to the bits of a float.
  const nativeFunctions =
    gpu.mode === 'webgl2' ? library.flatMap(({ name, glsl }) => (glsl ? [{ name, source: glsl }] : [])) : []

  function compile(
    program: FlatKernel,
    types: (arrayType: string) => string[],
    functions: readonly { name: string }[],
  ) {
    return gpu
      .createKernel(program.kernel.toString(), {
        ...settings,
        argumentTypes: types(arrayType),
        nativeFunctions,
      } as object)
      .setFunctions(functions.filter(({ name }) => !nativeFunctions.some(native => native.name === name)) as never)
      .setLoopMaxIterations(2 ** 31 - 1) as IKernelRunShortcut
  }

  /** Returns the WebGL context; null on the CPU and before the first kernel. */
  const context = () => (onCpu ? null : (gpu.context as WebGL2RenderingContext | null))
  /** Throws if the context is lost: a lost context computes zeros and reports no error. */
  function assertAlive(): void {
    if (context()?.isContextLost()) throw lostDevice(gpu.mode, 'its WebGL context is gone')
  }

  let uploader: IKernelRunShortcut | null = null

  function texture(data: Float32Array): Handle {
    uploader ??= gpu.createKernel(identity.toString(), settings as object) as IKernelRunShortcut
    return uploader.setOutput([data.length])(data) as object
  }

  // No texture has 0 elements. An empty array is a Float32Array on WebGL too, and kernels bind this texture in its place.
  let nothing: Handle | null = null
  function bound(handle: Handle): Handle {
    if (!(handle instanceof Float32Array)) return handle
    nothing ??= texture(new Float32Array(1))
    return nothing
  }

  return {
    mode,
    about,
    maxElements: onCpu ? 2 ** 31 : 2 ** 22,
    upload(data) {
      return onCpu || data.length === 0 ? data.slice() : texture(data)
    },

    run(program, size, arrays, ints, floats) {
      if (size === 0) return new Float32Array(0)
      const key = keyOf(program)
      let kernel = compiled.get(key)
      if (kernel === undefined) {
        assertAlive()
        const { functions, argumentTypes } = kernelSettings(program, arrays.length, ints.length, floats.length)
        kernel = compile(program, argumentTypes, functions)
        compiled.set(key, kernel)
      }
      dispatches++
      const given = onCpu ? arrays : arrays.map(bound)
      return kernel.setOutput([size])(...([...given, ...ints, ...floats] as never[])) as object
    },

    async download(handles, sizes) {
      const values = handles.map((handle, i) => {
        if (handle instanceof Float32Array) return handle.slice(0, sizes[i])
        return (handle as Texture).toArray().slice(0, sizes[i])
      })
      assertAlive()
      return values
    },

    release(handle: Handle) {
      if (!(handle instanceof Float32Array)) (handle as Texture).delete()
    },

    async settled() {
      context()?.finish()
    },

    counters: () => ({ built: compiled.size, dispatches, submits: dispatches, reserved: 0, allocations: 0 }),

    destroy() {
      compiled.clear()
      void gpu.destroy()
    },
  }
}

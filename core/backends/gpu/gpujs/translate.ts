/**
 * A kernel's WGSL, as gpu.js translates it, without its device: gpu.js builds pipelines and buffers anew for every kernel
 * and submits every call by itself; encoder.ts does both for all. What it gets wrong for us is replaced in its text:
 * functions of library.ts that have a body in WGSL. Next: encoder.ts.
 */

import type { GPU } from 'gpu.js'
import type { Program } from '../program.ts'
import { kernelSettings } from './device.ts'
import { library } from './library.ts'

/** A shader and where its uniform block takes its numbers. */
export interface Translation {
  readonly code: string
  /** Of the uniform block, a multiple of 16. Its first word is the number of elements, the fourth the dispatch's width. */
  readonly byteLength: number
  /** Words of the uniform block at which the whole numbers and the others stand, in order. */
  readonly ints: readonly number[]
  readonly floats: readonly number[]
}

/** What is used of gpu.js' WebGPU kernel. */
interface Translator {
  _buildAsync(): Promise<void>
  build(...args: unknown[]): Promise<void>
  readonly compiledSource: string
  readonly paramsLayout: {
    readonly scalarArgs: readonly { readonly type: string; readonly offset: number }[]
    readonly byteLength: number
  }
}

/** Invocations of a workgroup of these shaders. */
export const workgroupSize = 64

/** Translates a program with so many parameters of each kind. Throws what gpu.js says of code that it cannot translate. */
export function translate(gpu: GPU, program: Program, arrays: number, ints: number, floats: number): Translation {
  const { functions, argumentTypes } = kernelSettings(program, arrays, ints, floats)
  const types = argumentTypes('WebGPUBuffer')
  const shortcut = gpu
    .createKernel(program.kernel.toString(), {
      pipeline: true,
      immutable: true,
      dynamicOutput: true,
      dynamicArguments: true,
      argumentTypes: types,
      output: [1],
    } as object)
    .setFunctions(functions as never)
    .setLoopMaxIterations(2 ** 31 - 1)
  const { kernel } = shortcut as unknown as { kernel: Translator }
  kernel._buildAsync = () => Promise.resolve() // where it would ask for a device
  void kernel.build(...types.map(type => (type === 'WebGPUBuffer' ? { type, output: [1] } : 1)))
  const { compiledSource, paramsLayout } = kernel
  const words = (isInt: boolean) =>
    paramsLayout.scalarArgs.flatMap(({ type, offset }) => ((type === 'Integer') === isInt ? [offset / 4] : []))
  return {
    code: spliced(compiledSource),
    byteLength: paramsLayout.byteLength,
    ints: words(true),
    floats: words(false),
  }
}

function spliced(code: string): string {
  let text = code
  for (const { name, wgsl } of library)
    if (wgsl !== undefined)
      text = text.replace(
        new RegExp(`(fn fn_${name}\\(([^)]*)\\) -> \\w+ )\\{[^}]*\\}`),
        (_, head: string, list: string) => {
          const names = list.split(',').map(parameter => parameter.split(':')[0].trim())
          return `${head}{ ${wgsl.replace(/\$(\d)/g, (_, i) => names[Number(i) - 1])} }`
        },
      )
  return text
}

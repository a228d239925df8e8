/**
 * Translates flat kernels to WGSL with gpu.js, without its device: gpu.js builds pipelines and buffers anew for every
 * kernel and submits every call by itself, which webgpu/ does once for all. This is the only file that calls private
 * methods of gpu.js and patches its output, so it holds for one version. tests/core/gpu-translate.test.ts fails for any
 * other.
 */

import type { GPU } from 'gpu.js'
import { ceilDiv } from '../../../shape.ts'
import { gridOf, type Program, type Term, type Translator } from '../program.ts'
import { kernelSettings } from './device.ts'
import { type FlatKernel, keyOf } from './kernel.ts'
import { library } from './library.ts'

/** The version of gpu.js that this file is written against. */
export const gpuJsVersion = '2.24.1'

/** Members of gpu.js' WebGPU kernel that are used here; all but `build` are private. */
interface WebGpuKernel {
  build(...args: unknown[]): Promise<void>
  /** Compiles `compiledSource` on a device. */
  _buildAsync(): Promise<void>
  compiledSource: string | null
  paramsLayout: {
    readonly scalarArgs: readonly { readonly type: string; readonly offset: number }[]
    readonly byteLength: number
  } | null
}

/** A translated kernel: its program, and the words of the uniform block that take its numbers. */
interface Translation {
  readonly program: Omit<Program, 'workgroups'>
  readonly floatParams: Float32Array
  readonly ints: readonly number[]
  readonly floats: readonly number[]
}

/** Threads of a workgroup in gpu.js' shaders. */
const workgroupSize = 64

/**
 * Words of gpu.js' uniform block that every kernel has: the number of elements, and the threads of a row of the grid.
 */
const words = { size: 0, width: 3 } as const

/** Returns the translator of `gpu`, which keeps what it translated. It throws gpu.js' message on code beyond gpu.js. */
export function createTranslator(gpu: GPU): Translator {
  const translations = new Map<string, Translation>()
  return (kernel, size, arrays, ints, floats) => {
    const key = keyOf(kernel)
    let found = translations.get(key)
    if (found === undefined) {
      found = translate(gpu, kernel, arrays, ints.length, floats.length)
      translations.set(key, found)
    }
    const { program, floatParams } = found
    const { params } = program
    const workgroups = ceilDiv(size, workgroupSize)
    params[words.size] = size
    params[words.width] = gridOf(workgroups)[0] * workgroupSize
    for (let i = 0; i < ints.length; i++) params[found.ints[i]] = ints[i]
    for (let i = 0; i < floats.length; i++) floatParams[found.floats[i]] = floats[i]
    return { ...program, workgroups }
  }
}

function translate(gpu: GPU, kernel: FlatKernel, arrays: number, ints: number, floats: number): Translation {
  const { functions, argumentTypes } = kernelSettings(kernel, arrays, ints, floats)
  const types = argumentTypes('WebGPUBuffer')
  const { kernel: translator } = gpu
    .createKernel(kernel.kernel.toString(), {
      pipeline: true,
      immutable: true,
      dynamicOutput: true,
      dynamicArguments: true,
      argumentTypes: types,
      output: [1],
    } as object)
    .setFunctions(functions as never)
    .setLoopMaxIterations(2 ** 31 - 1) as unknown as { kernel: WebGpuKernel }
  if (typeof translator._buildAsync !== 'function') throw otherVersion('_buildAsync')
  translator._buildAsync = () => Promise.resolve() // instead of asking for a device
  void translator.build(...types.map(type => (type === 'WebGPUBuffer' ? { type, output: [1] } : 1)))
  const { compiledSource, paramsLayout } = translator
  if (typeof compiledSource !== 'string') throw otherVersion('compiledSource')
  if (!Array.isArray(paramsLayout?.scalarArgs)) throw otherVersion('paramsLayout')
  const code = replaceFunctions(compiledSource)
  const params = new Uint32Array(paramsLayout.byteLength / 4)
  const wordsOf = (isInt: boolean) =>
    paramsLayout.scalarArgs.flatMap(({ type, offset }) => ((type === 'Integer') === isInt ? [offset / 4] : []))
  return {
    program: { key: `gpu.js ${keyOf(kernel)}`, code: () => code, params, scalars: 0, reads: arrays, writes: 1 },
    floatParams: new Float32Array(params.buffer),
    ints: wordsOf(true),
    floats: wordsOf(false),
  }
}

function otherVersion(missing: string): Error {
  return new Error(
    `gpu: expected gpu.js ${gpuJsVersion}, got one without ${missing}: npm install gpu.js@${gpuJsVersion}`,
  )
}

/**
 * The function of an elementwise kernel, as WGSL that other shaders can call: of the operands' elements, then of the numbers,
 * in the dtype of the result. Takes it from the translation of the whole kernel.
 */
export function functionsOf(kernel: FlatKernel, translate: Translator, arrays: number): Term {
  const code = translate(kernel, 1, arrays, [], Array<number>(kernel.kernel.length - arrays).fill(0)).code()
  const name = kernel.key.replace(/\W/g, '_')
  const own = (text: string) =>
    Object.keys(kernel.functions ?? {}).reduce((t, each) => t.replaceAll(`fn_${each}(`, `fn_${each}_${name}(`), text)
  const functions = new Map<string, string>()
  for (const text of own(code.slice(0, code.indexOf('@compute'))).split(/^(?=fn )/m)) {
    const found = /^fn (\w+)\(/.exec(text)
    if (found !== null && !found[1].startsWith('get_user_')) functions.set(found[1], text.trimEnd()) // not access to an array
  }
  const entry = Object.keys(kernel.functions ?? {}).find(each => each !== 'store')!
  const definition = functions.get(`fn_${entry}_${name}`)
  if (definition === undefined) throw otherVersion(`a definition of fn_${entry}`)
  const parameters = definition.slice(0, definition.indexOf(')')).split(',').length
  const call = (values: readonly string[]) => {
    const padded = Array.from({ length: parameters }, (_, i) => values[i] ?? '0.0')
    return `fn_store_${name}(fn_${entry}_${name}(${padded.join(', ')}))`
  }
  return { name, functions, call }
}

/** Replaces the bodies of library functions that have one in WGSL. gpu.js names a function `name` fn_name. */
function replaceFunctions(code: string): string {
  let text = code
  for (const { name, wgsl } of library) {
    if (wgsl === undefined || !text.includes(`fn_${name}(`)) continue
    const definition = new RegExp(`(fn fn_${name}\\(([^)]*)\\) -> \\w+ )\\{[^}]*\\}`)
    if (!definition.test(text)) throw otherVersion(`a definition of fn_${name}`)
    text = text.replace(definition, (_, head: string, list: string) => {
      const names = list.split(',').map(parameter => parameter.split(':')[0].trim())
      return `${head}{ ${wgsl.replace(/\$(\d)/g, (_, i) => names[Number(i) - 1])} }`
    })
  }
  return text
}

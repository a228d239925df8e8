/**
 * gpu.js behind four verbs: upload, run, download, release. Nothing else here knows what a handle is. The package is
 * loaded when a device is opened, not before. Compiled kernels are kept by shape class: the kernel, the scalar function
 * in it, the number of axes that it loops over, and the bound of its loop rounded up to a power of two.
 */

import type { IKernelRunShortcut } from 'gpu.js'
import type { Handle, Thread } from './kernels.ts'
import { library } from './scalars.ts'

/** A kernel with what is spliced into it. Two with the same key must be the same. */
export interface Program {
  readonly key: string
  readonly kernel: (this: Thread, ...args: never[]) => number
  /** Sources of `unaryOp`, `binaryOp`, `join` or `store`, by name. */
  readonly functions?: Readonly<Record<string, string>>
  /** Axes that the kernel loops over. */
  readonly rank?: number
  /** How often its other loops may run: gpu.js stops them after 1,000 unless told. */
  readonly loop?: number
}

export type Argument = Handle | number

export interface Device {
  upload(data: Float32Array): Handle
  /** A new handle with `size` elements. */
  run(program: Program, size: number, args: readonly Argument[]): Handle | Promise<Handle>
  /** A copy. */
  download(handle: Handle): Promise<Float32Array>
  release(handle: Handle): void
  destroy(): void
}

/** gpu.js in its CPU mode, where a handle is a Float32Array that each call makes anew. */
export async function openDevice(): Promise<Device> {
  const { GPU } = await import('gpu.js').catch(error => {
    throw new Error(`gpu: wanted the package gpu.js; run npm install gpu.js (${(error as Error).message})`)
  })
  const gpu = new GPU({ mode: 'cpu' })
  const compiled = new Map<string, IKernelRunShortcut>()

  function compile({ kernel, functions = {}, rank = 0 }: Program, loop: number): IKernelRunShortcut {
    const own = Object.entries(functions).map(([name, source]) => ({ name, source, settings: {} }))
    const shared = library.map(f => ({ name: f.name, source: f.toString(), settings: {} }))
    return gpu
      .createKernel(kernel.toString(), { pipeline: true, immutable: true, dynamicOutput: true, dynamicArguments: true })
      .setFunctions([...own, ...shared])
      .setConstants({ rank })
      .setLoopMaxIterations(loop) as IKernelRunShortcut
  }

  return {
    upload: data => data.slice(),
    run(program, size, args) {
      if (size === 0) return new Float32Array(0)
      const loop = 2 ** Math.ceil(Math.log2(Math.max(program.loop ?? 0, 64)))
      const key = `${program.key} ${program.rank ?? 0} ${loop}`
      let kernel = compiled.get(key)
      if (kernel === undefined) {
        kernel = compile(program, loop)
        compiled.set(key, kernel)
      }
      kernel.setOutput([size])
      return kernel(...args) as Handle
    },
    download: async handle => handle.slice(),
    release() {},
    destroy() {
      compiled.clear()
      void gpu.destroy()
    },
  }
}

/**
 * The `wasm` backend: the default, and the fastest. Kernels are AssemblyScript (kernels/*.as.ts) on one linear memory,
 * run by all threads; files in launch/ cut the work and pass the arguments. Where there is no wasm code for an odd case
 * (i32 exp, say) the cpu loop runs in place on the same memory and is counted in `stats().fallbacks`.
 * The layers below are runtime.ts and memory.ts. Most of the time is spent in kernels/gemm.as.ts.
 */

import type { Backend, BackendKernels, Storage } from '../../backend.ts'
import { type DType, type TypedArray, viewOf } from '../../dtype.ts'
import { sizeOf } from '../../shape.ts'
import { createLoops } from '../cpu/loops.ts'
import { attention } from './launch/attention.ts'
import { convolutions } from './launch/conv.ts'
import { convWeightGrad } from './launch/conv-weight-grad.ts'
import { wasmDoubles } from './launch/doubles.ts'
import { elementwise } from './launch/elementwise.ts'
import { matmul } from './launch/matmul.ts'
import { movement } from './launch/movement.ts'
import { norms } from './launch/norm.ts'
import { optimizer } from './launch/optimizer.ts'
import { reducer, reductions } from './launch/reduce.ts'
import { scans } from './launch/scan.ts'
import { windows } from './launch/window.ts'
import { type Build, createRuntime, type Runtime, type RuntimeOptions } from './runtime.ts'
import { type LaunchContext, WasmStorage } from './storage.ts'

/** The wasm backend, and what is particular to it. */
export interface WasmBackend extends Backend {
  /** The build in use: the two differ in the last bits. */
  readonly build: Build
  readonly threads: number
  readonly runtime: Runtime
}

/** Compiles and instantiates the module and starts its threads. Throws where there is no SIMD, or no build. */
export async function createWasm(options: RuntimeOptions = {}): Promise<WasmBackend> {
  const runtime = await createRuntime(options)
  const { memory } = runtime
  let bytes = 0
  let peakBytes = 0
  let storages = 0
  let fallbacks = 0
  let reads = 0
  let disposed = false

  function alloc(dtype: DType, length: number): WasmStorage {
    if (dtype === 'f64') throw new Error('wasm: expected f32 or i32, got f64; f64 lives on the cpu backend')
    const block = memory.alloc(4 * length)
    bytes += 4 * length
    if (bytes > peakBytes) peakBytes = bytes
    storages++
    return new WasmStorage(backend, dtype, length, block, memory.address(block))
  }

  function view(storage: Storage): TypedArray {
    const { address, length, dtype } = storage as WasmStorage
    const words = dtype === 'f32' ? runtime.floats(address, length) : runtime.ints(address, length)
    return viewOf(dtype, words.buffer, words.byteOffset, length)
  }

  // Results of the running kernel, which are freed here if it throws.
  // Track the length ourselves: truncating the array costs as much as a small kernel.
  const results: WasmStorage[] = []
  let made = 0

  function result(dtype: DType, length: number): WasmStorage {
    const storage = alloc(dtype, length)
    results[made++] = storage
    return storage
  }

  function free(storage: Storage): void {
    memory.free((storage as WasmStorage).block)
    bytes -= 4 * storage.length
    storages--
  }

  const context: LaunchContext = {
    runtime,
    output: out => result(out.dtype, sizeOf(out.shape)),
    scratch(size, use) {
      const block = memory.alloc(size)
      try {
        return use(memory.address(block))
      } finally {
        memory.free(block)
      }
    },
  }

  const loops = wrapped(createLoops({ view, alloc: result }), run => (...args) => {
    fallbacks++
    return run(...args)
  })
  const reduce = reducer(context)
  // A kernel that is made of others calls them here, where they count as one.
  const launchers: BackendKernels = {
    ...elementwise(context, loops),
    ...movement(context, () => launchers),
    ...reductions(context, reduce),
    ...scans(context),
    ...windows(context),
    ...matmul(context, loops, reduce),
    ...convolutions(context),
    ...convWeightGrad(context),
    ...norms(context, reduce),
    ...attention(context, reduce),
    ...optimizer(context),
  }
  const kernels = wrapped(launchers, run => (...args) => {
    try {
      return run.apply(launchers, args)
    } catch (error) {
      for (const storage of results.slice(0, made)) free(storage)
      throw error
    } finally {
      made = 0
    }
  })

  const backend: WasmBackend = {
    name: 'wasm',
    dtypes: ['f32', 'i32'],
    build: runtime.build,
    threads: runtime.threads,
    runtime,
    kernels,
    doubles: wasmDoubles(runtime, memory),
    alloc,
    free,
    write(storage, data) {
      if (data.length !== storage.length)
        throw new RangeError(`write: expected ${storage.length} elements, got ${data.length}`)
      view(storage).set(data)
      storage.version++
    },
    read: async storage => readSync(storage),
    readSync,
    stats: () => ({ bytes, peakBytes, storages, fallbacks, reads }),
    resetPeak() {
      peakBytes = bytes
    },
    dispose() {
      disposed = true
      runtime.dispose()
    },
    get disposed() {
      return disposed
    },
  }

  /** A copy in memory that is not shared. */
  function readSync(storage: Storage): TypedArray {
    reads++
    return view(storage).slice()
  }

  return backend
}

type AnyFunction = (...args: unknown[]) => unknown

/** The same functions, each as `wrap` makes it. */
function wrapped<T extends object>(functions: T, wrap: (run: AnyFunction) => AnyFunction): T {
  return Object.fromEntries(Object.entries(functions).map(([name, run]) => [name, wrap(run)])) as T
}

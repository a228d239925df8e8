/**
 * Loads the build that this machine can run, gives it one shared linear memory and an allocator, starts workers and
 * launches kernels. A kernel is an export (args, chunk); its index is its place in the function table, which every thread
 * fills in the same order. A launch writes the arguments to a block at a fixed place, and kernels/threads.as.ts runs the
 * chunks. Views of shared memory stay valid when it grows, but they keep their length, so views of data are made anew
 * after each growth.
 */

import { writers } from './generated/kernels.ts'
import { host } from './host.ts'
import { Allocator } from './memory.ts'

/** Which build runs: they differ in the last bits, so checkpoints record it. */
export type Build = 'relaxed' | 'simd'

export interface RuntimeOptions {
  /** Threads, the main one included. Default: DEMASK_THREADS or one per core. */
  threads?: number
  /** Default: relaxed where the machine has it. */
  build?: Build
}

/** Words that an argument block may have. */
const MAX_ARGS = 256
/** Below are thread state, arguments and static data of the module. */
const HEAP = 65536

// Modules of one function each, to ask the engine what it knows: i8x16.popcnt, f32x4.relaxed_madd's family.
const simdProbe = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]
const relaxedProbe = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15,
  253, 128, 2, 11,
]

// Every thread runs this after it has made its instance, so that all tables agree.
const fillTable = `for (const value of Object.values(exports)) if (typeof value === 'function') exports.table.set(exports.table.grow(1), value)`

/** Writes an argument block: integers to `words` and f32 to `floats`, two views of the same memory. */
type Write<A> = (args: A, words: Int32Array, floats: Float32Array) => void

/** A kernel: its place in the function table, and the arguments A that a launch passes to it. */
export interface Kernel<A> {
  readonly index: number
  readonly write: Write<A>
}

/** All kernels by name, generated from the declarations in kernels/. */
export type KernelTable = { readonly [K in keyof typeof writers]: Kernel<Parameters<(typeof writers)[K]>[0]> }

interface Exports {
  /** Address of the argument block. */
  readonly ARGS: WebAssembly.Global<'i32'>
  table: WebAssembly.Table
  launch(kernel: number, chunks: number): void
  stop(): void
}

/** The module, its memory and its threads. */
export class Runtime {
  readonly build: Build
  readonly threads: number
  readonly memory: Allocator
  readonly kernels: KernelTable
  readonly #memory: WebAssembly.Memory
  readonly #launch: (kernel: number, chunks: number) => void
  readonly #stop: () => void
  readonly #argumentWords: Int32Array
  readonly #argumentFloats: Float32Array
  readonly #stopWorkers: (() => void)[] = []
  #buffer: ArrayBufferLike
  #i32: Int32Array
  #f32: Float32Array

  constructor(module: WebAssembly.Module, build: Build, threads: number) {
    this.build = build
    this.#memory = new WebAssembly.Memory({ initial: 64, maximum: 65536, shared: true })
    const instance = new WebAssembly.Instance(module, { env: { memory: this.#memory } })
    const exports = instance.exports as unknown as Exports
    const numbers = new Map<string, number>()
    for (const [name, value] of Object.entries(instance.exports))
      if (typeof value === 'function') {
        const place = exports.table.grow(1)
        exports.table.set(place, value)
        numbers.set(name, place)
      }
    this.kernels = Object.fromEntries(
      Object.entries(writers).map(([name, write]) => [name, { index: numbers.get(name)!, write }]),
    ) as unknown as KernelTable
    this.#launch = exports.launch
    this.#stop = exports.stop
    this.memory = new Allocator(this.#memory, HEAP)
    this.#buffer = this.#memory.buffer
    this.#argumentWords = new Int32Array(this.#buffer, exports.ARGS.value, MAX_ARGS)
    this.#argumentFloats = new Float32Array(this.#buffer, exports.ARGS.value, MAX_ARGS)
    this.#i32 = new Int32Array(this.#buffer)
    this.#f32 = new Float32Array(this.#buffer)
    this.#startWorkers(module, threads)
    this.threads = 1 + this.#stopWorkers.length
  }

  /** Starts one worker fewer than `threads`, or as many as the system allows, with one line of warning. */
  #startWorkers(module: WebAssembly.Module, threads: number): void {
    try {
      for (let i = 1; i < threads; i++) this.#stopWorkers.push(host.startWorker(module, this.#memory, i, fillTable))
    } catch (error) {
      const started = 1 + this.#stopWorkers.length
      console.warn(`wasm: expected ${threads} threads, got ${started}: ${(error as Error).message}`)
    }
  }

  /** Bytes of the linear memory, which only grows. */
  get memoryBytes(): number {
    return this.#memory.buffer.byteLength
  }

  /** Runs chunks 0 to `chunks` − 1 of a kernel on all threads; returns when they are done. */
  launch<A>(kernel: Kernel<A>, chunks: number, args: NoInfer<A>): void {
    if (chunks === 0) return
    kernel.write(args, this.#argumentWords, this.#argumentFloats)
    this.#launch(kernel.index, chunks)
  }

  /** `length` words from a byte address, as integers. Not to be held across an allocation. */
  ints(address: number, length: number): Int32Array {
    this.#refresh()
    return this.#i32.subarray(address >>> 2, (address >>> 2) + length)
  }

  /** `length` words from a byte address, as floats. Not to be held across an allocation. */
  floats(address: number, length: number): Float32Array {
    this.#refresh()
    return this.#f32.subarray(address >>> 2, (address >>> 2) + length)
  }

  /** `length` doubles from a byte address that is a multiple of eight. The memory is shared: growth leaves the view valid. */
  doubles(address: number, length: number): Float64Array {
    return new Float64Array(this.#memory.buffer, address >>> 0, length)
  }

  #refresh(): void {
    if (this.#memory.buffer === this.#buffer) return
    this.#buffer = this.#memory.buffer
    this.#i32 = new Int32Array(this.#buffer)
    this.#f32 = new Float32Array(this.#buffer)
  }

  /** Ends the workers. The memory is garbage-collected with the last reference to it. */
  dispose(): void {
    this.#stop()
    for (const stop of this.#stopWorkers) stop()
  }
}

/** Loads the wasm module. Throws where there is no SIMD, or no build. */
export async function createRuntime(options: RuntimeOptions = {}): Promise<Runtime> {
  host.enableRelaxedSimd()
  if (typeof WebAssembly === 'undefined' || !WebAssembly.validate(new Uint8Array(simdProbe)))
    throw new Error('wasm: this JavaScript engine has no WebAssembly SIMD')
  const hasRelaxed = WebAssembly.validate(new Uint8Array(relaxedProbe))
  const build = options.build ?? (hasRelaxed ? 'relaxed' : 'simd')
  const threads = host.chooseThreads(options.threads)
  if (!Number.isInteger(threads) || threads < 1)
    throw new RangeError(`wasm: threads: expected a whole number of at least 1, got ${threads}`)
  const module = await WebAssembly.compile(decode(await loadBase64(build)))
  return new Runtime(module, build, threads)
}

async function loadBase64(build: Build): Promise<string> {
  try {
    const loaded = build === 'relaxed' ? await import('./generated/relaxed.ts') : await import('./generated/simd.ts')
    return loaded.base64
  } catch (error) {
    throw new Error('wasm: the kernels are not compiled: run npm run build', { cause: error })
  }
}

function decode(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64)
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}

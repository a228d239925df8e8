/**
 * The types between the two halves of this backend. webgpu/ is ours: device, encoder, buffer pool, hand-written WGSL.
 * gpujs/ is what gpu.js needs: kernels as flat functions, and their translation. Both describe a compute shader and the
 * arguments of one call as a `Program`. A `Device` runs programs and flat kernels; a `Launcher` runs them on the
 * backend's storages.
 */

import type { Operand, Spec, Storage } from '../../backend.ts'
import { ceilDiv } from '../../shape.ts'
import type { FlatKernel } from './gpujs/kernel.ts'

/** A compute shader with the arguments of one call. */
export interface Program {
  /** Programs with the same key have the same code. */
  readonly key: string
  /** Returns the WGSL, with entry point `main`. Called when the pipeline is built, not for every call. */
  readonly code: () => string
  /** Uniform block, at binding 0 of group 0. */
  readonly params: Uint32Array
  /**
   * Numbers of buffers of one element, of storage buffers read, and of storage buffers written, at bindings 1, 2, … of group 0 in
   * this order. Those of one element are uniforms, which do not count among storage buffers, of which devices bind few.
   */
  readonly scalars: number
  readonly reads: number
  readonly writes: number
  /** Number of workgroups, laid out by `gridOf`. */
  readonly workgroups: number
}

/** One dispatch of a plan. */
export interface Step {
  readonly program: Program
  /** Names of the buffers at bindings 1, 2, … of group 0. */
  readonly buffers: readonly string[]
}

/** Dispatches that compute the results of one kernel call. Later steps read what earlier steps wrote. */
export interface Plan {
  readonly steps: readonly Step[]
  /** Buffers for intermediate values: number of elements by name. Their contents do not matter before or after. */
  readonly scratch: Readonly<Record<string, number>>
}

/** Limit on workgroups along one dimension of a dispatch. */
const maxGrid = 65_535

/** Returns a grid [x, y] with room for `workgroups`; surplus workgroups return at once. */
export function gridOf(workgroups: number): [number, number] {
  const y = ceilDiv(workgroups, maxGrid)
  return [ceilDiv(workgroups, Math.max(y, 1)), y]
}

/**
 * Returns the program of a flat kernel that computes `size` elements from `arrays` inputs. The next call may reuse it.
 */
export type Translator = (
  kernel: FlatKernel,
  size: number,
  arrays: number,
  ints: readonly number[],
  floats: readonly number[],
) => Program

/**
 * Element of an operand that element i of an elementwise result reads: i, the only one, or
 * ⌊i / step⌋ · inner + ⌊i / unit⌋ mod inner.
 */
export type Access = 'each' | 'one' | { readonly step: number; readonly unit: number; readonly inner: number }

/** An elementwise function in WGSL. */
export interface Term {
  /** Terms with the same name have the same code. */
  readonly name: string
  /** WGSL functions that it needs, by name. */
  readonly functions: ReadonlyMap<string, string>
  /** WGSL of its result. Its arguments are the operands and then the numbers. */
  call(values: readonly string[]): string
}

/** Elements on a device, as the host holds them. Each device has a type of its own. */
export type Handle = object

export type DeviceMode = 'webgpu' | 'webgl2' | 'cpu'

/** Counters of a device since it was opened. */
export interface DeviceCounters {
  /** Kernels translated and compiled. */
  readonly built: number
  readonly dispatches: number
  readonly submits: number
  /** Bytes of WebGPU buffers, in use or free for reuse. */
  readonly reserved: number
  /** WebGPU buffers created. */
  readonly allocations: number
}

export interface Device {
  readonly mode: DeviceMode
  /** Name of the device and why it was chosen, in one line. */
  readonly about: string
  /** Largest number of elements of an array. */
  readonly maxElements: number
  upload(data: Float32Array): Handle
  /** Runs a flat kernel and returns a new handle of `size` elements. `ints` are exact; `floats` are f32. */
  run(
    kernel: FlatKernel,
    size: number,
    arrays: readonly Handle[],
    ints: readonly number[],
    floats: readonly number[],
  ): Handle
  /**
   * Returns a new handle of `size` elements, each a flat kernel's function of the elements of `operands` and of `numbers`, computed
   * when another kernel or a download needs it. Only WebGPU has it.
   */
  express?(
    kernel: FlatKernel,
    size: number,
    operands: readonly Handle[],
    accesses: readonly Access[],
    numbers: readonly number[],
  ): Handle
  /** Returns a new handle of `size` elements that are all the same number. Only WebGPU has it. */
  constant?(size: number, value: number): Handle
  /**
   * Runs a plan on `inputs` and returns new handles of as many elements as `sizes` says. They have the names of the fields of
   * `named` and `results`, the same for all calls of a plan. Only WebGPU has it.
   */
  plan?(plan: Plan, named: object, inputs: readonly Handle[], results: object, sizes: readonly number[]): Handle[]
  /** Returns copies of the first `sizes[i]` elements of each handle. Rejects with an error of an earlier dispatch. */
  download(handles: readonly Handle[], sizes: readonly number[]): Promise<Float32Array[]>
  release(handle: Handle): void
  /** Resolves when all dispatched work is done. Reads nothing and reports no error: the next download does. */
  settled(): Promise<void>
  counters(): DeviceCounters
  destroy(): void
}

/** Runs kernels on the storages of a backend. */
export interface Launcher {
  readonly device: Device
  /** Runs a flat kernel into a new storage for `out`. */
  launch(
    kernel: FlatKernel,
    operands: readonly Operand[],
    out: Spec,
    ints?: readonly number[],
    floats?: readonly number[],
  ): Storage
  /**
   * Applies the function of a flat kernel to each element of operands that broadcast to `out`, in a new storage that a device may
   * compute later. Undefined where it computes at once; then `launch` does.
   */
  express(kernel: FlatKernel, operands: readonly Operand[], out: Spec, numbers: readonly number[]): Storage | undefined
  /** A new storage for `out` with `value` in every element; undefined as `express`. */
  constant(value: number, out: Spec): Storage | undefined
  /** Runs a flat kernel whose result replaces the elements of `target`. */
  update(
    target: Operand,
    kernel: FlatKernel,
    operands: readonly Operand[],
    ints?: readonly number[],
    floats?: readonly number[],
  ): void
  /** Runs a plan into a new storage for each result, in order. Needs a device with `plan`. */
  plan(plan: Plan, named: Readonly<Record<string, Operand>>, results: Readonly<Record<string, Spec>>): Storage[]
  free(storage: Storage): void
  /**
   * Checks that indices lie in [0, R). Throws RangeError at once where the host wrote the indices; where the device
   * computed them, the next read throws.
   */
  checkIndices(op: string, index: Operand, R: number): void
}

/** Error of every read after a device was lost. */
export function lostDevice(name: string, why: string): Error {
  return new Error(
    `gpu: the device ${name} was lost (${why}); its tensors are gone: start again from a checkpoint, ` +
      'with a smaller batch if it was memory or a time limit',
  )
}

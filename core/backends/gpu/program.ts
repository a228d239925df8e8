/**
 * What the parts of this backend say to each other: a `Program` is a kernel that gpu.js translates, a `Device` runs
 * programs, and a handle is what stands for elements on a device. Next: library.ts for what kernels may call,
 * kernels/elementwise.ts for the simplest of them, device.ts for where they run.
 */

import type { Operand, Spec, Storage } from '../../backend.ts'
import type { Plan } from './webgpu/wgsl/shader.ts'

/** What a kernel finds in `this`: it gives element `this.thread.x` of its result. */
export interface Thread {
  readonly thread: { readonly x: number }
}

/** Elements on the device as a kernel sees them: an array of numbers. */
export type Elements = Float32Array

/** Elements on the device as the host sees them; only the device knows what it is. */
export type Handle = object

/** A kernel with what is spliced into it. Two with the same key must be the same. */
export interface Program {
  readonly key: string
  /** Its parameters: arrays, then whole numbers, then other numbers. */
  readonly kernel: (this: Thread, ...args: never[]) => number
  /** Sources of functions of numbers that the kernel calls, by name: `unaryOp`, `store`, … */
  readonly functions?: Readonly<Record<string, string>>
  /** Axes that `offset` takes apart. */
  readonly rank?: number
}

export type DeviceMode = 'webgpu' | 'webgl2' | 'cpu'

/** What a device has done so far. */
export interface DeviceCounters {
  /** Kernels translated and compiled. */
  readonly built: number
  readonly dispatches: number
  readonly submits: number
  /** Bytes of the buffers of webgpu, in use or waiting to be used again. */
  readonly reserved: number
  /** Buffers of webgpu made so far. */
  readonly allocations: number
}

export interface Device {
  readonly mode: DeviceMode
  /** Which device this is and why it was taken, in one line. */
  readonly about: string
  /** Most elements that an array may have, and who says so. */
  readonly maxElements: number
  upload(data: Float32Array): Handle
  /** A new handle with `size` elements. `ints` are exact; `floats` are f32. */
  run(
    program: Program,
    size: number,
    arrays: readonly Handle[],
    ints: readonly number[],
    floats: readonly number[],
  ): Handle
  /** Runs hand-written shaders on `named` handles; new handles for `results`, elements by name. Only webgpu has it. */
  plan?(
    plan: Plan,
    named: Readonly<Record<string, Handle>>,
    results: Readonly<Record<string, number>>,
  ): Record<string, Handle>
  /** Copies of the first `sizes[i]` elements of each handle. Rejects with what failed before. */
  download(handles: readonly Handle[], sizes: readonly number[]): Promise<Float32Array[]>
  release(handle: Handle): void
  /** Waits until all that was dispatched is done. Reads nothing and tells no failure: the next download does. */
  settled(): Promise<void>
  counters(): DeviceCounters
  destroy(): void
}

/** Dispatches kernels on a backend's memory. */
export interface Launcher {
  readonly device: Device
  /** A new storage for `out`. */
  launch(
    program: Program,
    operands: readonly Operand[],
    out: Spec,
    ints?: readonly number[],
    floats?: readonly number[],
  ): Storage
  /** The same, which then takes the place of `target`'s elements. */
  update(
    target: Operand,
    program: Program,
    operands: readonly Operand[],
    ints?: readonly number[],
    floats?: readonly number[],
  ): void
  /** Hand-written shaders, where the device takes them: a new storage per result, in order. */
  plan(plan: Plan, named: Readonly<Record<string, Operand>>, results: Readonly<Record<string, Spec>>): Storage[]
  free(storage: Storage): void
  /**
   * Checks indices in [0, R): at once where the host wrote them, else on the device, to be told by the next read.
   * Throws RangeError.
   */
  checkIndices(op: string, index: Operand, R: number): void
}

/** Most rows, or elements along one axis: kernels keep such numbers in f32, products of them in integers. */
export const maxCoordinate = 2 ** 24

/** The same number, if it can be a coordinate. Throws RangeError. */
export function coordinate(op: string, n: number): number {
  if (n > maxCoordinate) throw new RangeError(`gpu: ${op}: wanted at most ${maxCoordinate} rows, got ${n}`)
  return n
}

/** What is told once a device is no more. */
export function lostDevice(name: string, why: string): Error {
  return new Error(
    `gpu: the device ${name} was lost (${why}); its tensors are gone: start again from a checkpoint, ` +
      'with a smaller batch if it was memory or a time limit',
  )
}

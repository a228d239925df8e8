/**
 * A kernel as gpu.js takes it: a flat function that computes one element of the result, called once for each. It reads
 * arrays by index and calls only functions that are spliced into it as text (library.ts). One source runs on WebGPU, on
 * WebGL 2 and on the CPU. kernels/elementwise.ts has the simplest.
 */

/** `this` of a kernel, which computes element `this.thread.x` of its result. */
export interface Thread {
  readonly thread: { readonly x: number }
}

/** An array on the device, as a kernel reads it. */
export type Elements = Float32Array

/** A kernel with the functions spliced into it. Two with the same key are the same. */
export interface FlatKernel {
  readonly key: string
  /** Its parameters are arrays, then whole numbers, then other numbers. */
  readonly kernel: (this: Thread, ...args: never[]) => number
  /** Sources of functions of numbers that the kernel calls, by name: `unaryOp`, `store`, … */
  readonly functions?: Readonly<Record<string, string>>
  /** Number of axes that `offset` splits. */
  readonly rank?: number
}

/** Returns the key of the compiled kernel. Kernels with different keys are compiled separately. */
export function keyOf({ key, rank = 0 }: FlatKernel): string {
  return `${key}/${rank}`
}

/** Most rows, or elements along one axis: kernels keep such numbers in f32, and only their products in integers. */
export const maxCoordinate = 2 ** 24

/** Returns n. Throws RangeError where it is too large for a coordinate. */
export function coordinate(op: string, n: number): number {
  if (n > maxCoordinate) throw new RangeError(`gpu: ${op}: expected at most ${maxCoordinate} rows, got ${n}`)
  return n
}

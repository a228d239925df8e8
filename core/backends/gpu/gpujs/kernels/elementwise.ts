/**
 * Elementwise kernels. The function of an op (`unaryOp`, `binaryOp`, from scalars.ts) and the conversion to the
 * result's dtype (`store`) are spliced into one kernel each. Broadcast operands are read by strides: extents n and
 * strides of each operand, last axis first.
 */

import type { BackendKernels, Kernels, Operand, Spec, Storage } from '../../../../backend.ts'
import { broadcastStrides, collapseAxes, type Shape, sameShape } from '../../../../shape.ts'
import type { Launcher } from '../../program.ts'
import type { Elements, FlatKernel, Thread } from '../kernel.ts'
import { functionOf, maxRank } from '../library.ts'
import { binaryScalars, saturate, stores, unaryScalars } from '../scalars.ts'

declare function offset(at: number, ...sizesAndStrides: number[]): number
declare function unaryOp(x: number, p: number, q: number): number
declare function binaryOp(a: number, b: number): number
declare function choose(condition: number, a: number, b: number): number
declare function store(x: number): number

function fill(this: Thread, value: number): number {
  return store(value)
}

function unary(this: Thread, x: Elements, p: number, q: number): number {
  return store(unaryOp(x[this.thread.x], p, q))
}

function aligned(this: Thread, a: Elements, b: Elements): number {
  return store(binaryOp(a[this.thread.x], b[this.thread.x]))
}

// biome-ignore format: one group of parameters a line
function binary(
  this: Thread, a: Elements, b: Elements,
  n1: number, n2: number, n3: number, n4: number, n5: number,
  a1: number, a2: number, a3: number, a4: number, a5: number, a6: number,
  b1: number, b2: number, b3: number, b4: number, b5: number, b6: number,
): number {
  return store(
    binaryOp(
      a[offset(this.thread.x, n1, n2, n3, n4, n5, a1, a2, a3, a4, a5, a6)],
      b[offset(this.thread.x, n1, n2, n3, n4, n5, b1, b2, b3, b4, b5, b6)],
    ),
  )
}

function alignedWhere(this: Thread, condition: Elements, a: Elements, b: Elements): number {
  return store(choose(condition[this.thread.x], a[this.thread.x], b[this.thread.x]))
}

// biome-ignore format: one group of parameters a line
function where(
  this: Thread, condition: Elements, a: Elements, b: Elements,
  n1: number, n2: number, n3: number, n4: number, n5: number,
  c1: number, c2: number, c3: number, c4: number, c5: number, c6: number,
  a1: number, a2: number, a3: number, a4: number, a5: number, a6: number,
  b1: number, b2: number, b3: number, b4: number, b5: number, b6: number,
): number {
  if (condition[offset(this.thread.x, n1, n2, n3, n4, n5, c1, c2, c3, c4, c5, c6)] !== 0) {
    return a[offset(this.thread.x, n1, n2, n3, n4, n5, a1, a2, a3, a4, a5, a6)]
  }
  return b[offset(this.thread.x, n1, n2, n3, n4, n5, b1, b2, b3, b4, b5, b6)]
}

const choice = (condition: number, a: number, b: number) => (condition !== 0 ? a : b)

/** Flat kernels by function and dtype of the result: a device keeps what it made of each. */
const flatKernels = new Map<string, FlatKernel>()

function flatKernel(key: string, kernel: FlatKernel['kernel'], functions: () => Record<string, string>): FlatKernel {
  let found = flatKernels.get(key)
  if (found === undefined) {
    found = { key, kernel, functions: functions() }
    flatKernels.set(key, found)
  }
  return found
}

export function createElementwiseKernels({ launch, express, constant }: Launcher) {
  /** A function of one operand, some of whose numbers `p` and `q` it reads. */
  function map(
    name: string,
    scalar: (x: number, p: number, q: number) => number,
    x: Operand,
    out: Spec,
    p: number,
    q: number,
    numbers: readonly number[],
  ): Storage {
    const kernel = flatKernel(`${name} ${out.dtype}`, unary, () => ({
      unaryOp: functionOf('unaryOp', 3, scalar),
      ...storeOf(out),
    }))
    return express(kernel, [x], out, numbers) ?? launch(kernel, [x], out, [], [p, q])
  }

  const unaryKernel: Kernels['unary'] = (name, x, out, p = 0, q = 0) => {
    const scalar = unaryScalars[name]
    const count = scalar.length - 1
    return map(name, scalar, x, out, p, q, count === 2 ? [p, q] : count === 1 ? [p] : none)
  }
  return {
    unary: unaryKernel,
    cast(x, out) {
      if (out.dtype !== 'i32') return unaryKernel('affine', x, out, 1, 0)
      // f32 has no 2³¹ − 1: 2³¹ stands for it, and a read converts it.
      return map('cast', saturate, x, out, -(2 ** 31), 2 ** 31, [-(2 ** 31), 2 ** 31])
    },
    copy: x => unaryKernel('affine', x, x, 1, 0),
    fill: (value, out) =>
      constant(value, out) ??
      launch({ key: `fill ${out.dtype}`, kernel: fill, functions: storeOf(out) }, [], out, [], [value]),

    binary(name, a, b, out) {
      const functions = () => ({ binaryOp: functionOf('binaryOp', 2, binaryScalars[name]), ...storeOf(out) })
      const kernel = flatKernel(`${name} ${out.dtype} aligned`, aligned, functions)
      const expressed = express(kernel, [a, b], out, none)
      if (expressed !== undefined) return expressed
      if (sameShape(a.shape, out.shape) && sameShape(b.shape, out.shape)) return launch(kernel, [a, b], out)
      const { ints, rank } = walk(out.shape, [a, b])
      const key = `${name} ${out.dtype}`
      return launch({ key, kernel: binary, functions: functions(), rank }, [a, b], out, ints)
    },

    where(condition, a, b, out) {
      const kernel = flatKernel(`where ${out.dtype} aligned`, alignedWhere, () => ({
        choose: functionOf('choose', 3, choice),
        ...storeOf(out),
      }))
      const expressed = express(kernel, [condition, a, b], out, none)
      if (expressed !== undefined) return expressed
      const { ints, rank } = walk(out.shape, [condition, a, b])
      return launch({ key: 'where', kernel: where, rank }, [condition, a, b], out, ints)
    },
  } satisfies Partial<BackendKernels>
}

const none: readonly number[] = []

function walk(shape: Shape, operands: readonly { readonly shape: Shape }[]) {
  return offsetArguments(
    shape,
    operands.map(x => broadcastStrides(x.shape, shape)),
  )
}

/** Source of `store`, the conversion to the dtype of a result. i32 is held as f32 without a fraction. */
export function storeOf({ dtype }: Spec): Record<string, string> {
  return { store: functionOf('store', 1, stores[dtype === 'i32' ? 'i32' : 'f32']) }
}

/**
 * Arguments of `offset` for a walk: extents n1 … n5, then for each operand its strides s1 … s6, last axis first. Most
 * walks collapse to one axis. Throws RangeError where more than six remain.
 */
export function offsetArguments(
  shape: Shape,
  strides: readonly (readonly number[])[],
): { ints: number[]; rank: number } {
  const walk = collapseAxes(shape, strides)
  const rank = walk.extents.length
  if (rank > maxRank) throw new RangeError(`gpu: expected at most ${maxRank} axes that do not merge, got ${rank}`)
  const padded = (numbers: readonly number[], count: number, value: number) =>
    Array.from({ length: count }, (_, i) => numbers[rank - 1 - i] ?? value)
  return {
    ints: [...padded(walk.extents, maxRank - 1, 1), ...walk.strides.flatMap(own => padded(own, maxRank, 0))],
    rank,
  }
}

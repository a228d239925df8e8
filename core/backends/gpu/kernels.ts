/**
 * The kernels: flat functions that gpu.js translates, each giving element `this.thread.x` of the result. They see
 * arrays, numbers and `this.constants`, may not close over anything, and call only what is spliced in (`unaryOp`,
 * `binaryOp`, `join`, `store`: see scalars.ts). Arrays are flat, so an index is taken apart by division, and what a
 * shape says comes as an array: one row of numbers per axis, last axis first. Numbers are floats on a device, where
 * 6 / 3 may fall short of 2: half is added before each quotient is floored, which is safe for indices below 2^22.
 * Next: required.ts, which launches them.
 */

/** What a kernel finds in `this`. */
export interface Thread {
  readonly thread: { readonly x: number }
  readonly constants: { readonly rank: number }
}

/** Elements on the device; inside a kernel, an array of numbers. */
export type Handle = Float32Array

declare function unaryOp(x: number, p: number, q: number): number
declare function binaryOp(a: number, b: number): number
declare function join(a: number, b: number): number
declare function store(x: number): number

export function fill(this: Thread, value: number): number {
  return store(value)
}

export function unary(this: Thread, x: Handle, p: number, q: number): number {
  return store(unaryOp(x[this.thread.x], p, q))
}

/** axes: size, stride of a, stride of b. */
export function binary(this: Thread, a: Handle, b: Handle, axes: Handle): number {
  let rest = this.thread.x
  let i = 0
  let j = 0
  for (let axis = 0; axis < this.constants.rank; axis++) {
    const next = Math.floor((rest + 0.5) / axes[axis * 3])
    const at = rest - next * axes[axis * 3]
    i += at * axes[axis * 3 + 1]
    j += at * axes[axis * 3 + 2]
    rest = next
  }
  return store(binaryOp(a[i], b[j]))
}

/** axes: size, strides of condition, a and b. */
export function where(this: Thread, condition: Handle, a: Handle, b: Handle, axes: Handle): number {
  let rest = this.thread.x
  let c = 0
  let i = 0
  let j = 0
  for (let axis = 0; axis < this.constants.rank; axis++) {
    const next = Math.floor((rest + 0.5) / axes[axis * 4])
    const at = rest - next * axes[axis * 4]
    c += at * axes[axis * 4 + 1]
    i += at * axes[axis * 4 + 2]
    j += at * axes[axis * 4 + 3]
    rest = next
  }
  if (condition[c] !== 0) {
    return a[i]
  }
  return b[j]
}

/** x read from `base` on by other strides: permute and slice. axes: size, stride. */
export function strided(this: Thread, x: Handle, base: number, axes: Handle): number {
  let rest = this.thread.x
  let i = base
  for (let axis = 0; axis < this.constants.rank; axis++) {
    const next = Math.floor((rest + 0.5) / axes[axis * 2])
    i += (rest - next * axes[axis * 2]) * axes[axis * 2 + 1]
    rest = next
  }
  return x[i]
}

/** axes: size of the result, places before x, size of x, stride of x. */
export function pad(this: Thread, x: Handle, value: number, axes: Handle): number {
  let rest = this.thread.x
  let i = 0
  let inside = 1
  for (let axis = 0; axis < this.constants.rank; axis++) {
    const next = Math.floor((rest + 0.5) / axes[axis * 4])
    const at = rest - next * axes[axis * 4] - axes[axis * 4 + 1]
    if (at < 0 || at >= axes[axis * 4 + 2]) {
      inside = 0
    }
    i += at * axes[axis * 4 + 3]
    rest = next
  }
  if (inside === 1) {
    return x[i]
  }
  return store(value)
}

/** Rows of `widthA` elements of a, each followed by a row of `widthB` of b. */
export function concat(this: Thread, a: Handle, b: Handle, widthA: number, widthB: number): number {
  const row = Math.floor((this.thread.x + 0.5) / (widthA + widthB))
  const column = this.thread.x - row * (widthA + widthB)
  if (column < widthA) {
    return a[row * widthA + column]
  }
  return b[row * widthB + column - widthA]
}

/**
 * x (outer, length, inner) → (outer, chunks, inner): 64 elements along the middle axis into one. Applied until one is
 * left, it sums in a tree, so that f32 is enough; and its loop has a bound that gpu.js can see.
 */
export function reduceChunks(this: Thread, x: Handle, length: number, inner: number, chunks: number): number {
  const above = Math.floor((this.thread.x + 0.5) / inner)
  const column = this.thread.x - above * inner
  const row = Math.floor((above + 0.5) / chunks)
  const first = (above - row * chunks) * 64
  let total = x[(row * length + first) * inner + column]
  for (let k = 1; k < 64; k++) {
    if (first + k < length) {
      total = join(total, x[(row * length + first + k) * inner + column])
    }
  }
  return total
}

/** starts: where the operands of each product begin. m: M, N, K, then the steps of a along M and K, of b along K and N. */
export function matmul(this: Thread, a: Handle, b: Handle, starts: Handle, m: Handle): number {
  const above = Math.floor((this.thread.x + 0.5) / m[1])
  const column = this.thread.x - above * m[1]
  const product = Math.floor((above + 0.5) / m[0])
  const row = above - product * m[0]
  let i = starts[product * 2] + row * m[3]
  let j = starts[product * 2 + 1] + column * m[6]
  let total = 0
  for (let k = 0; k < m[2]; k++) {
    total += a[i] * b[j]
    i += m[4]
    j += m[5]
  }
  return total
}

/** x (B, R, D), index (B, K) → (B, K, D). */
export function gather(this: Thread, x: Handle, index: Handle, R: number, K: number, D: number): number {
  const k = Math.floor((this.thread.x + 0.5) / D)
  const b = Math.floor((k + 0.5) / K)
  return x[(b * R + index[k]) * D + this.thread.x - k * D]
}

/** index (B, K), source (B, K, D) → (B, R, D): every row of the result looks through all indices. */
export function scatterAdd(this: Thread, index: Handle, source: Handle, R: number, K: number, D: number): number {
  const row = Math.floor((this.thread.x + 0.5) / D)
  const b = Math.floor((row + 0.5) / R)
  let total = 0
  for (let k = 0; k < K; k++) {
    if (index[b * K + k] === row - b * R) {
      total += source[(b * K + k) * D + this.thread.x - row * D]
    }
  }
  return total
}

/** 1 where an index is outside [0, R). */
export function outside(this: Thread, index: Handle, R: number): number {
  if (index[this.thread.x] >= 0 && index[this.thread.x] < R) {
    return 0
  }
  return 1
}

/** w: H, W, kh, kw, vertical and horizontal stride, top, left, H', W'. */
export function unfold(this: Thread, x: Handle, w: Handle): number {
  let rest = this.thread.x
  let next = Math.floor((rest + 0.5) / w[9])
  let column = (rest - next * w[9]) * w[5] - w[7]
  rest = next
  next = Math.floor((rest + 0.5) / w[8])
  let row = (rest - next * w[8]) * w[4] - w[6]
  rest = next
  next = Math.floor((rest + 0.5) / w[3])
  column += rest - next * w[3]
  rest = next
  next = Math.floor((rest + 0.5) / w[2])
  row += rest - next * w[2]
  if (row < 0 || row >= w[0] || column < 0 || column >= w[1]) {
    return 0
  }
  return x[(next * w[0] + row) * w[1] + column]
}

/** The windows that a pixel lies in are those whose position is whole and inside. w as for unfold. */
export function fold(this: Thread, x: Handle, w: Handle): number {
  const above = Math.floor((this.thread.x + 0.5) / w[1])
  const plane = Math.floor((above + 0.5) / w[0])
  const row = above - plane * w[0] + w[6]
  const column = this.thread.x - above * w[1] + w[7]
  let total = 0
  for (let i = 0; i < w[2]; i++) {
    for (let j = 0; j < w[3]; j++) {
      const y = Math.floor((row - i + 0.5) / w[4])
      const z = Math.floor((column - j + 0.5) / w[5])
      if (y * w[4] === row - i && z * w[5] === column - j && y >= 0 && z >= 0 && y < w[8] && z < w[9]) {
        total += x[(((plane * w[2] + i) * w[3] + j) * w[8] + y) * w[9] + z]
      }
    }
  }
  return total
}

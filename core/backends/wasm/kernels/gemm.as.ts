/**
 * Matrix product: out[m, n] = Σ_k a[m, k]·b[k, n] + (bias[n] or the value of out). As in every fast GEMM since Goto, both
 * operands are packed, so that the inner loop reads memory in order. Rows of a are packed into panels of 4, all at once
 * (gemmPack). Columns of b are packed into panels of 8 by the thread that multiplies them next (gemm), so that they stay
 * in its cache. A 4×8 tile of the result stays in registers while k runs through one pass of at most 512 steps; sums of
 * passes are added in order. Packing handles all four transpose cases by two strides, and pads panels with zeros, so only
 * the store of a tile handles edges. The k loop is not unrolled: V8 would spill registers and lose half the speed.
 * Products of at most 8 rows are in few-rows.as.ts; attention.as.ts uses the packed product too.
 */

import { Address, Flag, OptionalAddress } from './arguments.as'
import { VEC, WORD, madd, splat, storeFirst } from './simd.as'
import { packedAlready, thread } from './threads.as'

/** Rows and columns of a tile. */
const ROWS: i32 = 4
const COLS: i32 = 8

/** Steps of k that are packed of one panel before the next: what is read stays in the first-level cache meanwhile. */
const STRIP: i32 = 8

/**
 * Four lines of `length` floats (a line's floats lie `step` bytes apart, lines `next` bytes apart) → length × 4,
 * interleaved, written every `stride` bytes. Lines beyond `count` are zeros. The naive form of what follows, for edges.
 */
function packFour(from: usize, step: usize, next: usize, length: i32, count: i32, to: usize, stride: usize): void {
  if (count <= 0) {
    for (let k = 0; k < length; ++k, to += stride) v128.store(to, f32x4.splat(0))
    return
  }
  // Lines that do not exist are read from line 0 and masked.
  const l0 = from
  const l1 = count > 1 ? from + next : from
  const l2 = count > 2 ? from + 2 * next : from
  const l3 = count > 3 ? from + 3 * next : from
  const mask = i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count))
  let offset: usize = 0
  for (let k = 0; k < length; ++k, to += stride, offset += step) {
    const v = f32x4(load<f32>(l0 + offset), load<f32>(l1 + offset), load<f32>(l2 + offset), load<f32>(l3 + offset))
    v128.store(to, v128.and(v, mask))
  }
}

/** The same for four lines that are all there and lie along k: 4 × 4 floats are transposed in registers. */
@inline
function transposeFour(from: usize, next: usize, to: usize, stride: usize): void {
  const a = v128.load(from)
  const b = v128.load(from + next)
  const c = v128.load(from + 2 * next)
  storeTransposed(a, b, c, v128.load(from + 3 * next), to, stride)
}

/** Writes four lines of four floats interleaved, every `stride` bytes. */
@inline
export function storeTransposed(a: v128, b: v128, c: v128, d: v128, to: usize, stride: usize): void {
  const ab0 = v128.shuffle<f32>(a, b, 0, 4, 1, 5)
  const ab1 = v128.shuffle<f32>(a, b, 2, 6, 3, 7)
  const cd0 = v128.shuffle<f32>(c, d, 0, 4, 1, 5)
  const cd1 = v128.shuffle<f32>(c, d, 2, 6, 3, 7)
  v128.store(to, v128.shuffle<f64>(ab0, cd0, 0, 2))
  v128.store(to + stride, v128.shuffle<f64>(ab0, cd0, 1, 3))
  v128.store(to + 2 * stride, v128.shuffle<f64>(ab1, cd1, 0, 2))
  v128.store(to + 3 * stride, v128.shuffle<f64>(ab1, cd1, 1, 3))
}

/** Rows of a → panels of 4: for each panel, for each k, four floats. */
export function packRows(from: usize, rowStep: usize, kStep: usize, rows: i32, K: i32, to: usize): void {
  const panel = <usize>K * VEC
  const whole = rows & ~3
  if (rowStep == WORD) {
    // Rows lie side by side: each k is copied four floats at a time.
    for (let k = 0; k < K; k += STRIP) {
      const last = min(K - k, STRIP)
      let t = to + <usize>k * VEC
      let f = from + <usize>k * kStep
      for (let m = 0; m < whole; m += ROWS, t += panel, f += VEC) {
        let fk = f
        for (let i: usize = 0; i < <usize>last; ++i, fk += kStep) v128.store(t + i * VEC, v128.load(fk))
      }
    }
  } else if (kStep == WORD) {
    let t = to
    let f = from
    for (let m = 0; m < whole; m += ROWS, t += panel, f += 4 * rowStep) {
      let k = 0
      for (; k + 4 <= K; k += 4) transposeFour(f + (<usize>k << 2), rowStep, t + <usize>k * VEC, VEC)
      packFour(f + (<usize>k << 2), WORD, rowStep, K - k, ROWS, t + <usize>k * VEC, VEC)
    }
  } else {
    for (let m = 0; m < whole; m += ROWS) {
      packFour(from + <usize>m * rowStep, kStep, rowStep, K, ROWS, to + <usize>(m >> 2) * panel, VEC)
    }
  }
  if (whole < rows) {
    packFour(from + <usize>whole * rowStep, kStep, rowStep, K, rows - whole, to + <usize>(whole >> 2) * panel, VEC)
  }
}

/** Columns of b → panels of 8: for each panel, for each k, eight floats. */
export function packColumns(from: usize, columnStep: usize, kStep: usize, columns: i32, K: i32, to: usize): void {
  const panel = <usize>K * (2 * VEC)
  let n = 0
  if (columnStep == WORD) {
    n = columns & ~7
    for (let k = 0; k < K; k += STRIP) {
      const last = min(K - k, STRIP)
      let t = to + <usize>k * (2 * VEC)
      let f = from + <usize>k * kStep
      for (let i = 0; i < n; i += COLS, t += panel, f += 2 * VEC) {
        let fk = f
        let tk = t
        for (let j = 0; j < last; ++j, fk += kStep, tk += 2 * VEC) {
          v128.store(tk, v128.load(fk))
          v128.store(tk, v128.load(fk, VEC), VEC)
        }
      }
    }
  } else if (kStep == WORD) {
    for (; n + 8 <= columns; n += COLS) {
      const t = to + <usize>(n >> 3) * panel
      const f = from + <usize>n * columnStep
      let k = 0
      for (; k + 4 <= K; k += 4) {
        const fk = f + (<usize>k << 2)
        const tk = t + <usize>k * (2 * VEC)
        transposeFour(fk, columnStep, tk, 2 * VEC)
        transposeFour(fk + 4 * columnStep, columnStep, tk + VEC, 2 * VEC)
      }
      packFour(f + (<usize>k << 2), WORD, columnStep, K - k, 4, t + <usize>k * (2 * VEC), 2 * VEC)
      packFour(f + 4 * columnStep + (<usize>k << 2), WORD, columnStep, K - k, 4, t + <usize>k * (2 * VEC) + VEC, 2 * VEC)
    }
  }
  for (; n < columns; n += COLS) {
    const t = to + <usize>(n >> 3) * panel
    const f = from + <usize>n * columnStep
    packFour(f, kStep, columnStep, K, min(columns - n, 4), t, 2 * VEC)
    packFour(f + 4 * columnStep, kStep, columnStep, K, min(columns - n - 4, 4), t + VEC, 2 * VEC)
  }
}

/** Writes one row of a tile: `columns` of its 8 floats. */
@inline
function storeRow(to: usize, left: v128, right: v128, columns: i32): void {
  if (columns >= 4) v128.store(to, left)
  else {
    storeFirst(to, left, columns)
    return
  }
  if (columns >= 8) v128.store(to, right, VEC)
  else if (columns > 4) storeFirst(to + VEC, right, columns - 4)
}

/**
 * One tile: out (rows ≤ 4, columns ≤ 8; its rows `outStep` bytes apart) = panel of a × panel of b, plus the 8 floats
 * at `bias` in every row, or plus what out held. bias = 0: none. What out held is added at the end: to start from it
 * would make all passes one long chain of additions, whose error grows with k.
 */
function tile(
  a: usize, b: usize, K: i32, out: usize, outStep: usize, rows: i32, columns: i32, bias: usize, accumulate: bool,
): void {
  let c00 = f32x4.splat(0)
  let c01 = f32x4.splat(0)
  if (bias != 0) {
    c00 = v128.load(bias)
    c01 = v128.load(bias, VEC)
  }
  let c10 = c00, c11 = c01, c20 = c00, c21 = c01, c30 = c00, c31 = c01
  const end = a + <usize>K * VEC
  while (a < end) {
    const b0 = v128.load(b)
    const b1 = v128.load(b, VEC)
    let s = v128.load32_splat(a)
    c00 = madd(s, b0, c00)
    c01 = madd(s, b1, c01)
    s = v128.load32_splat(a, 4)
    c10 = madd(s, b0, c10)
    c11 = madd(s, b1, c11)
    s = v128.load32_splat(a, 8)
    c20 = madd(s, b0, c20)
    c21 = madd(s, b1, c21)
    s = v128.load32_splat(a, 12)
    c30 = madd(s, b0, c30)
    c31 = madd(s, b1, c31)
    a += VEC
    b += 2 * VEC
  }
  if (accumulate) {
    // Rows that do not exist are read from row 0 and never stored.
    const r1 = rows > 1 ? out + outStep : out
    const r2 = rows > 2 ? out + 2 * outStep : out
    const r3 = rows > 3 ? out + 3 * outStep : out
    c00 = f32x4.add(v128.load(out), c00)
    c01 = f32x4.add(v128.load(out, VEC), c01)
    c10 = f32x4.add(v128.load(r1), c10)
    c11 = f32x4.add(v128.load(r1, VEC), c11)
    c20 = f32x4.add(v128.load(r2), c20)
    c21 = f32x4.add(v128.load(r2, VEC), c21)
    c30 = f32x4.add(v128.load(r3), c30)
    c31 = f32x4.add(v128.load(r3, VEC), c31)
  }
  storeRow(out, c00, c01, columns)
  if (rows > 1) storeRow(out + outStep, c10, c11, columns)
  if (rows > 2) storeRow(out + 2 * outStep, c20, c21, columns)
  if (rows > 3) storeRow(out + 3 * outStep, c30, c31, columns)
}

/**
 * Computes whole tiles, as `tile` does: `tiles` below one another for each panel of b from b to `end`. One function runs
 * through all of them, because a call per tile takes as long as some steps of k: 4 to 10 % of attention, whose k is short.
 * Expects K > 0.
 */
export function wholeTiles(
  a: usize, b: usize, end: usize, tiles: i32, K: i32, out: usize, outStep: usize, bias: usize, accumulate: bool,
): void {
  const length = <usize>K * VEC
  for (; tiles > 0; --tiles, a += length, out += ROWS * outStep) {
    let to = out
    let offset = bias
    for (let bk = b; bk < end; to += 2 * VEC) {
      let c00 = splat(0)
      let c01 = splat(0)
      if (bias != 0) {
        c00 = v128.load(offset)
        c01 = v128.load(offset, VEC)
        offset += 2 * VEC
      }
      let c10 = c00, c11 = c01, c20 = c00, c21 = c01, c30 = c00, c31 = c01
      let ak = a
      for (const last = a + length; ak < last; ak += VEC, bk += 2 * VEC) {
        const b0 = v128.load(bk)
        const b1 = v128.load(bk, VEC)
        let s = v128.load32_splat(ak)
        c00 = madd(s, b0, c00)
        c01 = madd(s, b1, c01)
        s = v128.load32_splat(ak, 4)
        c10 = madd(s, b0, c10)
        c11 = madd(s, b1, c11)
        s = v128.load32_splat(ak, 8)
        c20 = madd(s, b0, c20)
        c21 = madd(s, b1, c21)
        s = v128.load32_splat(ak, 12)
        c30 = madd(s, b0, c30)
        c31 = madd(s, b1, c31)
      }
      const r1 = to + outStep
      const r2 = r1 + outStep
      const r3 = r2 + outStep
      if (accumulate) {
        c00 = f32x4.add(v128.load(to), c00)
        c01 = f32x4.add(v128.load(to, VEC), c01)
        c10 = f32x4.add(v128.load(r1), c10)
        c11 = f32x4.add(v128.load(r1, VEC), c11)
        c20 = f32x4.add(v128.load(r2), c20)
        c21 = f32x4.add(v128.load(r2, VEC), c21)
        c30 = f32x4.add(v128.load(r3), c30)
        c31 = f32x4.add(v128.load(r3, VEC), c31)
      }
      v128.store(to, c00)
      v128.store(to, c01, VEC)
      v128.store(r1, c10)
      v128.store(r1, c11, VEC)
      v128.store(r2, c20)
      v128.store(r2, c21, VEC)
      v128.store(r3, c30)
      v128.store(r3, c31, VEC)
    }
  }
}

/**
 * out (M, N) = packed rows × packed columns; as `tile` says. Two panels of b at a time meet all rows: a panel of a is read
 * from the second-level cache once for both, and a cache line of the result, 16 columns, is written at once.
 */
export function multiplyPacked(
  a: usize, b: usize, M: i32, N: i32, K: i32, out: usize, outStep: usize, bias: usize, accumulate: bool,
): void {
  const panelBytes = <usize>K * (2 * VEC)
  const tiles = K > 0 ? M >> 2 : 0
  for (let n = 0; n < N; n += 2 * COLS) {
    const columns = min(N - n, 2 * COLS)
    const to = out + (<usize>n << 2)
    const columnBias = bias != 0 ? bias + (<usize>n << 2) : 0
    wholeTiles(a, b, b + <usize>(columns >> 3) * panelBytes, tiles, K, to, outStep, columnBias, accumulate)
    // Edges: the last rows of whole panels, and all rows of a panel that is not whole.
    for (let i = 0; i < columns; i += COLS) {
      const width = min(columns - i, COLS)
      const shift = <usize>i << 2
      const panel = b + <usize>(i >> 3) * panelBytes
      for (let m = width == COLS ? tiles * ROWS : 0; m < M; m += ROWS) {
        const below = to + <usize>m * outStep + shift
        const edgeBias = bias != 0 ? columnBias + shift : 0
        tile(a + <usize>m * <usize>K * WORD, panel, K, below, outStep, min(M - m, ROWS), width, edgeBias, accumulate)
      }
    }
    b += 2 * panelBytes
  }
}

@unmanaged class GemmPackArgs {
  /** Matrices (M, K), `matrixStep` bytes apart; a matrix has `rowStep` bytes from row to row, `kStep` from k to k. */
  a: Address
  matrixStep: usize
  rowStep: usize
  kStep: usize
  M: i32
  K: i32
  /** Packed matrices, `packedStep` bytes apart. */
  packed: Address
  packedStep: usize
  /** Rows per chunk, a multiple of 4. */
  rowsPerChunk: i32
  chunksPerMatrix: i32
  /** The sum of each row of a, for a single matrix. */
  sums: OptionalAddress
  /** Adds to the values of sums. */
  accumulate: Flag
}

/** Sums of the 4 rows of each panel: sums (rows) = Σ_k, or plus what they held. Pairwise over eight steps of k. */
function sumPanels(panel: usize, rows: i32, K: i32, sums: usize, accumulate: bool): void {
  for (; rows > 0; rows -= ROWS, sums += VEC) {
    let total = splat(0)
    let k = K
    for (; k >= 8; k -= 8, panel += 8 * VEC) {
      const a = f32x4.add(v128.load(panel), v128.load(panel, VEC))
      const b = f32x4.add(v128.load(panel, 2 * VEC), v128.load(panel, 3 * VEC))
      const c = f32x4.add(v128.load(panel, 4 * VEC), v128.load(panel, 5 * VEC))
      const d = f32x4.add(v128.load(panel, 6 * VEC), v128.load(panel, 7 * VEC))
      total = f32x4.add(total, f32x4.add(f32x4.add(a, b), f32x4.add(c, d)))
    }
    for (; k > 0; --k, panel += VEC) total = f32x4.add(total, v128.load(panel))
    if (accumulate) total = f32x4.add(v128.load(sums), total)
    if (rows >= ROWS) v128.store(sums, total)
    else storeFirst(sums, total, rows)
  }
}

/** Packs rows of all matrices a of a batch, and sums them where that is wanted. */
export function gemmPack(args: GemmPackArgs, chunk: i32): void {
  const M = args.M
  const K = args.K
  const rows = args.rowsPerChunk
  const perMatrix = args.chunksPerMatrix
  const matrix = chunk / perMatrix
  const m = (chunk - matrix * perMatrix) * rows
  const from = args.a + <usize>matrix * args.matrixStep + <usize>m * args.rowStep
  const to = args.packed + <usize>matrix * args.packedStep + <usize>m * <usize>K * WORD
  packRows(from, args.rowStep, args.kStep, min(M - m, rows), K, to)
  // The panels lie in the cache.
  if (args.sums != 0) sumPanels(to, min(M - m, rows), K, args.sums + (<usize>m << 2), args.accumulate != 0)
}

@unmanaged class GemmArgs {
  /** Packed rows of a. */
  packedA: Address
  /** Columns of b are `columnStep` bytes apart, their elements `kStep`. */
  b: Address
  columnStep: usize
  kStep: usize
  out: Address
  bias: OptionalAddress
  M: i32
  N: i32
  K: i32
  rowsPerBlock: i32
  columnsPerBlock: i32
  rowBlocks: i32
  columnBlocks: i32
  /** Packed columns of b, `threadBytes` for each thread. */
  scratch: Address
  threadBytes: usize
  /** Per batch element, the offsets in bytes of its packed a and of its b. */
  offsets: OptionalAddress
  /** Adds the product to the values of out. */
  accumulate: Flag
}

/**
 * Computes one block of the product: packs its columns of b in the thread's own scratch, where they stay in the cache,
 * and multiplies its rows of packed a with them.
 */
export function gemm(args: GemmArgs, chunk: i32): void {
  const M = args.M
  const N = args.N
  const K = args.K
  const perBatch = args.rowBlocks * args.columnBlocks
  const batch = chunk / perBatch
  const block = chunk - batch * perBatch
  const m = (block % args.rowBlocks) * args.rowsPerBlock
  const n = (block / args.rowBlocks) * args.columnsPerBlock
  let a = args.packedA
  let b = args.b
  const offsets = args.offsets
  if (offsets != 0) {
    a += load<u32>(offsets + (batch << 3))
    b += load<u32>(offsets + (batch << 3), 4)
  }
  const columns = min(N - n, args.columnsPerBlock)
  const packed = args.scratch + <usize>thread * args.threadBytes
  const from = b + <usize>n * args.columnStep
  if (!packedAlready(from)) packColumns(from, args.columnStep, args.kStep, columns, K, packed)
  const outStep = <usize>N << 2
  const out = args.out + (<usize>batch * M + m) * outStep + (<usize>n << 2)
  const bias = args.bias
  multiplyPacked(
    a + <usize>m * <usize>K * WORD, packed, min(M - m, args.rowsPerBlock), columns, K, out, outStep,
    bias != 0 ? bias + (<usize>n << 2) : 0, args.accumulate != 0,
  )
}

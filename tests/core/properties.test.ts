/**
 * Laws that hold for every shape, on random ones: size-1 and size-0 axes, ranks 0 to 4. Each op is compared with a naive
 * reference that computes one element at a time from its index. Values are small integers, which f32 adds exactly, so
 * every backend must agree to the last bit; and nothing may be left on it. (The gpu backend cannot read at once, so it is
 * left to the registry walk.)
 */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createWasm } from '../../core/backends/wasm/index.ts'
import {
  add,
  attention,
  type Backend,
  broadcastTo,
  concat,
  conv2d,
  cpu,
  type DType,
  equal,
  fold,
  gatherRows,
  gradients,
  less,
  logSoftmax,
  matmul,
  max,
  maximum,
  min,
  mul,
  pad,
  permute,
  rng,
  type Shape,
  ShapeError,
  scatterAdd,
  scatterRows,
  selfAttention,
  slice,
  softmax,
  split,
  stack,
  sub,
  sum,
  sumTo,
  type Tensor,
  tensor,
  transpose,
  unfold,
  where,
} from '../../core/index.ts'
import { broadcastShapes, sizeOf } from '../../core/shape.ts'
import { close, normal, tensor64, values } from '../near.ts'
import { at, broadcastAt, type Grid, grid, leavesNothing } from './helpers.ts'

interface Place {
  readonly backend: Backend
  readonly dtype: DType
}

fc.configureGlobal({ includeErrorInReport: true })

const places: Record<string, Place> = {
  'cpu f64': { backend: cpu, dtype: 'f64' },
  'wasm f32': { backend: await createWasm({ threads: 1 }), dtype: 'f32' },
}

// ---- what is drawn --------------------------------------------------------------------------------------------------

const size = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 1, max: 5 }) },
  { weight: 1, arbitrary: fc.constantFrom(0, 9, 17) },
)
const shapeOf = (minLength: number, maxLength: number) => fc.array(size, { minLength, maxLength })
const shapes = shapeOf(0, 4)
const seeds = fc.nat(1e6)
const integers = (shape: Shape, seed: number): Grid => ({
  shape,
  data: Array.from(rng(seed).integersArray(-4, 5, sizeOf(shape))),
})

/** A shape that broadcasts to `full`: some axes 1, some leading ones left out. */
const broadcastable = (full: Shape) =>
  fc
    .tuple(fc.array(fc.boolean(), { minLength: full.length, maxLength: full.length }), fc.nat(full.length))
    .map(([ones, dropped]) => full.map((n, i) => (ones[i] ? 1 : n)).slice(dropped))

const shapeWithAxis = shapeOf(1, 4).chain(shape => fc.tuple(fc.constant(shape), fc.nat(shape.length - 1)))

const inner = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((total, x, i) => total + x * b[i], 0)

/** One test per backend: `make` turns an array into a tensor there. */
function everywhere<T>(
  name: string,
  drawn: fc.Arbitrary<T>,
  check: (make: (x: Grid) => Tensor, drawn: T, place: Place) => void,
): void {
  for (const [where, place] of Object.entries(places))
    test(`${name} on ${where}`, () => {
      const { backend, dtype } = place
      const make = (x: Grid) => tensor(Float64Array.from(x.data), { shape: x.shape, dtype, backend })
      const property = fc.property(drawn, d => leavesNothing(() => check(make, d, place), backend))
      fc.assert(property)
    })
}

function same(got: Tensor, wanted: Grid): void {
  assert.equal([...got.shape], [...wanted.shape])
  const data = got.dataSync()
  for (let i = 0; i < data.length; i++)
    if (data[i] !== wanted.data[i]) assert.unreachable(`element ${i}: expected ${wanted.data[i]}, got ${data[i]}`)
}

// ---- broadcasting ---------------------------------------------------------------------------------------------------

test('broadcastShapes is NumPy’s rule, commutative and associative', () => {
  const rule = (a: Shape, b: Shape): Shape | null => {
    const rank = Math.max(a.length, b.length)
    const padded = (s: Shape) => [...Array<number>(rank - s.length).fill(1), ...s]
    const pairs = padded(a).map((m, i) => [m, padded(b)[i]])
    if (pairs.some(([m, n]) => m !== n && m !== 1 && n !== 1)) return null
    return pairs.map(([m, n]) => (m === 1 ? n : m))
  }
  const attempt = (f: () => Shape) => {
    try {
      return [...f()]
    } catch (error) {
      assert.instance(error, ShapeError)
      return null
    }
  }
  const both = (a: Shape, b: Shape) => broadcastShapes('both', a, b)
  fc.assert(
    fc.property(shapes, shapes, shapes, (a, b, c) => {
      assert.equal(
        attempt(() => both(a, b)),
        rule(a, b),
      )
      assert.equal(
        attempt(() => both(a, b)),
        attempt(() => both(b, a)),
      )
      const [left, right] = [attempt(() => both(both(a, b), c)), attempt(() => both(a, both(b, c)))]
      assert.equal(left, right)
    }),
    { numRuns: 500 },
  )
})

const pairs = shapes.chain(full => fc.tuple(broadcastable(full), broadcastable(full), seeds))

everywhere('two operands broadcast as the naive rule says', pairs, (make, [sa, sb, seed]) => {
  const [a, b] = [integers(sa, seed), integers(sb, seed + 1)]
  const out = broadcastShapes('naive', sa, sb)
  const naive = (f: (x: number, y: number) => number) =>
    grid(out, index => f(broadcastAt(a, index), broadcastAt(b, index)))
  const [x, y] = [make(a), make(b)]
  same(
    add(x, y),
    naive((p, q) => p + q),
  )
  same(
    sub(x, y),
    naive((p, q) => p - q),
  )
  same(
    mul(x, y),
    naive((p, q) => p * q),
  )
  same(maximum(x, y), naive(Math.max))
  same(
    less(x, y),
    naive((p, q) => (p < q ? 1 : 0)),
  )
  same(
    equal(x, y),
    naive((p, q) => (p === q ? 1 : 0)),
  )
})

const triples = shapes.chain(full => fc.tuple(broadcastable(full), broadcastable(full), broadcastable(full), seeds))

everywhere('where broadcasts all three operands', triples, (make, [sc, sa, sb, seed]) => {
  const [c, a, b] = [sc, sa, sb].map((shape, i) => integers(shape, seed + i))
  const out = broadcastShapes('naive', broadcastShapes('naive', sc, sa), sb)
  const chosen = grid(out, index => broadcastAt(broadcastAt(c, index) !== 0 ? a : b, index))
  same(where(make(c), make(a), make(b)), chosen)
})

const growth = shapes.chain(full => fc.tuple(fc.constant(full), broadcastable(full), seeds))

everywhere('sumTo is the adjoint of broadcastTo', growth, (make, [full, small, seed]) => {
  const [x, y] = [integers(small, seed), integers(full, seed + 1)]
  const wide = broadcastTo(make(x), full)
  const narrow = sumTo(make(y), small)
  same(
    wide,
    grid(full, index => broadcastAt(x, index)),
  )
  assert.equal([...narrow.shape], small)
  assert.is(inner(wide.dataSync(), y.data), inner(x.data, narrow.dataSync()))
})

everywhere('a gradient has the shape of its operand, whatever was broadcast', pairs, (make, [sa, sb, seed]) => {
  const [a, b] = [integers(sa, seed), integers(sb, seed + 1)]
  const [x, y] = [make(a).requireGrad(), make(b).requireGrad()]
  const product = mul(x, y)
  const g = integers(product.shape, seed + 2)
  const [gx, gy] = gradients(product, [x, y], { cotangent: make(g) })
  // ⟨g, a ⊙ b⟩ is linear in each operand, so it equals ⟨∂/∂a, a⟩ and ⟨∂/∂b, b⟩.
  assert.equal([...gx.shape], sa)
  assert.equal([...gy.shape], sb)
  const value = inner(g.data, product.dataSync())
  assert.is(inner(gx.dataSync(), a.data), value)
  assert.is(inner(gy.dataSync(), b.data), value)
})

// ---- movement -------------------------------------------------------------------------------------------------------

const permutations = shapes.chain(shape =>
  fc.tuple(
    fc.constant(shape),
    fc.shuffledSubarray([...shape.keys()], { minLength: shape.length, maxLength: shape.length }),
    seeds,
  ),
)

everywhere('permute moves axes, and its inverse undoes it', permutations, (make, [shape, order, seed]) => {
  const x = integers(shape, seed)
  const y = permute(make(x), order)
  const moved = order.map(axis => shape[axis])
  const back = order.map((_, axis) => order.indexOf(axis))
  same(
    y,
    grid(moved, index =>
      at(
        x,
        back.map(i => index[i]),
      ),
    ),
  )
  same(permute(y, back), x)
  if (shape.length >= 2) same(transpose(transpose(make(x))), x)
})

const cuts = fc.tuple(
  shapeWithAxis,
  fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 4 }),
  fc.boolean(),
  seeds,
)

everywhere(
  'slices of a concatenation are what was concatenated',
  cuts,
  (make, [[shape, axis], sizes, fromEnd, seed]) => {
    const parts = sizes.map((n, i) => integers(shape.with(axis, n), seed + i))
    const whole = concat(parts.map(make), fromEnd ? axis - shape.length : axis)
    assert.equal(
      [...whole.shape],
      shape.with(
        axis,
        sizes.reduce((a, b) => a + b),
      ),
    )
    let start = 0
    for (const part of parts) {
      same(slice(whole, axis, start, start + part.shape[axis]), part)
      start += part.shape[axis]
    }
  },
)

everywhere(
  'split is undone by concat, stack by slices',
  fc.tuple(shapeWithAxis, fc.integer({ min: 1, max: 4 }), seeds),
  (make, [[shape, axis], parts, seed]) => {
    const x = integers(shape.with(axis, shape[axis] * parts), seed)
    const pieces = split(make(x), parts, axis)
    assert.is(pieces.length, parts)
    same(concat(pieces, axis), x)
    const stacked = stack(pieces, axis)
    assert.equal([...stacked.shape], shape.toSpliced(axis, 0, parts))
    pieces.forEach((piece, i) => {
      same(slice(stacked, axis, i, i + 1), { shape: shape.toSpliced(axis, 0, 1), data: values(piece) })
    })
  },
)

const margins = shapes.chain(shape => {
  const margin = fc.array(fc.nat(3), { minLength: shape.length, maxLength: shape.length })
  return fc.tuple(fc.constant(shape), margin, margin, seeds)
})

everywhere('pad surrounds, slices take the middle out again', margins, (make, [shape, before, after, seed]) => {
  const x = integers(shape, seed)
  const box = shape.map((n, i) => before[i] + n + after[i])
  const padded = pad(make(x), before, box, 7)
  same(
    padded,
    grid(box, index => {
      const own = index.map((i, axis) => i - before[axis])
      return own.every((i, axis) => i >= 0 && i < shape[axis]) ? at(x, own) : 7
    }),
  )
  same(
    shape.reduce((y, n, axis) => slice(y, axis, before[axis], before[axis] + n), padded),
    x,
  )
})

// ---- gatherRows, scatterRows, windows ---------------------------------------------------------------------------------------

const rowsAndPicks = fc.record({
  B: fc.integer({ min: 1, max: 3 }),
  R: fc.integer({ min: 1, max: 9 }),
  K: fc.nat(7),
  D: fc.integer({ min: 0, max: 5 }),
  seed: seeds,
})

everywhere(
  'gatherRows picks rows, and scatterAdd is its adjoint',
  rowsAndPicks,
  (make, { B, R, K, D, seed }, { backend }) => {
    const [x, y] = [integers([B, R, D], seed), integers([B, K, D], seed + 1)]
    const ids = rng(seed + 2).integersArray(0, R, B * K)
    const index = tensor(ids, { shape: [B, K], dtype: 'i32', backend })
    const picked = gatherRows(make(x), index)
    same(
      picked,
      grid([B, K, D], ([b, k, d]) => at(x, [b, ids[b * K + k], d])),
    )
    const spread = scatterAdd(index, make(y), R)
    assert.equal([...spread.shape], [B, R, D])
    assert.is(inner(picked.dataSync(), y.data), inner(x.data, spread.dataSync()))
  },
)

everywhere(
  'scatterRows replaces the rows it names and no other',
  rowsAndPicks,
  (make, { B, R, K, D, seed }, { backend }) => {
    const n = Math.min(K, R)
    const orders = Array.from({ length: B }, (_, b) =>
      rng(seed + b)
        .permutationArray(R)
        .slice(0, n),
    )
    const index = tensor(Int32Array.from(orders.flatMap(order => [...order])), { shape: [B, n], dtype: 'i32', backend })
    const [x, source] = [integers([B, R, D], seed), integers([B, n, D], seed + 1)]
    same(
      scatterRows(make(x), index, make(source)),
      grid([B, R, D], ([b, r, d]) => {
        const k = orders[b].indexOf(r)
        return k < 0 ? at(x, [b, r, d]) : at(source, [b, k, d])
      }),
    )
  },
)

const images = fc
  .record({
    N: fc.integer({ min: 1, max: 2 }),
    C: fc.integer({ min: 1, max: 3 }),
    H: fc.integer({ min: 1, max: 6 }),
    W: fc.integer({ min: 1, max: 6 }),
    kernel: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
    stride: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
    padding: fc.tuple(fc.nat(2), fc.nat(2), fc.nat(2), fc.nat(2)),
    seed: seeds,
  })
  .filter(({ H, W, kernel: [kh, kw], padding: [t, b, l, r] }) => H + t + b >= kh && W + l + r >= kw)

everywhere('unfold lays out windows, and fold is its adjoint', images, (make, drawn) => {
  const { N, C, H, W, kernel, stride, padding, seed } = drawn
  const [kh, kw] = kernel
  const rows = Math.floor((H + padding[0] + padding[1] - kh) / stride[0]) + 1
  const columns = Math.floor((W + padding[2] + padding[3] - kw) / stride[1]) + 1
  const window = { kernel, stride, padding }
  const x = integers([N, C, H, W], seed)
  const patches = grid([N, C * kh * kw, rows * columns], ([n, tap, position]) => {
    const [c, i, j] = [Math.floor(tap / (kh * kw)), Math.floor(tap / kw) % kh, tap % kw]
    const row = Math.floor(position / columns) * stride[0] + i - padding[0]
    const column = (position % columns) * stride[1] + j - padding[2]
    return row >= 0 && row < H && column >= 0 && column < W ? at(x, [n, c, row, column]) : 0
  })
  const y = integers(patches.shape, seed + 1)
  same(unfold(make(x), window), patches)
  const image = fold(make(y), window, x.shape)
  assert.is(inner(patches.data, y.data), inner(x.data, image.dataSync()))
})

everywhere('conv2d is the sum over channels and taps that defines it', images, (make, drawn) => {
  const { N, C, H, W, kernel, stride, padding, seed } = drawn
  const [kh, kw] = kernel
  const O = 2
  const [x, w, b] = [integers([N, C, H, W], seed), integers([O, C, kh, kw], seed + 1), integers([O], seed + 2)]
  const rows = Math.floor((H + padding[0] + padding[1] - kh) / stride[0]) + 1
  const columns = Math.floor((W + padding[2] + padding[3] - kw) / stride[1]) + 1
  const wanted = grid([N, O, rows, columns], ([n, o, row, column]) => {
    let total = b.data[o]
    for (let c = 0; c < C; c++)
      for (let i = 0; i < kh; i++)
        for (let j = 0; j < kw; j++) {
          const [p, q] = [row * stride[0] + i - padding[0], column * stride[1] + j - padding[2]]
          if (p >= 0 && p < H && q >= 0 && q < W) total += at(w, [o, c, i, j]) * at(x, [n, c, p, q])
        }
    return total
  })
  same(conv2d(make(x), make(w), make(b), { stride, padding }), wanted)
})

// ---- reductions and products ----------------------------------------------------------------------------------------

const reductions = shapes.chain(shape =>
  fc.tuple(fc.constant(shape), fc.subarray([...shape.keys()]), fc.boolean(), seeds),
)

everywhere('sum, max and min over any axes', reductions, (make, [shape, axes, keepDims, seed]) => {
  const x = integers(shape, seed)
  const kept = shape.map((n, i) => (axes.includes(i) ? 1 : n))
  const out = keepDims ? kept : shape.filter((_, i) => !axes.includes(i))
  const naive = (start: number, f: (a: number, b: number) => number): Grid => {
    const slots = grid(kept, () => start).data as number[]
    grid(shape, index => {
      const slot = index.reduce((flat, i, axis) => flat * kept[axis] + (axes.includes(axis) ? 0 : i), 0)
      slots[slot] = f(slots[slot], at(x, index))
      return 0
    })
    return { shape: out, data: slots }
  }
  same(
    sum(make(x), axes, keepDims),
    naive(0, (a, b) => a + b),
  )
  same(max(make(x), axes, keepDims), naive(-Infinity, Math.max))
  same(min(make(x), axes, keepDims), naive(Infinity, Math.min))
})

const products = shapeOf(0, 2).chain(batch =>
  fc.record({
    batchA: broadcastable(batch),
    batchB: broadcastable(batch),
    M: size,
    K: size,
    N: size,
    transposeA: fc.boolean(),
    transposeB: fc.boolean(),
    seed: seeds,
  }),
)

everywhere('matmul over any batch, with either operand transposed', products, (make, drawn) => {
  const { batchA, batchB, M, K, N, transposeA, transposeB, seed } = drawn
  const a = integers([...batchA, ...(transposeA ? [K, M] : [M, K])], seed)
  const b = integers([...batchB, ...(transposeB ? [N, K] : [K, N])], seed + 1)
  const batch = broadcastShapes('naive', batchA, batchB)
  const element = (x: Grid, index: readonly number[], i: number, j: number, transposed: boolean) => {
    const own = index.slice(batch.length - (x.shape.length - 2), batch.length)
    const lead = own.map((n, axis) => (x.shape[axis] === 1 ? 0 : n))
    return at(x, [...lead, ...(transposed ? [j, i] : [i, j])])
  }
  const wanted = grid([...batch, M, N], index => {
    const [i, j] = index.slice(-2)
    let total = 0
    for (let k = 0; k < K; k++) total += element(a, index, i, k, transposeA) * element(b, index, k, j, transposeB)
    return total
  })
  same(matmul(make(a), make(b), { transposeA, transposeB }), wanted)
})

// ---- softmax and attention ------------------------------------------------------------------------------------------

test('softmax sums to 1 along its axis, ignores a shift, and is exp(logSoftmax)', () => {
  const drawn = fc.tuple(
    shapeWithAxis.filter(([shape, axis]) => shape[axis] > 0),
    seeds,
  )
  fc.assert(
    fc.property(drawn, ([[shape, axis], seed]) =>
      leavesNothing(() => {
        const x = normal(seed, ...shape)
        const y = softmax(x, axis)
        const total = sum(y, axis)
        close(values(total), new Array(total.size).fill(1), 1e-14)
        close(values(softmax(add(x, 1e3), axis)), values(y), 1e-12)
        close(values(logSoftmax(x, axis)), values(y).map(Math.log), 1e-12)
      }),
    ),
  )
})

test('selfAttention is attention on the thirds of qkv, head by head', () => {
  const drawn = fc.record({
    N: fc.integer({ min: 1, max: 3 }),
    T: fc.integer({ min: 0, max: 6 }),
    heads: fc.integer({ min: 1, max: 3 }),
    d: fc.integer({ min: 1, max: 4 }),
    bias: fc.constantFrom('none', 'shared', 'own'),
    seed: seeds,
  })
  fc.assert(
    fc.property(drawn, ({ N, T, heads, d, bias, seed }) =>
      leavesNothing(() => {
        const qkv = normal(seed, N, T, 3 * heads * d)
        const lead = bias === 'own' ? [N] : []
        const b = bias === 'none' ? null : normal(seed + 1, ...lead, heads, T, T)
        const y = selfAttention(qkv, b, heads)
        assert.equal([...y.shape], [N, T, heads * d])
        for (let n = 0; n < N; n++)
          for (let h = 0; h < heads; h++) {
            const columns = (third: number) =>
              slice(slice(qkv, 0, n, n + 1), 2, (third * heads + h) * d, (third * heads + h + 1) * d) // (1, T, d)
            const own = b && (bias === 'own' ? slice(slice(b, 0, n, n + 1), 1, h, h + 1) : slice(b, 0, h, h + 1))
            const one = attention(columns(0), columns(1), columns(2), own && tensor64(own.dataSync(), [1, T, T]))
            const got = slice(slice(y, 0, n, n + 1), 2, h * d, (h + 1) * d)
            close(values(got), values(one), 1e-12)
          }
      }),
    ),
    { numRuns: 50 },
  )
})

test.run()

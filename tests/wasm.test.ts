/**
 * The wasm backend by itself: every kernel against the cpu loops in f64, on odd sizes, axes of extent 1, unaligned tails
 * and reduced axes longer than 1,000; both builds; one thread against two, byte for byte; and the allocator, with random
 * sequences of calls. What ops make of the kernels is tested by the walk over the registry.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { BinaryName, FusedKernels, Kernels, Operand, Storage, UnaryName } from '../core/backend.ts'
import { cpu } from '../core/backends/cpu/backend.ts'
import { createWasm, type WasmBackend } from '../core/backends/wasm/index.ts'
import { Allocator } from '../core/backends/wasm/memory.ts'
import { rng } from '../core/random.ts'
import { type Shape, show, sizeOf } from '../core/shape.ts'

const relaxed = await createWasm({ threads: 1, build: 'relaxed' })
const plain = await createWasm({ threads: 1, build: 'simd' })
const threaded = await createWasm({ threads: 2, build: 'relaxed' })
const backends = [relaxed, plain, threaded]

type AllKernels = Kernels & FusedKernels

/** The same values on cpu in f64 and, rounded to f32 before, on every wasm backend. */
interface Input {
  readonly shape: Shape
  readonly on: ReadonlyMap<unknown, Operand>
}

const random = rng(7)

function input(values: Float32Array | Int32Array, shape: Shape): Input {
  const dtype = values instanceof Int32Array ? 'i32' : 'f32'
  const on = new Map<unknown, Operand>()
  for (const backend of backends) {
    const storage = backend.alloc(dtype, values.length)
    backend.write(storage, values)
    on.set(backend, { shape, dtype, storage })
  }
  const exact = dtype === 'i32' ? 'i32' : 'f64'
  const storage = cpu.alloc(exact, values.length)
  cpu.write(storage, dtype === 'i32' ? values : Float64Array.from(values))
  on.set(cpu, { shape, dtype: exact, storage })
  return { shape, on }
}

/** Uniform in [low, high). */
function floats(shape: Shape, low = -2, high = 2): Input {
  return input(
    random.uniformArray(sizeOf(shape)).map(u => low + (high - low) * u),
    shape,
  )
}

/** Whole numbers in [low, high). */
function ints(shape: Shape, low: number, high: number): Input {
  return input(random.integersArray(low, high, sizeOf(shape)), shape)
}

/**
 * Runs a kernel on cpu in f64 and on every wasm backend and compares: |got − wanted| ≤ tolerance·(floor + |wanted|).
 * One and two threads must agree in every bit, no fallback may have run, and no bytes may be left.
 */
function check(
  label: string,
  inputs: readonly (Input | null)[],
  run: (k: AllKernels, x: Operand[], dtype: 'f32' | 'f64') => Storage | Storage[],
  { tolerance = 1e-6, floor = 1 } = {},
): void {
  const results = (backend: typeof cpu | WasmBackend): number[][] => {
    const before = backend.stats()
    const operands = inputs.map(x => (x === null ? null : x.on.get(backend)!)) as Operand[]
    const made = [run(backend.kernels as AllKernels, operands, backend === cpu ? 'f64' : 'f32')].flat()
    const values = made.map(storage => [...backend.readSync!(storage)])
    for (const storage of made) backend.free(storage)
    assert.is(backend.stats().bytes, before.bytes, `${label}: bytes on ${backend.name}`)
    assert.is(backend.stats().fallbacks, before.fallbacks, `${label}: fallbacks`)
    return values
  }
  const wanted = results(cpu)
  const all = backends.map(results)
  for (const [b, got] of all.entries()) {
    assert.is(got.length, wanted.length, `${label}: number of results`)
    got.forEach((values, r) => {
      assert.is(values.length, wanted[r].length, `${label}: length of result ${r}`)
      values.forEach((value, i) => {
        const target = wanted[r][i]
        const fits =
          Object.is(value, target) ||
          value === target ||
          Math.abs(value - target) <= tolerance * (floor + Math.abs(target))
        if (!fits)
          assert.unreachable(
            `${label} on ${backends[b].build}×${backends[b].threads}, result ${r}[${i}]: wanted ${target}, got ${value}`,
          )
      })
    })
  }
  assert.equal(all[2], all[0], `${label}: two threads differ from one`)
  for (const x of inputs) for (const operand of x?.on.values() ?? []) operand.storage.backend.free(operand.storage)
}

const f64 = (shape: Shape, dtype: 'f32' | 'f64') => ({ shape, dtype })

test('unary', () => {
  const positive = new Set<UnaryName>(['sqrt', 'rsqrt', 'log', 'reciprocal', 'pow'])
  const names: UnaryName[] = [
    'neg',
    'abs',
    'sign',
    'floor',
    'square',
    'sqrt',
    'rsqrt',
    'reciprocal',
    'exp',
    'log',
    'sin',
    'cos',
    'tanh',
    'erf',
    'sigmoid',
    'softplus',
    'relu',
    'silu',
    'gelu',
    'geluTanh',
    'affine',
    'pow',
    'clamp',
    'isFinite',
  ]
  for (const name of names) {
    for (const shape of [[], [3, 1, 5], [1031], [5, 8000]]) {
      const x = positive.has(name) ? floats(shape, 1e-3, 20) : floats(shape, -12, 12)
      check(`${name} ${show(shape)}`, [x], (k, [a], dtype) => k.unary(name, a, f64(shape, dtype), 0.5, 1.5))
    }
  }
})

test('unary at the edges of f32', () => {
  const values = [
    0,
    -0,
    1e-40,
    -1e-40,
    1e-20,
    1e20,
    -1e20,
    88.7,
    -87.4,
    -103,
    200,
    -200,
    Infinity,
    -Infinity,
    NaN,
    1e5,
    -1e5,
  ]
  const x = () => input(Float32Array.from(values), [values.length])
  const names: UnaryName[] = ['exp', 'log', 'tanh', 'erf', 'sigmoid', 'softplus', 'sqrt', 'isFinite', 'sign', 'relu']
  for (const name of names) {
    check(
      `${name} at the edges`,
      [x()],
      (k, [a], dtype) => {
        const y = k.unary(name, a, f64(a.shape, dtype))
        if (dtype === 'f32') return y
        // What f32 makes of the exact value: beyond its range infinity, below it zero.
        const rounded = k.unary('affine', a, f64(a.shape, dtype), 0, 0)
        cpu.write(rounded, Float64Array.from(Float32Array.from(cpu.readSync!(y))))
        cpu.free(y)
        return rounded
      },
      { floor: 1e-32 },
    )
  }
})

test('sin and cos of large arguments', () => {
  for (const name of ['sin', 'cos'] as const)
    check(name, [floats([1031], -1e5, 1e5)], (k, [a], dtype) => k.unary(name, a, f64(a.shape, dtype)))
})

test('binary, broadcast', () => {
  const names: BinaryName[] = ['add', 'sub', 'mul', 'div', 'pow', 'maximum', 'minimum', 'equal', 'less', 'lessEqual']
  const cases: [Shape, Shape, Shape][] = [
    [
      [3, 1, 5],
      [3, 7, 5],
      [3, 7, 5],
    ],
    [[2, 3], [3], [2, 3]],
    [[1031], [1], [1031]],
    [[1], [2, 1, 3], [2, 1, 3]],
    [
      [4, 1, 3, 1, 5],
      [2, 1, 7, 1],
      [4, 2, 3, 7, 5],
    ],
    [
      [3, 40000],
      [3, 1],
      [3, 40000],
    ],
    [
      [5, 1],
      [1, 6],
      [5, 6],
    ],
    [[], [], []],
    [[0, 3], [3], [0, 3]],
  ]
  for (const name of names)
    for (const [a, b, out] of cases) {
      const x = name === 'pow' || name === 'div' ? [floats(a, 0.5, 3), floats(b, 0.5, 3)] : [floats(a), floats(b)]
      check(`${name} ${show(a)} ${show(b)}`, x, (k, [p, q], dtype) => k.binary(name, p, q, f64(out, dtype)))
    }
  for (const name of ['siluGrad', 'geluGrad', 'geluTanhGrad'] as const)
    check(name, [floats([5, 8001]), floats([5, 8001], -9, 9)], (k, [p, q], dtype) =>
      k.binary(name, p, q, f64(p.shape, dtype)),
    )
})

test('i32 arithmetic, comparisons and movement run in wasm', () => {
  for (const name of ['add', 'sub', 'mul', 'maximum', 'minimum', 'equal', 'less', 'lessEqual'] as const)
    check(`${name} i32`, [ints([3, 7, 5], -9, 9), ints([7, 1], -9, 9)], (k, [a, b]) =>
      k.binary(name, a, b, { shape: [3, 7, 5], dtype: 'i32' }),
    )
  check('affine i32', [ints([37], -9, 9)], (k, [a]) => k.unary('affine', a, a, 3, -2))
  check('permute i32', [ints([3, 7, 5], -9, 9)], (k, [a]) =>
    k.permute(a, [2, 0, 1], { shape: [5, 3, 7], dtype: 'i32' }),
  )
  check('gather i32', [ints([2, 7, 5], -9, 9), ints([2, 4], 0, 7)], (k, [a, i]) =>
    k.gather(a, i, { shape: [2, 4, 5], dtype: 'i32' }),
  )
  check('fill i32', [], k => k.fill(-7, { shape: [37], dtype: 'i32' }))
})

test('fill, where, cast, copy', () => {
  check('fill', [], (k, _, dtype) => k.fill(0.5, { shape: [3, 1031], dtype }))
  const c = () => ints([3, 1, 5], 0, 2)
  check('where', [c(), floats([3, 7, 5]), floats([5])], (k, [i, a, b], dtype) =>
    k.where(i, a, b, f64([3, 7, 5], dtype)),
  )
  check('where, scalar', [floats([40000], 0, 2), floats([1]), floats([40000])], (k, [i, a, b], dtype) =>
    k.where(i, a, b, f64([40000], dtype)),
  )
  check('cast to i32', [floats([1031], -99, 99)], (k, [a]) => k.cast(a, { shape: a.shape, dtype: 'i32' }))
  check('cast from i32', [ints([1031], -99, 99)], (k, [a], dtype) => k.cast(a, f64(a.shape, dtype)))
  check('copy', [floats([41, 1031])], (k, [a]) => k.copy(a))
})

test('permute', () => {
  const orders = [
    [0, 1, 2, 3],
    [0, 2, 1, 3],
    [3, 2, 1, 0],
    [0, 1, 3, 2],
    [2, 3, 0, 1],
    [1, 0, 3, 2],
    [0, 3, 1, 2],
    [3, 0, 1, 2],
  ]
  for (const shape of [
    [2, 3, 50, 67],
    [3, 1, 4, 1],
    [1, 5, 1, 64],
  ])
    for (const order of orders)
      check(`permute ${show(shape)} by ${show(order)}`, [floats(shape)], (k, [a], dtype) =>
        k.permute(
          a,
          order,
          f64(
            order.map(i => shape[i]),
            dtype,
          ),
        ),
      )
})

test('slice, pad, concat', () => {
  const shape = [2, 3, 50, 67]
  const boxes: [number[], Shape][] = [
    [
      [0, 1, 2, 3],
      [2, 2, 11, 40],
    ],
    [
      [1, 0, 0, 0],
      [1, 3, 50, 67],
    ],
    [
      [0, 0, 0, 66],
      [2, 3, 50, 1],
    ],
    [
      [0, 0, 20, 0],
      [2, 3, 10, 67],
    ],
    [
      [0, 0, 5, 5],
      [2, 3, 0, 4],
    ],
  ]
  for (const [starts, out] of boxes)
    check(`slice ${show(starts)} ${show(out)}`, [floats(shape)], (k, [a], dtype) => k.slice(a, starts, f64(out, dtype)))
  check('pad', [floats([2, 3, 5, 7])], (k, [a], dtype) => k.pad(a, [1, 0, 2, 3], 1.5, f64([3, 3, 9, 11], dtype)))
  for (const axis of [0, 1, 2]) {
    const parts = [2, 1, 5].map(n => [4, 3, 67].with(axis, n))
    const out = [4, 3, 67].with(axis, 8)
    check(
      `concat along ${axis}`,
      parts.map(s => floats(s)),
      (k, xs, dtype) => k.concat(xs, axis, f64(out, dtype)),
    )
  }
})

test('reduce', () => {
  const cases: [Shape, number[]][] = [
    [[3, 1031], [1]],
    [[1031, 3], [0]],
    [[5, 1031, 7], [1]],
    [
      [3, 5, 7],
      [0, 2],
    ],
    [
      [3, 5, 7],
      [0, 1, 2],
    ],
    [
      [2, 3, 4, 5, 6],
      [1, 3],
    ],
    [[100003], [0]],
    [[7, 1], [1]],
    [
      [1, 1],
      [0, 1],
    ],
    [[], []],
    [[3, 5], []],
    [[300, 390], [0]],
    [[2, 0, 3], [1]],
    [
      [4, 2000, 9],
      [0, 1],
    ],
  ]
  for (const name of ['sum', 'max', 'min'] as const)
    for (const [shape, axes] of cases) {
      const out = shape.filter((_, i) => !axes.includes(i))
      check(
        `${name} of ${show(shape)} over ${show(axes)}`,
        [floats(shape)],
        (k, [a], dtype) => k.reduce(name, a, axes, f64(out, dtype)),
        { tolerance: 1e-5 },
      )
    }
})

test('matmul and linear', () => {
  const cases: [Shape, Shape, Shape, number, number, number][] = [
    [[], [], [], 1, 1, 1],
    [[], [], [], 5, 7, 3],
    [[], [], [], 130, 65, 1031],
    [[3], [3], [3], 17, 9, 33],
    [[2, 1], [3], [2, 3], 4, 8, 16],
    [[3], [], [3], 33, 31, 20],
    [[], [2, 2], [2, 2], 12, 600, 8],
    [[], [], [], 7, 20, 0],
    [[], [], [], 1, 300, 70],
    [[], [], [], 300, 1, 70],
  ]
  for (const [a, b, batch, M, N, K] of cases)
    for (const ta of [false, true])
      for (const tb of [false, true]) {
        const inputs = [floats([...a, ...(ta ? [K, M] : [M, K])]), floats([...b, ...(tb ? [N, K] : [K, N])])]
        check(
          `matmul ${M}×${N}×${K} ${ta} ${tb}`,
          inputs,
          (k, [p, q], dtype) => k.matmul(p, q, ta, tb, f64([...batch, M, N], dtype)),
          {
            tolerance: 1e-5 * Math.sqrt(K + 1),
          },
        )
      }
  for (const [M, O, I] of [
    [15, 29, 37],
    [8, 600, 65],
    [70, 5, 3],
  ])
    for (const bias of [true, false])
      check(
        `linear ${M} ${O} ${I}`,
        [floats([M, I]), floats([O, I]), bias ? floats([O]) : null],
        (k, [x, w, b], dtype) => k.linear(x, w, b, f64([M, O], dtype)),
        {
          tolerance: 1e-5 * Math.sqrt(I),
        },
      )
})

test('gather and scatterAdd', () => {
  for (const [B, R, K, D] of [
    [3, 11, 8, 37],
    [1, 1000, 300, 3],
    [2, 5, 9, 1],
  ]) {
    check('gather', [floats([B, R, D]), ints([B, K], 0, R)], (k, [x, i], dtype) =>
      k.gather(x, i, f64([B, K, D], dtype)),
    )
    check('scatterAdd', [ints([B, K], 0, R), floats([B, K, D])], (k, [i, s], dtype) =>
      k.scatterAdd(i, s, f64([B, R, D], dtype)),
    )
  }
  const x = floats([2, 5, 3]).on.get(relaxed)!
  const index = input(Int32Array.from([0, 1, 2, 5]), [2, 2]).on.get(relaxed)!
  assert.throws(
    () => relaxed.kernels.gather(x, index, f64([2, 2, 3], 'f32')),
    'gather: wanted indices in [0, 5), got 5 at [1, 1]',
  )
})

test('unfold and fold', () => {
  const windows: [
    Shape,
    { kernel: [number, number]; stride: [number, number]; padding: [number, number, number, number] },
  ][] = [
    [[2, 3, 7, 6], { kernel: [3, 3], stride: [1, 1], padding: [1, 1, 1, 1] }],
    [[1, 2, 9, 8], { kernel: [3, 2], stride: [2, 3], padding: [0, 1, 0, 1] }],
    [[2, 3, 8, 12], { kernel: [4, 4], stride: [4, 4], padding: [0, 0, 0, 0] }],
    [[1, 1, 1, 1031], { kernel: [1, 1], stride: [1, 1], padding: [0, 0, 0, 0] }],
    [[1, 2, 2, 2], { kernel: [5, 5], stride: [1, 2], padding: [4, 4, 4, 4] }],
  ]
  for (const [shape, window] of windows) {
    const [N, C, H, W] = shape
    const {
      kernel: [kh, kw],
      stride: [dy, dx],
      padding: [top, bottom, left, right],
    } = window
    const positions = (Math.floor((H + top + bottom - kh) / dy) + 1) * (Math.floor((W + left + right - kw) / dx) + 1)
    const patches = [N, C * kh * kw, positions]
    check(`unfold ${show(shape)}`, [floats(shape)], (k, [x], dtype) => k.unfold(x, window, f64(patches, dtype)))
    check(`fold ${show(shape)}`, [floats(patches)], (k, [x], dtype) => k.fold(x, window, f64(shape, dtype)))
  }
})

test('softmax and its family', () => {
  for (const shape of [
    [7, 5],
    [3, 1031],
    [2, 3, 1],
    [200, 64],
  ]) {
    check('softmax', [floats(shape, -9, 9)], (k, [x]) => k.softmax(x, x))
    check('logSoftmax', [floats(shape, -9, 9)], (k, [x]) => k.logSoftmax(x, x))
    check('softmaxGrad', [floats(shape), floats(shape, 0, 1)], (k, [g, y]) => k.softmaxGrad(g, y, g), {
      tolerance: 1e-5,
    })
    check('logSoftmaxGrad', [floats(shape), floats(shape, -9, 0)], (k, [g, y]) => k.logSoftmaxGrad(g, y, g), {
      tolerance: 1e-5,
    })
  }
})

test('norms and gated residual', () => {
  for (const [N, T, D] of [
    [2, 5, 37],
    [3, 130, 64],
    [1, 1, 1031],
    [2, 3, 2],
  ]) {
    const x = () => floats([N, T, D])
    check('layerNorm', [x(), floats([D]), floats([D])], (k, [a, w, b]) => k.layerNorm(a, w, b, 1e-6, a), {
      tolerance: 1e-5,
    })
    check('layerNorm, plain', [x()], (k, [a]) => k.layerNorm(a, null, null, 1e-6, a), { tolerance: 1e-5 })
    check('layerNormGrad', [x(), x(), floats([D])], (k, [g, a, w]) => k.layerNormGrad(g, a, w, 1e-6), {
      tolerance: 1e-5,
      floor: 10,
    })
    check('layerNormGrad, plain', [x(), x()], (k, [g, a]) => k.layerNormGrad(g, a, null, 1e-6), {
      tolerance: 1e-5,
      floor: 10,
    })
    check('adaLayerNorm', [x(), floats([N, D]), floats([N, D])], (k, [a, b, c]) => k.adaLayerNorm(a, b, c, 1e-6, a), {
      tolerance: 1e-5,
    })
    check('adaLayerNormGrad', [x(), x(), floats([N, D])], (k, [g, a, c]) => k.adaLayerNormGrad(g, a, c, 1e-6), {
      tolerance: 1e-5,
      floor: 10,
    })
    check('gatedResidual', [x(), floats([N, D]), x()], (k, [a, c, y]) => k.gatedResidual(a, c, y, a))
    check('gatedResidualGrad', [x(), floats([N, D]), x()], (k, [g, c, y]) => k.gatedResidualGrad(g, c, y), {
      tolerance: 1e-5,
    })
  }
})

test('self-attention', () => {
  for (const [N, T, heads, d] of [
    [2, 5, 2, 3],
    [1, 1, 2, 1],
    [3, 67, 2, 8],
    [6, 64, 2, 16],
    [1, 150, 1, 20],
  ]) {
    const D = heads * d
    for (const biasShape of [null, [heads, T, T], [N, heads, T, T]] as (Shape | null)[]) {
      const label = `${show([N, T, heads, d])} bias ${biasShape === null ? 'none' : show(biasShape)}`
      const bias = () => (biasShape === null ? null : floats(biasShape))
      check(
        `selfAttention ${label}`,
        [floats([N, T, 3 * D]), bias()],
        (k, [qkv, b], dtype) => k.selfAttention(qkv, b, heads, f64([N, T, D], dtype)),
        { tolerance: 1e-5 },
      )
      check(
        `selfAttentionGrad ${label}`,
        [floats([N, T, D]), floats([N, T, 3 * D]), bias()],
        (k, [g, qkv, b]) => k.selfAttentionGrad(g, qkv, b, heads),
        { tolerance: 1e-5 },
      )
    }
  }
})

test('optimizer', () => {
  const shapes: Shape[] = [[37], [5, 8000], [1]]
  const settings = { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 }
  check(
    'sumOfSquares',
    shapes.map(s => floats(s)),
    (k, xs, dtype) => k.sumOfSquares(xs, f64([], dtype)),
  )
  for (const finite of [1, 0]) {
    const scalars = [0.7, 0.3, 0.2, finite].map(value => input(Float32Array.from([value]), [1]))
    const tensors = shapes.flatMap(s => [floats(s), floats(s), floats(s), floats(s, 0, 1)])
    check(`adamW, finite ${finite}`, [...scalars, ...tensors], (k, [clip, correction1, correction2, ok, ...x]) => {
      const groups = shapes.map((_, i) => x.slice(4 * i, 4 * i + 4))
      k.adamW(
        groups.map(([p, g, m, v]) => ({ p, g, m, v })),
        settings,
        { clip, correction1, correction2, finite: ok },
      )
      return groups.flatMap(([p, , m, v]) => [k.copy(p), k.copy(m), k.copy(v)])
    })
    const pairs = shapes.flatMap(s => [floats(s), floats(s)])
    check(`lerp, finite ${finite}`, [input(Float32Array.from([finite]), [1]), ...pairs], (k, [ok, ...x]) => {
      k.lerp([x[0], x[2], x[4]], [x[1], x[3], x[5]], 0.01, ok)
      return [k.copy(x[0]), k.copy(x[2]), k.copy(x[4])]
    })
  }
})

test('a storage is refused where it does not fit', () => {
  assert.throws(() => relaxed.alloc('f64', 3), /f32 or i32, got f64/)
  const storage = relaxed.alloc('f32', 3)
  assert.throws(() => relaxed.write(storage, new Float32Array(4)), 'write: wanted 3 elements, got 4')
  relaxed.free(storage)
  assert.throws(() => relaxed.alloc('f32', 2 ** 30), /wasm: out of memory: wanted 4096\.0 MiB.*batch size.*preset/)
})

test('addresses beyond 2 GiB', () => {
  const low = relaxed.alloc('f32', 560e6)
  const x = floats([7, 1031])
  const y = x.on.get(relaxed)!
  assert.ok((y.storage as unknown as { address: number }).address > 2 ** 31)
  check('sum beyond 2 GiB', [x], (k, [a], dtype) => k.reduce('sum', a, [1], f64([7], dtype)), { tolerance: 1e-5 })
  check(
    'matmul beyond 2 GiB',
    [floats([9, 40]), floats([40, 11])],
    (k, [a, b], dtype) => k.matmul(a, b, false, false, f64([9, 11], dtype)),
    { tolerance: 1e-5 },
  )
  relaxed.free(low)
})

test('threads: wanted, from the environment, and never what keeps the process alive', async () => {
  const script = `
    import { createWasm } from './core/backends/wasm/index.ts'
    const wasm = await createWasm()
    const x = { shape: [300000], dtype: 'f32', storage: wasm.alloc('f32', 300000) }
    wasm.write(x.storage, new Float32Array(300000).fill(3))
    // In the same tick as the creation of the workers.
    console.log(wasm.threads, wasm.readSync(wasm.kernels.reduce('sum', x, [0], { shape: [], dtype: 'f32' }))[0])`
  const run = (threads: string) =>
    spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: fileURLToPath(new URL('..', import.meta.url)),
      env: { ...process.env, DEMASK_THREADS: threads },
      encoding: 'utf8',
      timeout: 20000,
    })
  const { status, stdout } = run('3')
  assert.is(stdout.trim(), '3 900000')
  assert.is(status, 0)
  assert.match(run('two').stderr, /DEMASK_THREADS: wanted a whole number of at least 1, got 'two'/)
  for (const threads of [0, 1.5, -2])
    await createWasm({ threads }).then(
      () => assert.unreachable(),
      error => assert.is(error.message, `wasm: threads: wanted a whole number of at least 1, got ${threads}`),
    )
})

/** Memory that grows as a WebAssembly.Memory does, without being there. */
function pretended(pages: number) {
  const buffer = { byteLength: pages * 65536 }
  return {
    buffer,
    grow(more: number) {
      if (buffer.byteLength / 65536 + more > 65536) throw new RangeError('no more')
      buffer.byteLength += more * 65536
      return 0
    },
  }
}

test('allocator: blocks do not overlap, all comes back, and holes merge', () => {
  const size = fc.oneof(fc.nat(200), fc.nat(5000), fc.nat(3 << 20))
  fc.assert(
    fc.property(
      fc.array(fc.record({ size, free: fc.nat(3), pick: fc.nat() }), { minLength: 1, maxLength: 200 }),
      calls => {
        const memory = pretended(2)
        const allocator = new Allocator(memory, 4096)
        const live: { block: number; from: number; to: number }[] = []
        for (const { size, free, pick } of calls) {
          if (free > 1 && live.length > 0) allocator.free(live.splice(pick % live.length, 1)[0].block)
          else {
            const block = allocator.alloc(size)
            const from = allocator.address(block)
            live.push({ block, from, to: from + allocator.capacity(block) })
            assert.is(from % 64, 0)
            assert.ok(from >= 4096 && from + Math.max(size, 1) <= memory.buffer.byteLength - 64)
            assert.ok(allocator.capacity(block) >= size && allocator.capacity(block) < size + 64 + Number(size === 0))
          }
          live.sort((a, b) => a.from - b.from)
          for (let i = 1; i < live.length; i++) assert.ok(live[i - 1].to <= live[i].from, 'blocks overlap')
          assert.is(
            allocator.used,
            live.reduce((sum, { from, to }) => sum + to - from, 0),
          )
          assert.is(allocator.count, live.length)
        }
        for (const { block } of live) allocator.free(block)
        assert.is(allocator.used, 0)
        // All holes have merged: one block of everything fits without growing.
        const bytes = memory.buffer.byteLength
        allocator.free(allocator.alloc(bytes - 4096 - 64))
        assert.is(memory.buffer.byteLength, bytes)
      },
    ),
    { numRuns: 200 },
  )
})

test('allocator: a steady mix of sizes stops growing', () => {
  const memory = pretended(2)
  const allocator = new Allocator(memory, 4096)
  const step = (seed: number) => {
    const blocks = Array.from({ length: 100 }, (_, i) => allocator.alloc(1000 + ((i * 7919 + seed * 104729) % 200000)))
    for (const block of blocks) allocator.free(block)
  }
  for (let i = 0; i < 20; i++) step(i)
  const bytes = memory.buffer.byteLength
  for (let i = 20; i < 200; i++) step(i)
  assert.is(memory.buffer.byteLength, bytes)
})

test.after(() => {
  for (const backend of backends) backend.dispose()
})

test.run()

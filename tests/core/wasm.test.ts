/**
 * Elementwise and movement kernels of the wasm backend against the cpu loops in f64: odd sizes, axes of extent 1,
 * unaligned tails, the edges of f32. What ops make of kernels is tested by the walk over the registry.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { BinaryName, UnaryName } from '../../core/backend.ts'
import { unaryFunctions } from '../../core/backends/cpu/scalars.ts'
import { cpu } from '../../core/index.ts'
import { type Shape, show } from '../../core/shape.ts'
import { check, disposeAll, floats, input, ints, spec } from './wasm-helpers.ts'

test('unary', () => {
  const positive = new Set<UnaryName>(['sqrt', 'rsqrt', 'log', 'reciprocal', 'pow'])
  for (const name of Object.keys(unaryFunctions) as UnaryName[]) {
    for (const shape of [[], [3, 1, 5], [1031], [5, 8000]]) {
      const x = positive.has(name) ? floats(shape, 1e-3, 20) : floats(shape, -12, 12)
      check(`${name} ${show(shape)}`, [x], (k, [a], dtype) => k.unary(name, a, spec(shape, dtype), 0.5, 1.5))
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
    1e13,
    -1e13,
    3e38,
    -3e38,
  ]
  const x = () => input(Float32Array.from(values), [values.length])
  const names: UnaryName[] = [
    'exp',
    'log',
    'tanh',
    'erf',
    'sigmoid',
    'softplus',
    'sqrt',
    'isFinite',
    'sign',
    'relu',
    'silu',
    'gelu',
    'geluTanh',
    'sin',
    'cos',
  ]
  for (const name of names) {
    check(
      `${name} at the edges`,
      [x()],
      (k, [a], dtype) => {
        const y = k.unary(name, a, spec(a.shape, dtype))
        if (dtype === 'f32') return y
        // The exact value rounded to f32: beyond its range infinity, below it zero.
        const rounded = k.unary('affine', a, spec(a.shape, dtype), 0, 0)
        cpu.write(rounded, Float64Array.from(Float32Array.from(cpu.readSync!(y))))
        cpu.free(y)
        return rounded
      },
      { floor: 1e-32 },
    )
  }
  const one = () => input(new Float32Array(values.length).fill(1), [values.length])
  for (const name of ['siluGrad', 'geluGrad', 'geluTanhGrad'] as const)
    check(`${name} at the edges`, [one(), x()], (k, [g, a], dtype) => k.binary(name, g, a, spec(a.shape, dtype)))
})

test('sin and cos of large arguments', () => {
  for (const name of ['sin', 'cos'] as const)
    for (const size of [1e5, 1e8, 1e9, 1e10, 1e20, 3e38])
      check(`${name} up to ${size}`, [floats([1031], -size, size)], (k, [a], dtype) =>
        k.unary(name, a, spec(a.shape, dtype)),
      )
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
      check(`${name} ${show(a)} ${show(b)}`, x, (k, [p, q], dtype) => k.binary(name, p, q, spec(out, dtype)))
    }
  for (const name of ['siluGrad', 'geluGrad', 'geluTanhGrad'] as const)
    check(name, [floats([5, 8001]), floats([5, 8001], -9, 9)], (k, [p, q], dtype) =>
      k.binary(name, p, q, spec(p.shape, dtype)),
    )
})

test('i32 arithmetic, comparisons and movement run in wasm', () => {
  for (const name of ['add', 'sub', 'mul', 'maximum', 'minimum', 'equal', 'less', 'lessEqual'] as const)
    check(`${name} i32`, [ints([3, 7, 5], -9, 9), ints([7, 1], -9, 9)], (k, [a, b]) =>
      k.binary(name, a, b, { shape: [3, 7, 5], dtype: 'i32' }),
    )
  check('affine i32', [ints([37], -9, 9)], (k, [a]) => k.unary('affine', a, a, 3, -2))
  const large = () => input(Int32Array.of(2147483647, -2147483648, 65537, -94906267), [4])
  check('affine i32 beyond 2^53', [large()], (k, [a]) => k.unary('affine', a, a, 2147483647, 5))
  const exact = cpu.kernels.unary('square', large().on.get(cpu)!, { shape: [4], dtype: 'i32' })
  assert.equal([...cpu.readSync!(exact)], [1, 0, 131073, Math.imul(94906267, 94906267)])
  check('mul i32 beyond 2^53', [large(), large()], (k, [a, b]) => k.binary('mul', a, b, a))
  check('permute i32', [ints([3, 7, 5], -9, 9)], (k, [a]) =>
    k.permute(a, [2, 0, 1], { shape: [5, 3, 7], dtype: 'i32' }),
  )
  check('gatherRows i32', [ints([2, 7, 5], -9, 9), ints([2, 4], 0, 7)], (k, [a, i]) =>
    k.gatherRows(a, i, { shape: [2, 4, 5], dtype: 'i32' }),
  )
  check('fill i32', [], k => k.fill(-7, { shape: [37], dtype: 'i32' }))
})

test('fill, where, cast, copy', () => {
  check('fill', [], (k, _, dtype) => k.fill(0.5, { shape: [3, 1031], dtype }))
  const c = () => ints([3, 1, 5], 0, 2)
  check('where', [c(), floats([3, 7, 5]), floats([5])], (k, [i, a, b], dtype) =>
    k.where(i, a, b, spec([3, 7, 5], dtype)),
  )
  check('where, scalar', [floats([40000], 0, 2), floats([1]), floats([40000])], (k, [i, a, b], dtype) =>
    k.where(i, a, b, spec([40000], dtype)),
  )
  check('cast to i32', [floats([1031], -99, 99)], (k, [a]) => k.cast(a, { shape: a.shape, dtype: 'i32' }))
  const edges = Float32Array.of(2147483520, 2147483648, -2147483648, -2147483904, 1e10, -3e38, Infinity, -Infinity, NaN)
  check('cast to i32 of what is out of range', [input(edges, [edges.length])], (k, [a]) =>
    k.cast(a, { shape: a.shape, dtype: 'i32' }),
  )
  check('cast from i32', [ints([1031], -99, 99)], (k, [a], dtype) => k.cast(a, spec(a.shape, dtype)))
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
          spec(
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
    check(`slice ${show(starts)} ${show(out)}`, [floats(shape)], (k, [a], dtype) =>
      k.slice(a, starts, spec(out, dtype)),
    )
  check('pad', [floats([2, 3, 5, 7])], (k, [a], dtype) => k.pad(a, [1, 0, 2, 3], 1.5, spec([3, 3, 9, 11], dtype)))
  for (const axis of [0, 1, 2]) {
    const parts = [2, 1, 5].map(n => [4, 3, 67].with(axis, n))
    const out = [4, 3, 67].with(axis, 8)
    check(
      `concat along ${axis}`,
      parts.map(s => floats(s)),
      (k, xs, dtype) => k.concat(xs, axis, spec(out, dtype)),
    )
  }
})

test.after(disposeAll)

test.run()

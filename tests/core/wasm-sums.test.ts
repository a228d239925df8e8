/**
 * Kernels of the wasm backend that sum: reductions, products, norms, attention, the optimizer, against the cpu loops in
 * f64, with reduced axes longer than 1,000 and odd sizes everywhere.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Operand } from '../../core/backend.ts'
import { type Shape, show } from '../../core/shape.ts'
import { type AllKernels, check, disposeAll, floats, input, ints, relaxed, spec } from './wasm-helpers.ts'

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
        (k, [a], dtype) => k.reduce(name, a, axes, spec(out, dtype)),
        { tolerance: 1e-5 },
      )
    }
})

test('sums of many rows are as exact as pairwise ones', () => {
  for (const [shape, axes] of [
    [[64, 20000, 2], [1]],
    [[100003, 3], [0]],
    [[3, 70001], [1]],
  ]) {
    const out = shape.filter((_, i) => !axes.includes(i))
    check(
      `sum of ${show(shape)} over ${show(axes)}`,
      [floats(shape, 0, 1)],
      (k, [a], dtype) => k.reduce('sum', a, axes, spec(out, dtype)),
      { tolerance: 3e-7, floor: 0 },
    )
  }
})

test('the error of a product does not grow with k', () => {
  const K = 40000
  for (const [M, N, batch] of [
    [16, 16, []],
    [3, 5, []],
    [1, 1, []],
    [2, 9, [2]],
  ] as [number, number, number[]][])
    for (const ta of [false, true])
      for (const tb of [false, true])
        check(
          `matmul ${M}×${N}×${K} ${ta} ${tb}`,
          [floats([...batch, ...(ta ? [K, M] : [M, K])], 0, 1), floats([...batch, ...(tb ? [N, K] : [K, N])], 0, 1)],
          (k, [p, q], dtype) => k.matmul(p, q, ta, tb, spec([...batch, M, N], dtype)),
          { tolerance: 6e-7, floor: 0 },
        )
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
    [[], [], [], 700, 9, 520],
    [[2], [3, 1], [3, 2], 3, 700, 101],
  ]
  for (const [a, b, batch, M, N, K] of cases)
    for (const ta of [false, true])
      for (const tb of [false, true]) {
        const inputs = [floats([...a, ...(ta ? [K, M] : [M, K])]), floats([...b, ...(tb ? [N, K] : [K, N])])]
        check(
          `matmul ${M}×${N}×${K} ${ta} ${tb}`,
          inputs,
          (k, [p, q], dtype) => k.matmul(p, q, ta, tb, spec([...batch, M, N], dtype)),
          {
            tolerance: 1e-5 * Math.sqrt(K + 1),
          },
        )
      }
  for (const [M, O, I] of [
    [15, 29, 37],
    [8, 600, 65],
    [70, 5, 3],
    [20, 33, 1031],
    [5, 601, 1031],
    [6, 33, 4101],
    [1, 45, 1030],
  ])
    for (const bias of [true, false])
      check(
        `linear ${M} ${O} ${I}`,
        [floats([M, I]), floats([O, I]), bias ? floats([O]) : null],
        (k, [x, w, b], dtype) => k.linear(x, w, b, spec([M, O], dtype)),
        {
          tolerance: 1e-5 * Math.sqrt(I),
        },
      )
})

test('the gradients of a linear layer by its weight and bias', () => {
  for (const [R, O, I] of [
    [37, 29, 15],
    [1031, 70, 33],
    [2, 9, 300],
    [520, 8, 40],
    [70, 1, 3],
    [12, 20, 0],
    [0, 20, 5],
    [0, 3, 5],
  ])
    check(
      `linearWeightGrad ${R} ${O} ${I}`,
      [floats([R, O]), floats([R, I])],
      (k, [g, x]) => k.linearWeightGrad(g, x),
      { tolerance: 1e-5 * Math.sqrt(R + 1) },
    )
  // The sums of rows are as exact as those of `reduce`.
  check(
    'linearWeightGrad of many rows',
    [floats([40000, 12], 0, 1), floats([40000, 2], 0, 1)],
    (k, [g, x]) => k.linearWeightGrad(g, x),
    { tolerance: 6e-7, floor: 0 },
  )
})

test('gatherRows and scatterAdd', () => {
  for (const [B, R, K, D] of [
    [3, 11, 8, 37],
    [1, 1000, 300, 3],
    [2, 5, 9, 1],
  ]) {
    check('gatherRows', [floats([B, R, D]), ints([B, K], 0, R)], (k, [x, i], dtype) =>
      k.gatherRows(x, i, spec([B, K, D], dtype)),
    )
    check('scatterAdd', [ints([B, K], 0, R), floats([B, K, D])], (k, [i, s], dtype) =>
      k.scatterAdd(i, s, spec([B, R, D], dtype)),
    )
  }
  const x = floats([2, 5, 3]).on.get(relaxed)!
  const index = input(Int32Array.from([0, 1, 2, 5]), [2, 2]).on.get(relaxed)!
  assert.throws(
    () => relaxed.kernels.gatherRows(x, index, spec([2, 2, 3], 'f32')),
    'gatherRows: expected indices in [0, 5), got 5 at [1, 1]',
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
    check(`unfold ${show(shape)}`, [floats(shape)], (k, [x], dtype) => k.unfold(x, window, spec(patches, dtype)))
    check(`fold ${show(shape)}`, [floats(patches)], (k, [x], dtype) => k.fold(x, window, spec(shape, dtype)))
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
        (k, [qkv, b], dtype) => k.selfAttention(qkv, b, heads, spec([N, T, D], dtype)),
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
  const common = { lr: 0.01, eps: 1e-8, weightDecay: 0.1, maximize: false }
  check(
    'sumOfSquares',
    shapes.map(s => floats(s)),
    (k, xs, dtype) => k.sumOfSquares(xs, spec([], dtype)),
  )
  const scalarNames = ['finite', 'clip', 'correction1', 'correction2', 'correction3', 'started'] as const
  type Named<F extends string> = Readonly<Record<F, Operand>>

  /** Checks what a kernel writes into rows of these fields. */
  function checkUpdate<F extends string>(
    label: string,
    fields: readonly F[],
    run: (k: AllKernels, rows: readonly Named<F>[], scalars: Named<(typeof scalarNames)[number]>) => void,
  ): void {
    for (const finite of [1, 0]) {
      const scalars = [finite, 0.7, 0.3, 0.2, 0.1, 1].map(value => input(Float32Array.from([value]), [1]))
      const tensors = shapes.flatMap(s => fields.map(field => floats(s, field.startsWith('v') ? 0 : -2)))
      check(`${label}, finite ${finite}`, [...scalars, ...tensors], (k, x) => {
        const named = <N extends string>(names: readonly N[], from: number) =>
          Object.fromEntries(names.map((name, i) => [name, x[from + i]])) as Named<N>
        const rows = shapes.map((_, i) => named(fields, scalars.length + i * fields.length))
        run(k, rows, named(scalarNames, 0))
        return rows.flatMap(row => fields.map(field => k.copy(row[field])))
      })
    }
  }

  checkUpdate('assign', ['target', 'source'], (k, rows, scalars) => k.assign(rows, {}, scalars))
  checkUpdate('lerp', ['target', 'source'], (k, rows, scalars) => k.lerp(rows, { weight: 0.01 }, scalars))
  const adamW = { ...common, betas: [0.9, 0.95] } as const
  checkUpdate('adamW', ['p', 'g', 'm', 'v'], (k, rows, scalars) => k.adamW(rows, adamW, scalars))
  checkUpdate('adamW with vmax', ['p', 'g', 'm', 'v', 'vmax'], (k, rows, scalars) => k.adamW(rows, adamW, scalars))
  checkUpdate('adan', ['p', 'g', 'm', 'd', 'v', 'before'], (k, rows, scalars) => {
    const withFlag = rows.map(row => ({ ...row, started: scalars.started }))
    k.adan(withFlag, { ...common, betas: [0.9, 0.95, 0.99], decay: 'after' }, scalars)
  })
  checkUpdate('sgd', ['p', 'g', 'b'], (k, rows, scalars) =>
    k.sgd(rows, { ...common, momentum: 0.9, dampening: 0.5, nesterov: false }, scalars),
  )
})

test('whole numbers: reduce, scatterAdd, fold', () => {
  const cases: [Shape, number[], Shape][] = [
    [[3, 1031], [1], [3]],
    [[1031, 37], [0], [37]],
    [
      [5, 41, 7, 3],
      [0, 2],
      [41, 3],
    ],
    [[4, 1, 9], [1], [4, 9]],
    [[2, 0, 3], [1], [2, 3]],
    [[17, 5], [0, 1], []],
  ]
  for (const name of ['sum', 'max', 'min'] as const)
    for (const [shape, axes, out] of cases)
      check(`${name} i32 ${show(shape)}`, [ints(shape, -99, 99)], (k, [x]) =>
        k.reduce(name, x, axes, { shape: out, dtype: 'i32' }),
      )
  check('scatterAdd i32', [ints([2, 9], 0, 5), ints([2, 9, 131], -9, 9)], (k, [i, s]) =>
    k.scatterAdd(i, s, { shape: [2, 5, 131], dtype: 'i32' }),
  )
  const window = { kernel: [3, 2], stride: [1, 1], padding: [1, 1, 0, 0] } as const
  check('fold i32', [ints([2, 3 * 6, 7 * 8], -9, 9)], (k, [x]) =>
    k.fold(x, window, { shape: [2, 3, 7, 9], dtype: 'i32' }),
  )
})

test.after(disposeAll)

test.run()

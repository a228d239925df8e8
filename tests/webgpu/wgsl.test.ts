/**
 * The hand-written shaders against `cpu` in f64, at the edges of their tiles, lanes and chunks: sizes of 1, odd sizes,
 * sums of thousands of terms, more than 2^24 elements and more than 65,535 workgroups. Skipped without an adapter.
 */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { FusedKernels, Kernels, Operand, Spec, Storage, UpdateKernels } from '../../core/backend.ts'
import { gridOf, type Plan } from '../../core/backends/gpu/program.ts'
import { selfAttentionPlan } from '../../core/backends/gpu/webgpu/wgsl/attention.ts'
import { selfAttentionGradPlan } from '../../core/backends/gpu/webgpu/wgsl/attention-grad.ts'
import { linearPlan, matmulPlan } from '../../core/backends/gpu/webgpu/wgsl/matmul.ts'
import { adaLayerNormGradPlan } from '../../core/backends/gpu/webgpu/wgsl/norm.ts'
import { type Backend, cpu, rng } from '../../core/index.ts'
import { broadcastShapes, reducedShape, type Shape, sizeOf } from '../../core/shape.ts'
import { close } from '../near.ts'
import { openWebGpu } from './device.ts'

const device = await openWebGpu()
const onDevice = device === null ? test.skip : test

type All = Kernels & FusedKernels & UpdateKernels
type Operands = Record<string, Operand>
type Call = (k: All, x: Operands, spec: (...shape: number[]) => Spec) => Storage | readonly Storage[]

function operand(backend: Backend, shape: Shape, values: ArrayLike<number>): Operand {
  const dtype = backend === cpu ? 'f64' : 'f32'
  const storage = backend.alloc(dtype, values.length)
  backend.write(storage, backend === cpu ? Float64Array.from(values) : Float32Array.from(values))
  return { storage, shape, dtype }
}

/** Values of all results of a kernel, whose storages and operands are freed. */
async function run(backend: Backend, call: Call, values: Readonly<Record<string, [Shape, Float32Array]>>) {
  const x = Object.fromEntries(Object.entries(values).map(([name, v]) => [name, operand(backend, ...v)]))
  const dtype = backend === cpu ? 'f64' : 'f32'
  const results = [call(backend.kernels as All, x, (...shape) => ({ shape, dtype }))].flat()
  const read = await Promise.all(results.map(storage => backend.read(storage)))
  for (const storage of [...results, ...Object.values(x).map(x => x.storage)]) backend.free(storage)
  return read
}

const random = rng(11)
const normal = (shape: Shape): [Shape, Float32Array] => [shape, Float32Array.from(random.normalArray(sizeOf(shape)))]

/** A kernel on the device and on cpu, on the same normal numbers, within `tolerance` · max(1, |wanted|). */
async function agree(shapes: Readonly<Record<string, Shape | null>>, call: Call, tolerance: number): Promise<void> {
  const given = Object.entries(shapes).filter((entry): entry is [string, Shape] => entry[1] !== null)
  const values = Object.fromEntries(given.map(([name, shape]) => [name, normal(shape)]))
  const [got, wanted] = [await run(device!, call, values), await run(cpu, call, values)]
  const what = given.map(([name, shape]) => `${name} [${shape}]`).join(' ')
  for (let i = 0; i < wanted.length; i++) close(got[i], wanted[i], tolerance, `${what}: result ${i},`)
}

const holds = async <Ts extends [unknown, ...unknown[]]>(
  runs: number,
  arbitraries: { [K in keyof Ts]: fc.Arbitrary<Ts[K]> },
  property: (...args: Ts) => Promise<void>,
) => fc.assert(fc.asyncProperty(...arbitraries, property), { numRuns: runs, seed: 5 })

/** Tolerance for sums of n terms of size 1 in f32. */
const summing = (n: number) => 2e-6 * Math.sqrt(n) + 1e-6

const edges = fc.constantFrom(1, 2, 7, 15, 16, 17, 33, 63, 64, 65, 100, 130)
const turns = fc.boolean()

function product(a: Shape, b: Shape, turnA: boolean, turnB: boolean): Promise<void> {
  const [M, K] = turnA ? [a[a.length - 1], a[a.length - 2]] : a.slice(-2)
  const N = b[b.length - (turnB ? 2 : 1)]
  const out = [...broadcastShapes('matmul', a.slice(0, -2), b.slice(0, -2)), M, N]
  return agree({ a, b }, (k, { a, b }, spec) => k.matmul(a, b, turnA, turnB, spec(...out)), summing(K))
}

onDevice('products, at the edges of tiles, in all four orientations', () =>
  holds(14, [edges, edges, fc.integer({ min: 1, max: 70 }), turns, turns], (M, N, K, turnA, turnB) =>
    product(turnA ? [K, M] : [M, K], turnB ? [N, K] : [K, N], turnA, turnB),
  ),
)

onDevice('products over a long k, which several workgroups share', async () => {
  for (const [M, N, K] of [
    [3, 70, 5003],
    [66, 65, 4099],
    [90, 5, 16_384],
  ])
    await product([K, M], [N, K], true, true)
})

onDevice('products with enough to do for large tiles', async () => {
  await product([200, 66, 9], [200, 9, 68], false, false)
})

onDevice('stacks of products broadcast', () => {
  const stack = fc.tuple(fc.integer({ min: 1, max: 3 }), fc.nat(3), fc.nat(3))
  return holds(8, [fc.array(stack, { maxLength: 3 }), fc.nat(3)], async (axes, dropped) => {
    const [a, b] = [axes.map(([n, one]) => (one === 0 ? 1 : n)), axes.map(([n, , one]) => (one === 0 ? 1 : n))]
    await product([...a, 5, 6], [...b.slice(Math.min(dropped, b.length)), 6, 4], false, false)
  })
})

onDevice('linear, with a bias and without', () =>
  holds(5, [edges, edges, fc.constantFrom(1, 5, 64, 1031), fc.boolean()], async (R, O, I, biased) =>
    agree(
      { x: [R, 1, I], w: [O, I], b: biased ? [O] : null },
      (k, { x, w, b }, spec) => k.linear(x, w, b ?? null, spec(R, 1, O)),
      summing(I),
    ),
  ),
)

onDevice('reductions over any axes', () => {
  const axis = fc.tuple(fc.constantFrom(1, 2, 3, 8, 17, 40), fc.boolean())
  const name = fc.constantFrom('sum' as const, 'max' as const, 'min' as const)
  return holds(24, [fc.array(axis, { maxLength: 4 }), name], async (axes, name) => {
    const shape = axes.map(([n]) => n)
    const reduced = axes.flatMap(([, is], i) => (is ? [i] : []))
    const out = reducedShape(shape, reduced, false)
    await agree({ x: shape }, (k, { x }, spec) => k.reduce(name, x, reduced, spec(...out)), summing(sizeOf(shape)))
  })
})

onDevice('reductions of many thousand terms, along rows and down columns', async () => {
  for (const [shape, axes] of [
    [[300_001], [0]],
    [[2, 5003], [1]],
    [[5003, 3], [0]],
    [[3, 4099, 40], [1]],
    [
      [2, 9000, 3],
      [0, 1],
    ],
  ]) {
    const out = reducedShape(shape, axes, false)
    for (const name of ['sum', 'max'] as const)
      await agree({ x: shape }, (k, { x }, spec) => k.reduce(name, x, axes, spec(...out)), 1e-4)
  }
})

onDevice('sums of squares of few and of many arrays', async () => {
  const sizes = [1, 5003, 21, 70_001, 16_384, 16_385, 3, 2, 999]
  for (const count of [1, 7, 9])
    await agree(
      Object.fromEntries(sizes.slice(0, count).map((size, i) => [`x${i}`, [size]])),
      (k, x, spec) => k.sumOfSquares(Object.values(x), spec()),
      1e-6,
    )
})

onDevice('concatenation of few and of many arrays, along any axis', async () => {
  for (const [count, axis] of [
    [2, 0],
    [6, 1],
    [7, 2],
    [8, 1],
  ] as const) {
    const shapes = Array.from({ length: count }, (_, i) => [3, 5, 7].with(axis, 1 + 3 * i))
    const length = shapes.reduce((sum, shape) => sum + shape[axis], 0)
    await agree(
      Object.fromEntries(shapes.map((shape, i) => [`x${i}`, shape])),
      (k, x, spec) => k.concat(Object.values(x), axis, spec(...[3, 5, 7].with(axis, length))),
      1e-7,
    )
  }
})

onDevice('updates of several tensors, at the edges of workgroups', async () => {
  const sizes = [1, 1023, 1025, 2, 70_001]
  const fields = (names: string) =>
    Object.fromEntries(sizes.flatMap((size, i) => [...names].map(name => [`${name}${i}`, [size]])))
  const rowsOf = (x: Operands) =>
    sizes.map((_, i) => ({ p: x[`p${i}`], g: x[`g${i}`], m: x[`m${i}`], v: x[`v${i}`], t: x[`t${i}`], s: x[`s${i}`] }))
  await agree(
    { ...fields('ts'), finite: [] },
    (k, x) => {
      const rows = rowsOf(x).map(({ t, s }) => ({ target: t, source: s }))
      k.lerp(rows, { weight: 0.3 }, { finite: x.finite })
      return rows.map(({ target }) => k.copy(target))
    },
    1e-6,
  )
  await agree(
    { ...fields('pgmv'), clip: [], finite: [] },
    (k, x, spec) => {
      const one = { ...spec(), storage: k.fill(1, spec()) }
      const half = { ...spec(), storage: k.fill(0.5, spec()) }
      const rows = rowsOf(x).map(row => {
        const v = { ...row.v, storage: k.unary('square', row.v, row.v) }
        return { p: row.p, g: row.g, m: row.m, v }
      })
      const attrs = { lr: 0.01, betas: [0.9, 0.99], eps: 1e-3, weightDecay: 0.1, maximize: true } as const
      k.adamW(rows, attrs, { clip: x.clip, correction1: half, correction2: one, finite: x.finite })
      for (const { storage } of [one, half]) storage.backend.free(storage)
      return rows.flatMap(({ p, m, v }) => [k.copy(p), k.copy(m), v.storage])
    },
    2e-6,
  )
})

const widths = fc.constantFrom(1, 2, 8, 9, 31, 33, 128, 513, 1031, 5003)
const rows = fc.constantFrom(1, 3, 65)

onDevice('softmax, its logarithm, and gradients', () =>
  holds(10, [rows, widths], async (R, D) => {
    for (const name of ['softmax', 'logSoftmax'] as const) {
      await agree({ x: [R, D] }, (k, { x }, spec) => k[name](x, spec(R, D)), 2e-6)
      const grad = `${name}Grad` as const
      await agree({ g: [R, D], y: [R, D] }, (k, { g, y }, spec) => k[grad](g, y, spec(R, D)), 4 * summing(D))
    }
  }),
)

onDevice('layer norm, with and without weights, and gradients', () =>
  holds(10, [rows, widths, fc.boolean(), fc.boolean()], async (R, D, w, b) => {
    await agree(
      { x: [R, D], w: w ? [D] : null, b: b ? [D] : null },
      (k, { x, w, b }, spec) => k.layerNorm(x, w ?? null, b ?? null, 1e-6, spec(R, D)),
      5e-6,
    )
    await agree(
      { g: [R, D], x: [R, D], w: w ? [D] : null },
      (k, { g, x, w }) => k.layerNormGrad(g, x, w ?? null, 1e-3),
      2e-5 + summing(R),
    )
  }),
)

onDevice('adaptive layer norm and gated residuals, and gradients', () =>
  holds(
    6,
    [fc.constantFrom(1, 3), fc.constantFrom(1, 16, 17, 70, 1100), fc.constantFrom(1, 3, 40, 1031)],
    async (N, T, D) => {
      const [x, c] = [
        [N, T, D],
        [N, D],
      ]
      await agree(
        { x, shift: c, scale: c },
        (k, { x, shift, scale }, spec) => k.adaLayerNorm(x, shift, scale, 1e-6, spec(N, T, D)),
        5e-6,
      )
      await agree(
        { g: x, x, scale: c },
        (k, { g, x, scale }) => k.adaLayerNormGrad(g, x, scale, 1e-3),
        2e-5 + summing(T),
      )
      await agree({ g: x, gate: c, y: x }, (k, { g, gate, y }) => k.gatedResidualGrad(g, gate, y), summing(T))
    },
  ),
)

async function attention(N: number, T: number, h: number, d: number, bias: Shape | null): Promise<void> {
  const [qkv, y] = [
    [N, T, 3 * h * d],
    [N, T, h * d],
  ]
  await agree({ qkv, bias }, (k, { qkv, bias }, spec) => k.selfAttention(qkv, bias ?? null, h, spec(...y)), 5e-6)
  await agree({ g: y, qkv, bias }, (k, { g, qkv, bias }) => k.selfAttentionGrad(g, qkv, bias ?? null, h), summing(T))
}

onDevice('attention and its gradient: any number of tokens, with the three kinds of bias', async () => {
  await holds(6, [fc.constantFrom(1, 2, 5, 63, 64, 65, 130), fc.constantFrom(1, 2, 3)], async (T, N) => {
    await attention(N, T, 2, 8, null)
    await attention(N, T, 2, 8, [2, T, T])
    await attention(N, T, 2, 8, [N, 2, T, T])
  })
  await attention(1, 1024, 1, 8, [1, 1024, 1024])
})

onDevice('attention with heads that several invocations share, and of odd size', async () => {
  await attention(2, 67, 1, 41, [1, 67, 67])
  await attention(2, 9, 3, 3, null)
  const [N, T, d] = [1, 35, 68]
  await agree({ qkv: [N, T, 3 * d] }, (k, { qkv }, spec) => k.selfAttention(qkv, null, 1, spec(N, T, d)), 5e-6)
})

onDevice('attention to what a bias of −∞ leaves, wherever that is', async () => {
  const T = 70
  const masked = (left: (i: number, j: number) => boolean): [Shape, Float32Array] => [
    [1, T, T],
    Float32Array.from({ length: T * T }, (_, at) => (left(Math.floor(at / T), at % T) ? 0 : -Infinity)),
  ]
  const call: Call = (k, { qkv, bias }, spec) => k.selfAttention(qkv, bias, 1, spec(1, T, 8))
  for (const left of [(i: number, j: number) => j >= i, (i: number, j: number) => j === T - 1 - i]) {
    const values = { qkv: normal([1, T, 24]), bias: masked(left) }
    const [got, wanted] = [await run(device!, call, values), await run(cpu, call, values)]
    close(got[0], wanted[0], 5e-6)
  }
})

onDevice('what is not a number stays that: in its row, and in no other', async () => {
  const D = 96
  const x = normal([3, D])
  x[1][D + 7] = Number.NaN
  const calls: Record<string, Call> = {
    sum: (k, { x }, spec) => k.reduce('sum', x, [1], spec(3)),
    max: (k, { x }, spec) => k.reduce('max', x, [1], spec(3)),
    min: (k, { x }, spec) => k.reduce('min', x, [1], spec(3)),
    softmax: (k, { x }, spec) => k.softmax(x, spec(3, D)),
    logSoftmax: (k, { x }, spec) => k.logSoftmax(x, spec(3, D)),
    layerNorm: (k, { x }, spec) => k.layerNorm(x, null, null, 1e-6, spec(3, D)),
    // Rows are pictures of four tokens, with one head of eight.
    selfAttention: (k, { x }, spec) => k.selfAttention({ ...x, shape: [3, 4, 24] }, null, 1, spec(3, 4, 8)),
  }
  for (const [name, call] of Object.entries(calls)) {
    const [[got], [wanted]] = [await run(device!, call, { x }), await run(cpu, call, { x })]
    assert.equal(Array.from(got, Number.isNaN), Array.from(wanted, Number.isNaN), name)
  }
})

onDevice('indices past 2^24 are exact, and workgroups past 65,535 have their turn', async () => {
  const [R, D] = [2 ** 21 + 3, 8]
  const x = new Float32Array(R * D)
  x[2 ** 24 + 3] = 7
  x[2 ** 24 + 21] = -5
  const values = { x: [[R, D], x] as [Shape, Float32Array] }
  const [columns] = await run(device!, (k, { x }, spec) => k.reduce('sum', x, [0], spec(D)), values)
  assert.equal([...columns], [0, 0, 0, 7, 0, -5, 0, 0])
  const [rows] = await run(device!, (k, { x }, spec) => k.reduce('sum', x, [1], spec(R)), values)
  assert.equal([rows[2 ** 21], rows[2 ** 21 + 1], rows[2 ** 21 + 2]], [7, 0, -5])
  const [all] = await run(device!, (k, { x }, spec) => k.reduce('sum', x, [], spec(R, D)), values)
  assert.ok(Buffer.from(all.buffer, all.byteOffset, all.byteLength).equals(Buffer.from(x.buffer)))
})

test('workgroups are laid out in a grid with room for all, and little to spare', () => {
  for (const n of [1, 65_535, 65_536, 2 ** 24, 2 ** 31]) {
    const [x, y] = gridOf(n)
    assert.ok(x <= 65_535 && y <= 65_535 && x * y >= n && x * y - n < y, `${n}: ${x} × ${y}`)
  }
})

test('a new batch size needs no new shader', () => {
  const keys = (plan: Plan) => plan.steps.map(({ program }) => program.key)
  const plans = (N: number): Plan[] => [
    matmulPlan([N, 4, 64, 64], [N, 4, 64, 64], false, true, [N, 4, 64, 64]),
    linearPlan([N, 64, 384], [1536, 384], true),
    adaLayerNormGradPlan([N, 64, 384], 1e-6),
    selfAttentionPlan([N, 64, 1152], [6, 64, 64], 6),
    selfAttentionGradPlan([N, 64, 1152], [6, 64, 64], 6),
  ]
  assert.equal(plans(7).flatMap(keys), plans(8).flatMap(keys))
})

test.after(() => device?.dispose())

test.run()

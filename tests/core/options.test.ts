/**
 * Options of functions that are made of several ops: first and second derivatives against differences, values and gradients
 * on every backend against `cpu` in f64, and values against numbers worked out by hand. Samples of PyTorch's own tests are
 * in tests/peers.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../../core/backends/gpu/index.ts'
import { createWasm } from '../../core/backends/wasm/index.ts'
import { gradcheck, gradcheck2, project } from '../../core/gradcheck.ts'
import * as core from '../../core/index.ts'
import { type Backend, cpu, gradients, scope, type Tensor, tensor } from '../../core/index.ts'
import { type Sampler, sampler } from '../../core/samples.ts'
import { clipGradNorm } from '../../nn/index.ts'
import { close, tensor64 as f64, values } from '../near.ts'

type F = (...x: Tensor[]) => Tensor

/** A function, and the operands on which it is tested; `once`: its slope jumps, so there is no second derivative. */
interface Case {
  readonly x: (r: Sampler) => readonly Tensor[]
  readonly f: F
  readonly once?: true
}

const losses = (loss: (a: Tensor, b: Tensor, options: core.LossOptions) => Tensor, once?: true): [string, Case][] =>
  (['none', 'sum', 'mean'] as const).map(reduction => [
    `${loss.name} ${reduction}`,
    { x: r => [r.distinct(3, 4), r.positive(3, 4)], f: (a, b) => loss(a, b, { reduction }), once },
  ])

const images: [string, Case][] = (['nearest', 'bilinear', 'bicubic'] as const).flatMap(mode =>
  [{ scaleFactor: 1.7 }, { scaleFactor: [0.6, 2] as const }, [5, 3] as const, [1, 7] as const].flatMap((size, i) =>
    (mode === 'nearest' ? [false] : [false, true]).map((alignCorners): [string, Case] => [
      `interpolate ${mode} ${JSON.stringify(size)} ${alignCorners}`,
      { x: r => [r(1 + i, 2, 4, 5)], f: x => core.interpolate(x, size, mode, { alignCorners }) },
    ]),
  ),
)

const cases = new Map<string, Case>([
  ['sub number', { x: r => [r(3, 5)], f: x => core.sub(2, x) }],
  ['div number', { x: r => [r.positive(3, 5)], f: x => core.div(2, x) }],
  ['pow number', { x: r => [r(3, 5)], f: x => core.pow(1.5, x) }],
  ['maximum number', { x: r => [r.distinct(3, 5)], f: x => core.maximum(0.01, x), once: true }],
  ['where number', { x: r => [r(3, 5)], f: x => core.where(core.less(x, 0), -1, core.mul(x, x)), once: true }],
  [
    'clamp tensors',
    {
      x: r => [r.distinct(3, 5), r.distinct(5), r.distinct(3, 1)],
      f: (x, a, b) => core.clamp(x, { min: core.sub(a, 0.31), max: core.add(b, 0.72) }),
      once: true,
    },
  ],
  ['clamp min', { x: r => [r.distinct(3, 5)], f: x => core.clamp(x, { min: 0.01 }), once: true }],
  ['slice step', { x: r => [r(3, 7, 2)], f: x => core.slice(x, 1, 1, -1, 2) }],
  ['slice backwards', { x: r => [r(3, 7)], f: x => core.slice(x, -1, undefined, 1, -3) }],
  ['permute negative', { x: r => [r(3, 7, 2)], f: x => core.permute(x, [-1, 0, -2]) }],
  ['broadcastTo −1', { x: r => [r(3, 1)], f: x => core.broadcastTo(x, [2, -1, 4]) }],
  ['matmul vector matrix', { x: r => [r(5), r(2, 5, 3)], f: (a, b) => core.matmul(a, b) }],
  ['matmul matrix vector', { x: r => [r(2, 3, 5), r(5)], f: (a, b) => core.matmul(a, b) }],
  ['matmul vectors', { x: r => [r(5), r(5)], f: (a, b) => core.matmul(a, b) }],
  ['linear vector', { x: r => [r(2, 5), r(5), r()], f: (x, w, b) => core.linear(x, w, b) }],
  ['pad reflect', { x: r => [r(3, 4)], f: x => core.pad(x, [2, 3], [6, 10], 'reflect') }],
  ['pad replicate', { x: r => [r(3, 4)], f: x => core.pad(x, [0, 5], [7, 9], 'replicate') }],
  ['gather', { x: r => [r(3, 4, 5), r.indices(4, 2, 6, 5)], f: (x, i) => core.gather(x, 1, i) }],
  [
    'scatter',
    {
      x: r => [r(3, 7, 2), permutations(7, [2, 4, 2]), r(3, 5, 2)],
      f: (x, i, source) => core.scatter(x, 1, i, source),
    },
  ],
  ['scatter number', { x: r => [r(4, 3), r.indices(3, 4, 2)], f: (x, i) => core.scatter(x, -1, i, 0.5) }],
  [
    'scatter add',
    {
      x: r => [r(4, 3), r.indices(4, 5, 3), r(5, 3)],
      f: (x, i, source) => core.scatter(x, 0, i, source, { reduce: 'add' }),
    },
  ],
  ['softplus beta', { x: r => [r(3, 5)], f: x => core.softplus(x, 2.5) }],
  ...losses(core.mse),
  ...losses(core.l1, true),
  ...losses(core.smoothL1, true),
  ...images,
  ...[false, true].flatMap(isCausal =>
    [undefined, 0.3].map((scale): [string, Case] => [
      `attention ${isCausal} ${scale}`,
      {
        x: r => [r(2, 3, 4), r(2, 5, 4), r(2, 5, 6), r(3, 5)],
        f: (q, k, v, bias) => core.attention(q, k, v, bias, { isCausal, scale }),
      },
    ]),
  ),
  [
    'attention mask',
    {
      x: r => [r(2, 3, 4), r(2, 5, 4), r(2, 5, 4), r.indices(2, 3, 5)],
      f: (q, k, v, mask) => core.attention(q, k, v, null, { mask, isCausal: true }),
    },
  ],
  ...(['none', 'sum', 'mean'] as const).flatMap(reduction =>
    [0, 0.1].flatMap((labelSmoothing): [string, Case][] => [
      [
        `crossEntropy ${reduction} ${labelSmoothing}`,
        {
          x: r => [r(3, 4, 5), r.indices(4, 3, 5)],
          f: (x, ids) => {
            const weight = tensor([1, 2, 0.5, 3], { dtype: x.dtype, backend: x.backend })
            return core.crossEntropy(x, ids, { weight, ignoreIndex: 2, labelSmoothing, reduction })
          },
        },
      ],
      [
        `crossEntropy soft ${reduction} ${labelSmoothing}`,
        {
          x: r => [r(3, 4), r.positive(3, 4)],
          f: (x, p) => {
            const weight = tensor([1, 2, 0.5, 3], { dtype: x.dtype, backend: x.backend })
            return core.crossEntropy(x, p, { weight, labelSmoothing, reduction })
          },
        },
      ],
    ]),
  ),
])

/** An index along axis 1 that names no element twice: (N, K, D) of positions below n. */
function permutations(n: number, shape: readonly [number, number, number]): Tensor {
  const [N, K, D] = shape
  const at = Int32Array.from({ length: N * K * D }, (_, i) => (3 * Math.floor(i / D) + i) % n)
  return tensor(at, { shape, dtype: 'i32', backend: cpu })
}

for (const [name, { x, f, once }] of cases)
  test(`${name}: first and second derivatives`, () => {
    const operands = x(sampler(5))
    assert.ok(gradcheck(f, operands)! < 1e-8, `first ${gradcheck(f, operands)}`)
    if (once !== true) assert.ok((gradcheck2(f, operands) ?? 0) < 1e-7, `second ${gradcheck2(f, operands)}`)
  })

/** The value of f, and the gradients of the sum of its elements, each times a number, by the float operands. */
function evaluate(f: F, operands: readonly Tensor[], backend: Backend): Tensor[] {
  const own = operands.map(t => {
    const dtype = t.dtype === 'f64' && backend !== cpu ? 'f32' : t.dtype
    const moved = tensor(t.dataSync(), { shape: t.shape, dtype, backend })
    return dtype === 'i32' ? moved : moved.requireGrad()
  })
  const y = f(...own)
  const place = { dtype: y.dtype, backend }
  const u = tensor(
    Float64Array.from({ length: y.size }, (_, i) => 1 + (i % 3) / 4),
    { shape: y.shape, ...place },
  )
  const floats = own.filter(t => t.dtype !== 'i32')
  return [y.detach(), ...gradients(project([y], [u]), floats)]
}

for (const backend of [await createWasm({ threads: 2 }), await gpu({ device: 'cpu' })]) {
  test(`values and gradients of all on ${backend.name}`, async () => {
    for (const [name, { x, f }] of cases) {
      const wanted = scope(() => evaluate(f, x(sampler(5)), cpu).map(values))
      const before = backend.stats().storages
      const got = scope(() => evaluate(f, x(sampler(5)), backend))
      for (const [i, t] of got.entries()) close(await t.data(), wanted[i], 5e-6, `${name} ${i}:`)
      for (const t of got) t.dispose()
      assert.is(backend.stats().storages, before, `${name}: storages left behind`)
    }
  })
  test.after(() => backend.dispose())
}

// ---- values by hand -------------------------------------------------------------------------------------------------

const ids = (values: core.NestedNumbers) => tensor(values, { dtype: 'i32', backend: cpu })
const row = f64([0, 1, 2, 3, 4, 5, 6])

/** The norm of gradients 3 and −4, 12, of which the largest is clipped to 1. */
function clipped(normType: number): Tensor {
  const parameters = [f64([3, -4]), f64([12])].map(g =>
    Object.assign(f64(g.shape.map(() => 0)).requireGrad(), { grad: g }),
  )
  const norm = clipGradNorm(parameters, 1, { normType })
  return core.concat([core.reshape(norm, [1]), ...parameters.map(({ grad }) => grad!)], 0)
}

const byHand: readonly [string, () => Tensor, number[]][] = [
  ['sub', () => core.sub(10, row), [10, 9, 8, 7, 6, 5, 4]],
  ['sub of i32', () => core.sub(10, ids([1, 2])), [9, 8]],
  ['less', () => core.less(2, row), [0, 0, 0, 1, 1, 1, 1]],
  ['lessEqual', () => core.lessEqual(row, 2), [1, 1, 1, 0, 0, 0, 0]],
  ['equal', () => core.equal(row, 3), [0, 0, 0, 1, 0, 0, 0]],
  ['where of two numbers', () => core.where(ids([0, 2]), 7, -1), [-1, 7]],
  ['open slice', () => core.slice(row, 0, -2), [5, 6]],
  ['negative bounds', () => core.slice(row, 0, -6, -4), [1, 2]],
  ['a step', () => core.slice(row, 0, 1, undefined, 3), [1, 4]],
  ['backwards', () => core.slice(row, 0, undefined, undefined, -1), [6, 5, 4, 3, 2, 1, 0]],
  ['backwards between bounds', () => core.slice(row, 0, -2, 1, -2), [5, 3]],
  ['none', () => core.slice(row, 0, 5, 2, 2), []],
  ['clamp where min > max', () => core.clamp(f64([1, 5]), { min: f64([4, 4]), max: 2 }), [2, 2]],
  ['clamp without bounds', () => core.clamp(f64([1, -5]), {}), [1, -5]],
  ['reflect', () => core.pad(f64([1, 2, 3]), [2], [7], 'reflect'), [3, 2, 1, 2, 3, 2, 1]],
  ['replicate', () => core.pad(f64([1, 2, 3]), [2], [6], 'replicate'), [1, 1, 1, 2, 3, 3]],
  [
    'gather',
    () =>
      core.gather(
        f64([
          [1, 2],
          [3, 4],
        ]),
        1,
        ids([
          [0, 0],
          [1, 0],
        ]),
      ),
    [1, 1, 4, 3],
  ],
  [
    'scatter',
    () =>
      core.scatter(
        f64([
          [1, 2],
          [3, 4],
        ]),
        0,
        ids([[1, 0]]),
        f64([[8, 9]]),
      ),
    [1, 9, 8, 4],
  ],
  ['scatter of a number', () => core.scatter(ids([1, 2, 3]), 0, ids([2]), 7), [1, 2, 7]],
  ['a row without a key', () => core.attention(f64([[1]]), f64([[2]]), f64([[3]]), null, { mask: ids([[0]]) }), [0]],
  [
    'all targets ignored',
    () => core.crossEntropy(f64([[1, 2]]), ids([-1]), { ignoreIndex: -1, reduction: 'none' }),
    [0],
  ],
]

test('clipGradNorm of several norms', () => {
  close(values(clipped(1)), [19, 3 / 19, -4 / 19, 12 / 19], 1e-6)
  close(values(clipped(2)), [13, 3 / 13, -4 / 13, 12 / 13], 1e-6)
  close(values(clipped(3)), [1819 ** (1 / 3), ...[3, -4, 12].map(g => g / 1819 ** (1 / 3))], 1e-6)
  close(values(clipped(Infinity)), [12, 3 / 12, -4 / 12, 1], 1e-6)
})

for (const [name, f, wanted] of byHand) test(name, () => assert.equal(values(f()), wanted))

// ---- refusals -------------------------------------------------------------------------------------------------------

const q = f64([[1, 2]])
const image = f64([1, 2, 3, 4], [1, 1, 2, 2])

const refusals: readonly [() => unknown, string][] = [
  [() => core.add(1, 2), 'add: expected a tensor beside the number 2, got 1'],
  [() => core.slice(row, 0, 0, 7, 0), 'slice: expected a step that is an integer and not 0, got 0'],
  [() => core.slice(row, 0, 1, 8, 2), 'slice: expected bounds in [-7, 7], got 1 and 8'],
  [
    () => core.pad(f64([1, 2]), [2], [4], 'reflect'),
    "pad: expected a border of x's own elements, got 2 around 2 of axis 0",
  ],
  [() => core.stack([], 0), 'stack: expected at least one tensor, got none'],
  [() => core.sumTo(row, [1, 7]), 'sumTo: expected a shape that broadcasts to [7], got [1, 7]'],
  [() => core.matmul(row, q), 'matmul: expected equal inner sizes, got [7] and [1, 2]'],
  [() => core.linear(q, f64([1, 2]), row), 'linear: expected b [] beside a vector w, got [7]'],
  [() => core.gather(row, 0, row), 'gather: expected an index in i32, got f64'],
  [
    () => core.gather(q, 1, ids([0])),
    "gather: expected an index of x's rank and, off axis 1, at most its sizes, got [1] for x [1, 2]",
  ],
  [() => core.gather(row, 0, ids([7])), 'gather: expected indices in [0, 7), got 7 at [0, 0]'],
  [
    () => core.scatter(row, 0, ids([1, 2]), f64([1])),
    'scatter: expected a source at least as large as the index [2], got [1]',
  ],
  [() => core.softplus(row, 0), 'softplus: expected a finite beta other than 0, got 0'],
  [
    () => core.interpolate(image, [4, 4], 'nearest', { alignCorners: true }),
    "interpolate: expected alignCorners with 'bilinear' or 'bicubic', got 'nearest'",
  ],
  [() => core.interpolate(q, [4, 4], 'nearest'), 'interpolate: expected x [N, C, H, W], got [1, 2]'],
  [
    () => core.attention(q, q, row),
    'attention: expected q [..., T, d], k [..., S, d] and v [..., S, e], got [1, 2], [1, 2] and [7]',
  ],
  [() => core.attention(q, q, q, f64([1, 2, 3])), 'attention: expected a bias that broadcasts to [1, 1], got [3]'],
  [() => core.crossEntropy(q, q, { ignoreIndex: 1 }), 'crossEntropy: expected no ignoreIndex with soft targets, got 1'],
  [() => core.crossEntropy(q, ids([0]), { weight: row }), 'crossEntropy: expected weight [2], got [7]'],
  [() => core.crossEntropy(q, ids([2])), 'crossEntropy: expected indices in [0, 2), got 2 at [0, 0]'],
  [
    () => core.crossEntropy(q, row),
    'crossEntropy: expected x [N, C] and target [N] in i32, or [N, C] in floats, got [1, 2] and f64 [7]',
  ],
  [() => clipGradNorm([], 1, { normType: 0 }), 'clipGradNorm: expected a norm type above 0, got 0'],
  [
    () => core.mse(q, q, { reductoin: 'sum' } as core.LossOptions),
    "mse: expected options among reduction, got 'reductoin'",
  ],
  [() => core.mse(q, q, 'sum' as core.LossOptions), "mse: expected options to be an object, got 'sum'"],
]

for (const [f, wanted] of refusals)
  test(wanted, () => assert.throws(f, (error: Error) => error.message === wanted || assert.unreachable(error.message)))

test.run()

/**
 * Convolutions beyond the walk over all ops: the options of PyTorch against their definition, shapes that take each path of
 * the wasm kernels, any number of threads with the same bytes, and the decomposition's strips.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createWasm } from '../../core/backends/wasm/index.ts'
import {
  type Backend,
  type ConvOptions,
  conv1d,
  conv2d,
  convTranspose2d,
  cpu,
  type DType,
  gradients,
  mul,
  noGrad,
  observe,
  registry,
  rng,
  scope,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { untyped } from '../../core/op.ts'
import { Conv1d, Conv2d } from '../../nn/index.ts'
import { everywhere, type Make, refused } from './everywhere.ts'

const backends = {
  'one thread': await createWasm({ threads: 1 }),
  'two threads': await createWasm({ threads: 2 }),
  simd: await createWasm({ threads: 2, build: 'simd' }),
}
test.after(() => {
  for (const backend of Object.values(backends)) backend.dispose()
})

type Case = readonly [
  x: readonly [number, number, number, number],
  O: number,
  kernel: readonly [number, number],
  ConvOptions,
]

/** Each takes another path: few positions, few channels, wide, strides, groups, ragged rows, several passes. */
const cases: readonly Case[] = [
  [[1, 130, 4, 4], 64, [3, 3], { padding: 1 }],
  [[3, 5, 4, 4], 33, [3, 3], { padding: 1 }],
  [[1, 70, 17, 19], 40, [3, 3], { padding: 1 }],
  [[2, 66, 13, 15], 36, [3, 3], { padding: [0, 1, 0, 1], stride: 2 }],
  [[1, 64, 8, 8], 64, [3, 3], { padding: [0, 1, 0, 1], stride: 2 }],
  [[1, 128, 33, 64], 3, [3, 3], { padding: 1 }],
  [[2, 600, 9, 7], 5, [3, 3], { padding: 'same', dilation: 2 }],
  [[1, 3, 20, 20], 70, [3, 3], { padding: 1 }],
  [[1, 600, 9, 9], 40, [1, 1], {}],
  [[2, 64, 9, 9], 8, [1, 1], { stride: 2 }],
  [[2, 12, 13, 11], 18, [3, 3], { groups: 3, padding: 2, stride: [2, 3] }],
  [[1, 9, 12, 12], 9, [3, 3], { groups: 9, padding: 'same' }],
  [[1, 20, 3, 50], 4, [3, 5], { padding: [30, 2, 40, 6] }],
  [[1, 2, 30, 30], 3, [25, 25], { padding: 10 }],
  [[1, 40, 6, 7], 40, [2, 2], { stride: 3 }],
  [[1, 4, 2, 3], 4, [1, 1], { padding: 2 }],
]

/** Result and gradients by x, w and b, from the same numbers everywhere. */
function valuesOn(backend: Backend, dtype: DType, [x, O, [kh, kw], options]: Case): ArrayLike<number>[] {
  const shapes = [x, [O, x[1] / (options.groups ?? 1), kh, kw], [O]]
  return scope(() => {
    const make = (shape: readonly number[], seed: number) => {
      const size = shape.reduce((a, b) => a * b, 1)
      return tensor(Float64Array.from(rng(seed).normalArray(size), Math.fround), { shape, dtype, backend })
    }
    const leaves = shapes.map((shape, i) => make(shape, i).requireGrad())
    const y = conv2d(leaves[0], leaves[1], leaves[2], options)
    return [y, ...gradients(sum(mul(y, make(y.shape, 3))), leaves)].map(t => t.dataSync())
  })
}

for (const given of cases)
  test(`conv2d of [${given[0]}] to ${given[1]}, ${given[2].join(' × ')}, ${JSON.stringify(given[3])}`, () => {
    const wanted = valuesOn(cpu, 'f64', given)
    const found = Object.entries(backends).map(([name, backend]) => {
      const { bytes, fallbacks } = backend.stats()
      const got = valuesOn(backend, 'f32', given)
      assert.equal([backend.stats().bytes, backend.stats().fallbacks], [bytes, fallbacks], name)
      for (const [i, values] of wanted.entries()) {
        const largest = Array.from(values).reduce((most, v) => Math.max(most, Math.abs(v)), 0)
        const worst = Array.from(values).reduce((most, v, k) => Math.max(most, Math.abs(v - got[i][k])), 0)
        assert.ok(worst <= 2e-6 * largest, `${name}, result ${i}: ${worst / largest}`)
      }
      return got
    })
    assert.equal(found[0], found[1], 'threads')
  })

everywhere('conv2d takes the options of PyTorch', ({ f }) => {
  const x = f([1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 1, 3, 3])
  const ones = (...shape: number[]) => f(new Array(shape.reduce((a, b) => a * b, 1)).fill(1), shape)
  return [
    [conv2d(x, ones(1, 1, 2, 2), null, { stride: [1, 2], padding: [0, 0, 0, 1] }), [12, 9, 24, 15]],
    [conv2d(x, ones(1, 1, 2, 2), null, { padding: 'same' }), [12, 16, 9, 24, 28, 15, 15, 17, 9]],
    [conv2d(x, ones(1, 1, 2, 2), null, { padding: 'valid', dilation: 2 }), [20]],
    [conv2d(x, ones(1, 1, 1, 3), null, { padding: [0, 1] }), [3, 6, 5, 9, 15, 11, 15, 24, 17]],
    [conv2d(x, ones(1, 1, 2, 1), f([100]), { dilation: [2, 5] }), [108, 110, 112]],
    [conv2d(f([1, 2, 3, 4], [1, 4, 1, 1]), f([1, 10, 100, 1000], [2, 2, 1, 1]), null, { groups: 2 }), [21, 4300]],
  ]
})

everywhere('conv1d takes the options of PyTorch', ({ f }) => {
  const x = f([1, 2, 3, 4, 5], [1, 1, 5])
  return [
    [conv1d(x, f([1, 10], [1, 1, 2]), null, { padding: 'same' }), [21, 32, 43, 54, 5]],
    [conv1d(x, f([1, 10], [1, 1, 2]), null, { dilation: 3 }), [41, 52]],
    [conv1d(x, f([1, 10, 100], [1, 1, 3]), null, { padding: 'same', dilation: 2 }), [310, 420, 531, 42, 53]],
    [conv1d(f([1, 2, 3, 4], [1, 2, 2]), f([1, 10], [2, 1, 1]), null, { groups: 2 }), [1, 2, 30, 40]],
  ]
})

everywhere('convTranspose2d takes the options of PyTorch', ({ f }) => {
  const x = f([1, 2, 3, 4], [1, 1, 2, 2])
  const w = f([1, 10, 100, 1000], [1, 1, 2, 2])
  return [
    [convTranspose2d(x, w), [1, 12, 20, 103, 1234, 2040, 300, 3400, 4000]],
    [convTranspose2d(x, w, null, { padding: [1, 0] }), [103, 1234, 2040]],
    [convTranspose2d(x, w, f([5]), { stride: [2, 1], padding: 1, outputPadding: [1, 0] }), [1205, 39, 3405]],
  ]
})

test('a transposed convolution undoes the shape of a convolution with the same options', () => {
  scope(() => {
    for (const [stride, padding, outputPadding, dilation, groups] of [
      [1, 0, 0, 1, 1],
      [[2, 3], [1, 2], [1, 0], [2, 1], 2],
      [3, [0, 1, 2, 0], [0, 2], 1, 4],
    ] as const) {
      const random = rng(1)
      const options = { stride, padding, dilation, groups }
      const x = random.normal([2, 4, 3, 5], { dtype: 'f64', backend: cpu })
      const w = random.normal([4, 3, 2, 3], { dtype: 'f64', backend: cpu })
      const y = convTranspose2d(x, w, null, { ...options, outputPadding })
      const back = conv2d(y, w, null, options)
      assert.equal(back.shape, x.shape)
      // The adjoint: ⟨y, y⟩ = ⟨x, conv2d(y)⟩
      const inner = (a: Tensor, b: Tensor) => sum(mul(a, b)).dataSync()[0]
      assert.ok(Math.abs(inner(y, y) - inner(x, back)) < 1e-9 * inner(y, y))
    }
  })
})

const image = (f: (values: number[], shape: number[]) => Tensor) => f(new Array(32).fill(1), [1, 2, 4, 4])
const kernel = (f: (values: number[], shape: number[]) => Tensor) => f(new Array(18).fill(1), [1, 2, 3, 3])

const refusals: readonly (readonly [message: string, call: (make: Make) => unknown])[] = [
  [
    "conv2d: expected a stride of 1 with padding 'same', got [2, 2]",
    ({ f }) => conv2d(image(f), kernel(f), null, { padding: 'same', stride: 2 }),
  ],
  [
    'conv2d: expected x [N, C, H, W] and w [O, C/2, kh, kw], O divisible by 2, got [1, 2, 4, 4] and [1, 2, 3, 3]',
    ({ f }) => conv2d(image(f), kernel(f), null, { groups: 2 }),
  ],
  [
    'conv2d: expected whole numbers, kernel, stride and dilation from 1 and padding from 0, ' +
      'got kernel [3, 3], stride [1, 1], padding [0, 0, 0, 0] and dilation [0, 0]',
    ({ f }) => conv2d(image(f), kernel(f), null, { dilation: 0 }),
  ],
  [
    'conv2d: expected a window that fits, got one of [5, 5] on 4×4 padded by [0, 0, 0, 0]',
    ({ f }) => conv2d(image(f), kernel(f), null, { dilation: 2 }),
  ],
  [
    "conv2d: expected padding to be a number or one of 'same', 'valid' or a list of 2 or 4 numbers, got 'full'",
    ({ f }) => conv2d(image(f), kernel(f), null, { padding: 'full' as 'same' }),
  ],
  [
    'conv2d: expected stride to be a number or a list of 2 numbers, got [1, 2, 3]',
    ({ f }) => conv2d(image(f), kernel(f), null, { stride: [1, 2, 3] as unknown as [number, number] }),
  ],
  [
    'conv2d: expected groups to be an integer from 1, got 0',
    ({ f }) => conv2d(image(f), kernel(f), null, { groups: 0 }),
  ],
  [
    "conv1d: expected a stride of 1 with padding 'same', got 2",
    ({ f }) => conv1d(f([1], [1, 1, 1]), f([1], [1, 1, 1]), null, { padding: 'same', stride: 2 }),
  ],
  [
    'conv1d: expected x [N, C, L] and w [O, C/3, k], O divisible by 3, got [1, 1, 1] and [1, 1, 1]',
    ({ f }) => conv1d(f([1], [1, 1, 1]), f([1], [1, 1, 1]), null, { groups: 3 }),
  ],
  [
    'convTranspose2d: expected an outputPadding from 0 and below the stride [2, 2], got [2, 2]',
    ({ f }) => convTranspose2d(f([1], [1, 1, 1, 1]), f([1], [1, 1, 1, 1]), null, { stride: 2, outputPadding: 2 }),
  ],
  [
    'convTranspose2d: expected a result of 1×1 or more, got 0×0 of [1, 1, 1, 1]',
    ({ f }) => convTranspose2d(f([1], [1, 1, 1, 1]), f([1, 1, 1, 1], [1, 1, 2, 2]), null, { padding: 1 }),
  ],
  [
    'convTranspose2d: expected x [N, C, H, W] and w [C, O/2, kh, kw], C divisible by 2, got [1, 1, 1, 1] and [1, 1, 2, 2]',
    ({ f }) => convTranspose2d(f([1], [1, 1, 1, 1]), f([1, 1, 1, 1], [1, 1, 2, 2]), null, { groups: 2 }),
  ],
]
for (const [message, call] of refusals) refused(message, message, call)

test('layers take the same options, and refuse channels that do not divide into groups', () => {
  scope(() => {
    const init = { rng: rng(1), backend: cpu }
    const x = rng(2).normal([1, 4, 5, 6], { backend: cpu })
    const options = { stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 2 } as const
    const layer = new Conv2d(4, 6, 3, init, options)
    assert.equal(layer.weight.shape, [6, 2, 3, 3])
    assert.equal(layer.forward(x).dataSync(), conv2d(x, layer.weight, layer.bias, options).dataSync())
    const along = new Conv1d(4, 6, 3, init, { padding: 'same', dilation: 2, groups: 2 })
    assert.equal(along.weight.shape, [6, 2, 3])
    assert.equal(along.forward(rng(3).normal([1, 4, 9], { backend: cpu })).shape, [1, 6, 9])
    const refusal = (layer: string) => `${layer}: expected channels divisible by 3 groups, got 4 in and 6 out`
    assert.throws(() => new Conv2d(4, 6, 3, init, { groups: 3 }), refusal('Conv2d'))
    assert.throws(() => new Conv1d(4, 6, 3, init, { groups: 3 }), refusal('Conv1d'))
  })
})

test('the decomposition has strips of columns in memory, unless it is recorded', () => {
  const record = untyped(registry().get('conv2d')!)
  for (const [x, options, strips] of [
    [[1, 700, 3, 701], { padding: 1 }, 3],
    [[1, 256, 8, 1600], { stride: 2, padding: [0, 1, 0, 1] }, 2],
    [[1, 256, 2, 503], { padding: [20, 0, 3, 1], dilation: [3, 1] }, 6],
    [[1, 2, 3, 4], { padding: 1 }, 1],
  ] as const) {
    scope(() => {
      const random = rng(1)
      const image = random.normal(x, { backend: cpu })
      const w = random.normal([1, x[1], 3, 3], { backend: cpu })
      const seen: [readonly Tensor[], unknown][] = []
      const wanted = observe(
        (op, x, attrs) => void (op.name === 'conv2d' && seen.push([x, attrs])),
        () => conv2d(image, w, null, options),
      )
      let unfolds = 0
      const decomposed = () => record.decompose!(seen[0][0], seen[0][1]) as Tensor
      const count = ({ name }: { readonly name: string }) => void (name === 'unfold' && unfolds++)
      const got = noGrad(() => observe(count, decomposed))
      assert.is(unfolds, strips)
      const [a, b] = [got.dataSync(), wanted.dataSync()]
      assert.ok(a.every((v, i) => Math.abs(v - b[i]) <= 1e-5 * Math.max(1, Math.abs(b[i]))))
      unfolds = 0
      observe(count, decomposed)
      assert.is(unfolds, 1)
    })
  }
})

test.run()

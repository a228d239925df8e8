/**
 * The specification against definitions written element by element, on random shapes; and what it promises beyond
 * values: NaN, integers, errors, bytes, and loops that run on another backend's memory.
 */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Backend, Kernels, Operand, Spec, Storage } from '../../core/backend.ts'
import { createLoops } from '../../core/backends/cpu/loops.ts'
import { erf, erfc } from '../../core/backends/cpu/special.ts'
import { allocate, type TypedArray } from '../../core/dtype.ts'
import { runs } from '../../core/gradcheck.ts'
import { cpu, noGrad, registry, rng, type Shape, scope, Tensor, tensor } from '../../core/index.ts'
import { untyped } from '../../core/op.ts'
import { sampler } from '../../core/samples.ts'
import { sizeOf, stridesOf } from '../../core/shape.ts'

/** Elements and how to find one: at an index of its own shape, or of one that it broadcasts to. */
class Values {
  readonly shape: Shape
  readonly data: TypedArray

  constructor(shape: Shape, data: TypedArray) {
    this.shape = shape
    this.data = data
  }

  at(index: readonly number[]): number {
    const strides = stridesOf(this.shape)
    const own = index.slice(index.length - this.shape.length)
    return this.data[own.reduce((sum, i, axis) => sum + (this.shape[axis] === 1 ? 0 : i) * strides[axis], 0)]
  }
}

/** Whole numbers from −4 to 4, so that results are exact in any order of summation. */
const random = (shape: Shape, seed = 1) =>
  new Values(shape, Float64Array.from(rng(seed).integersArray(-4, 5, sizeOf(shape))))

/** Result of a cpu kernel in f64. */
function run(xs: Values[], shape: Shape, kernel: (k: Kernels, x: Operand[], out: Spec) => Storage): Values {
  return scope(() => {
    const x = xs.map(({ shape, data }) => tensor(data, { shape, dtype: 'f64', backend: cpu }))
    const y = new Tensor(kernel(cpu.kernels, x, { shape, dtype: 'f64' }), shape)
    return new Values(shape, y.dataSync())
  })
}

/** The indices of a shape, in order. */
const indices = (shape: Shape) =>
  Array.from({ length: sizeOf(shape) }, (_, i) => stridesOf(shape).map((s, axis) => Math.floor(i / s) % shape[axis]))

function assertElements(got: Values, wanted: (index: number[]) => number): void {
  for (const index of indices(got.shape)) {
    if (got.at(index) !== wanted(index))
      assert.unreachable(`[${got.shape}] at [${index}]: expected ${wanted(index)}, got ${got.at(index)}`)
  }
}

const runsOf = { numRuns: 60, seed: 11 }
const size = fc.integer({ min: 1, max: 4 })
const anyShape = fc.array(size, { minLength: 0, maxLength: 4 })
const someShape = fc.array(size, { minLength: 1, maxLength: 4 })
/** Bit i says whether axis i takes part. */
const mask = fc.nat(15)
const picked = (bits: number, shape: Shape) => shape.flatMap((_, i) => ((bits >> i) & 1 ? [i] : []))
const narrowed = (shape: Shape, bits: number) => shape.map((n, i) => ((bits >> i) & 1 ? 1 : n))

test('erf and erfc have double precision', () => {
  const erfs = [0.1, 0.1124629160182849, 0.5, 0.5204998778130465, 1, 0.8427007929497149, 2, 0.9953222650189527]
  const erfcs = [0.5, 0.4795001221869535, 3, 2.209049699858544e-5, 5, 1.5374597944280349e-12, 10, 2.088487583762545e-45]
  for (let i = 0; i < 8; i += 2) {
    assert.ok(Math.abs(erf(erfs[i]) / erfs[i + 1] - 1) < 1e-15 && erf(-erfs[i]) === -erf(erfs[i]), `erf(${erfs[i]})`)
    assert.ok(Math.abs(erfc(erfcs[i]) / erfcs[i + 1] - 1) < 2e-15, `erfc(${erfcs[i]})`)
  }
  assert.equal([erf(0), erf(Infinity), erf(-Infinity), erfc(-Infinity), erfc(Infinity)], [0, 1, -1, 2, 0])
  assert.ok(Number.isNaN(erf(Number.NaN)) && Number.isNaN(erfc(Number.NaN)))
})

test('binary and where broadcast: axes of size 1, leading axes left out', () => {
  const property = fc.property(anyShape, mask, mask, fc.nat(3), (shape, bitsA, bitsB, drop) => {
    const [a, b, c] = [random(narrowed(shape, bitsA)), random(narrowed(shape, bitsB).slice(drop), 2), random(shape, 3)]
    const difference = run([a, b], shape, (k, [x, y], out) => k.binary('sub', x, y, out))
    assertElements(difference, i => a.at(i) - b.at(i))
    const chosen = run([c, a, b], shape, (k, [x, y, z], out) => k.where(x, y, z, out))
    assertElements(chosen, i => (c.at(i) !== 0 ? a.at(i) : b.at(i)))
  })
  fc.assert(property, runsOf)
})

test('reduce over any axes', () => {
  const property = fc.property(anyShape, mask, (shape, bits) => {
    const [x, axes] = [random(shape), picked(bits, shape)]
    const out = shape.map((n, i) => (axes.includes(i) ? 1 : n))
    for (const [name, join] of [
      ['sum', (a: number, b: number) => a + b],
      ['max', Math.max],
      ['min', Math.min],
    ] as const)
      assertElements(
        run([x], out, (k, [t], spec) => k.reduce(name, t, axes, spec)),
        index =>
          indices(shape)
            .filter(i => i.every((n, axis) => axes.includes(axis) || n === index[axis]))
            .map(i => x.at(i))
            .reduce((a, b) => join(a, b)),
      )
  })
  fc.assert(property, runsOf)
})

test('matmul with either side transposed and batches that broadcast', () => {
  const property = fc.property(size, size, fc.nat(9), size, size, fc.nat(15), (M, N, K, B1, B2, flags) => {
    const [ta, tb, oneA, noneB] = [1, 2, 4, 8].map(bit => (flags & bit) > 0)
    const a = random([B1, oneA ? 1 : B2, ...(ta ? [K, M] : [M, K])])
    const b = random([...(noneB ? [] : [B2]), ...(tb ? [N, K] : [K, N])], 2)
    const y = run([a, b], [B1, oneA && noneB ? 1 : B2, M, N], (k, [s, t], out) => k.matmul(s, t, ta, tb, out))
    assertElements(y, ([i, j, m, n]) => {
      let sum = 0
      for (let k = 0; k < K; k++)
        sum += a.at([i, j, ...(ta ? [k, m] : [m, k])]) * b.at([i, j, ...(tb ? [n, k] : [k, n])])
      return sum
    })
  })
  fc.assert(property, runsOf)
})

test('permute, slice, pad, concat', () => {
  const property = fc.property(someShape, fc.nat(1000), (shape, seed) => {
    const [x, draw] = [random(shape), rng(seed)]
    const order = [...draw.permutationArray(shape.length)]
    const turned = run(
      [x],
      order.map(axis => shape[axis]),
      (k, [t], out) => k.permute(t, order, out),
    )
    assertElements(turned, i => x.at(shape.map((_, axis) => i[order.indexOf(axis)])))

    const starts = shape.map(n => draw.integersArray(0, n, 1)[0])
    const box = shape.map((n, i) => n - starts[i])
    const part = run([x], box, (k, [t], out) => k.slice(t, starts, out))
    assertElements(part, i => x.at(i.map((n, axis) => n + starts[axis])))

    const larger = shape.map((n, i) => n + starts[i] + 1)
    const padded = run([x], larger, (k, [t], out) => k.pad(t, starts, 7, out))
    const inside = (i: number[]) => i.every((n, axis) => n >= starts[axis] && n < starts[axis] + shape[axis])
    assertElements(padded, i => (inside(i) ? x.at(i.map((n, axis) => n - starts[axis])) : 7))

    const axis = seed % shape.length
    const other = random(shape.with(axis, 3), 2)
    const both = run([x, other], shape.with(axis, shape[axis] + 3), (k, xs, out) => k.concat(xs, axis, out))
    assertElements(both, i => (i[axis] < shape[axis] ? x.at(i) : other.at(i.with(axis, i[axis] - shape[axis]))))
  })
  fc.assert(property, runsOf)
})

test('unfold reads the patch under each window, and fold is its adjoint', () => {
  const property = fc.property(size, size, fc.array(size, { minLength: 8, maxLength: 8 }), (kh, kw, more) => {
    const [dy, dx, top, bottom, left, right, extraH, extraW] = more
    const window = { kernel: [kh, kw], stride: [dy, dx], padding: [top, bottom, left, right] } as const
    const [H, W] = [kh + extraH, kw + extraW]
    const x = random([2, 3, H, W])
    const rows = Math.floor((H + top + bottom - kh) / dy) + 1
    const columns = Math.floor((W + left + right - kw) / dx) + 1
    const patches = run([x], [2, 3 * kh * kw, rows * columns], (k, [t], out) => k.unfold(t, window, out))
    assertElements(patches, ([n, c, position]) => {
      const i = Math.floor(position / columns) * dy + (Math.floor(c / kw) % kh) - top
      const j = (position % columns) * dx + (c % kw) - left
      return i >= 0 && i < H && j >= 0 && j < W ? x.at([n, Math.floor(c / (kh * kw)), i, j]) : 0
    })
    const g = random(patches.shape, 2)
    const back = run([g], x.shape, (k, [t], out) => k.fold(t, window, out))
    const dot = (a: Values, b: Values) => indices(a.shape).reduce((sum, i) => sum + a.at(i) * b.at(i), 0)
    assert.is(dot(patches, g), dot(x, back)) // ⟨unfold x, g⟩ = ⟨x, fold g⟩
  })
  fc.assert(property, runsOf)
})

test('NaN goes through maximum, minimum, clamp, relu and reductions, and compares unequal', () => {
  const x = new Values([2], Float64Array.of(Number.NaN, 1))
  const one = new Values([2], Float64Array.of(1, 1))
  for (const name of ['maximum', 'minimum', 'add'] as const)
    assert.ok(Number.isNaN(run([x, one], [2], (k, [a, b], out) => k.binary(name, a, b, out)).data[0]), name)
  for (const name of ['relu', 'clamp', 'sign', 'gelu', 'silu'] as const)
    assert.ok(Number.isNaN(run([x], [2], (k, [a], out) => k.unary(name, a, out, 0, 1)).data[0]), name)
  for (const name of ['sum', 'max', 'min'] as const)
    assert.ok(Number.isNaN(run([x], [], (k, [a], out) => k.reduce(name, a, [0], out)).data[0]), name)
  for (const name of ['equal', 'less', 'lessEqual'] as const)
    assert.is(run([x, x], [2], (k, [a, b], out) => k.binary(name, a, b, out)).data[0], 0)
  assert.equal([...run([x], [2], (k, [a], out) => k.unary('isFinite', a, out)).data], [0, 1])
})

test('activations keep their digits and their limits far out', () => {
  const x = new Values([6], Float64Array.of(-800, -30, -8, 8, 30, 800))
  const of = (name: 'gelu' | 'geluTanh' | 'silu' | 'sigmoid' | 'softplus') =>
    run([x], [6], (k, [a], out) => k.unary(name, a, out)).data
  for (const name of ['gelu', 'geluTanh', 'silu'] as const) {
    assert.is(of(name)[0] + 0, 0)
    assert.is(of(name)[5], 800)
  }
  assert.ok(Math.abs(of('gelu')[2] / -4.9767684594174555e-15 - 1) < 1e-12) // −8 Φ(−8)
  assert.equal([of('sigmoid')[0], of('sigmoid')[5], of('softplus')[0], of('softplus')[5]], [0, 1, 0, 800])
})

test('i32: products wrap, quotients lose their fraction', () => {
  const i32 = (...values: number[]) => tensor(values, { dtype: 'i32', backend: cpu })
  scope(() => {
    const out = { shape: [2], dtype: 'i32' } as const
    const product = cpu.kernels.binary('mul', i32(123456789, -3), i32(987654321, 5), out)
    assert.equal([...cpu.readSync!(product)], [Math.imul(123456789, 987654321), -15])
    const quotient = cpu.kernels.binary('div', i32(7, -7), i32(2, 2), out)
    assert.equal([...cpu.readSync!(quotient)], [3, -3])
    for (const storage of [product, quotient]) cpu.free(storage)
  })
})

test('an index out of range is one clear line and leaks nothing', () => {
  scope(() => {
    const x = tensor(new Float32Array(6), { shape: [1, 3, 2], backend: cpu })
    const index = tensor([[0, 3]], { dtype: 'i32', backend: cpu })
    const before = cpu.stats().bytes
    const bad = () => cpu.kernels.gatherRows(x, index, { shape: [1, 2, 2], dtype: 'f32' })
    assert.throws(bad, /^gatherRows: expected indices in \[0, 3\), got 3 at \[0, 1\]$/)
    assert.is(cpu.stats().bytes, before)
  })
})

test('bytes are counted, peaks are kept, and too large a request says how much it was', () => {
  const before = cpu.stats()
  cpu.resetPeak()
  const storage = cpu.alloc('f64', 1000)
  assert.is(cpu.stats().bytes - before.bytes, 8000)
  cpu.free(storage)
  assert.is(cpu.stats().bytes, before.bytes)
  assert.is(cpu.stats().peakBytes, before.bytes + 8000)
  assert.throws(() => cpu.alloc('f64', 2 ** 50), /^cpu: no room for 9007199254740992 bytes/)
  assert.throws(() => cpu.write(cpu.alloc('f32', 0), new Float32Array(1)), /expected 0 elements, got 1/)
})

test('cpu has every loop once the ops are loaded', () => {
  const all = createLoops({ view: () => new Float32Array(), alloc: cpu.alloc })
  assert.equal(Object.keys(cpu.kernels).sort(), Object.keys(all).sort())
})

test('the loops hold no view across an allocation and count on no zeroed memory', () => {
  // A host on which every allocation moves all that there is, and hands out garbage, as growing memory may.
  const live = new Map<Storage, TypedArray>()
  const alloc: Backend['alloc'] = (dtype, length) => {
    for (const [storage, data] of live) {
      live.set(storage, data.slice())
      data.fill(99)
    }
    const storage = { backend: hostile, dtype, length, version: 0, holds: 0 }
    live.set(storage, allocate(dtype, length).fill(77))
    return storage
  }
  const view = (storage: Storage) => live.get(storage)!
  const hostile: Backend = {
    ...cpu,
    name: 'hostile',
    kernels: createLoops({ view, alloc }),
    alloc,
    free: storage => live.delete(storage),
    write: (storage, data) => view(storage).set(data),
    readSync: storage => view(storage).slice(),
  }
  for (const op of registry().values())
    noGrad(() =>
      scope(() => {
        for (const sample of untyped(op).samples(sampler(5))) {
          const f = runs(op, sample)
          const inputs = sample.x.map(x => tensor(x.dataSync(), { shape: x.shape, dtype: x.dtype, backend: hostile }))
          const [got, wanted] = [[f(...inputs)].flat(), [f(...sample.x)].flat()]
          wanted.forEach((y, i) => {
            assert.equal(got[i].dataSync(), y.dataSync(), op.name)
          })
        }
      }),
    )
  assert.is(live.size, 0)
})

test.run()

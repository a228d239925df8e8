/**
 * Values of the wasm kernels at their edges: the sign of zero, the bounds of erf, the lower tail of GELU, and layer norm of
 * numbers whose squares overflow; and the errors of exponentials. The right values are those of cpu in f64.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createWasm } from '../../core/backends/wasm/index.ts'
import {
  type Backend,
  cpu,
  erf,
  exp,
  gelu,
  geluTanh,
  gradients,
  layerNorm,
  scope,
  sigmoid,
  silu,
  sin,
  sum,
  type Tensor,
  tanh,
  tensor,
} from '../../core/index.ts'

const builds = {
  relaxed: await createWasm({ threads: 2, build: 'relaxed' }),
  simd: await createWasm({ threads: 1, build: 'simd' }),
}

/** f of these numbers on a backend. */
function valuesOf(backend: Backend, f: (x: Tensor) => Tensor, numbers: ArrayLike<number>): number[] {
  const dtype = backend === cpu ? 'f64' : 'f32'
  return scope(() => [...f(tensor(Array.from(numbers), { backend, dtype })).dataSync()])
}

/** The gradient of Σ f(x) by x. */
function gradientOf(f: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const leaf = x.detach().requireGrad()
  return gradients(sum(f(leaf)), [leaf])[0]
}

/** All f32 in steps of `ulps` between two positive numbers. */
function f32Between(low: number, high: number, ulps: number): Float32Array {
  const wordOf = (x: number) => new Int32Array(Float32Array.of(x).buffer)[0]
  const n = Math.floor((wordOf(high) - wordOf(low)) / ulps)
  return new Float32Array(Int32Array.from({ length: n }, (_, i) => wordOf(low) + i * ulps).buffer)
}

for (const [build, wasm] of Object.entries(builds)) {
  test(`${build}: odd functions keep the sign of zero`, () => {
    for (const f of [sin, tanh, erf, gelu, geluTanh, silu]) {
      const [negative, positive] = valuesOf(wasm, f, [-0, 0])
      assert.ok(Object.is(negative, -0), `${f.name}(-0) is ${negative}`)
      assert.ok(Object.is(positive, 0), `${f.name}(0) is ${positive}`)
    }
  })

  test(`${build}: tanh and sin are odd`, () => {
    const x = f32Between(1e-3, 20, 40_009)
    for (const f of [sin, tanh]) {
      const mirrored = valuesOf(
        wasm,
        f,
        x.map(v => -v),
      )
      assert.equal(
        mirrored.map(v => -v),
        valuesOf(wasm, f, x),
        f.name,
      )
    }
  })

  test(`${build}: erf lies in [−1, 1]`, () => {
    const x = f32Between(3, 5, 7)
    const y = valuesOf(wasm, erf, x)
    assert.is(Math.max(...y.filter((_, i) => i % 1000 === 0)), 1)
    y.forEach((v, i) => {
      assert.ok(v > 0.9999 && v <= 1, `erf(${x[i]}) is ${v}`)
    })
    assert.ok(
      valuesOf(
        wasm,
        erf,
        x.map(v => -v),
      ).every(v => v < -0.9999 && v >= -1),
    )
    assert.equal(valuesOf(wasm, erf, [-5, Number.NaN]), [-1, Number.NaN])
  })

  test(`${build}: GELU keeps its digits in the lower tail`, () => {
    // The argument of the exponential is rounded: its relative error grows as x²/2.
    const x = [...f32Between(0.01, 13, 20_011)].map(v => -v)
    const right = valuesOf(cpu, gelu, x)
    valuesOf(wasm, gelu, x).forEach((v, i) => {
      const error = Math.abs(v / right[i] - 1)
      assert.ok(error < 1.5e-6 + 1e-7 * x[i] ** 2, `gelu(${x[i]}) is ${v}, right is ${right[i]}`)
    })
  })

  test(`${build}: the gradient of GELU keeps its digits in the lower tail`, () => {
    const x = [...f32Between(1.5, 12, 20_011)].map(v => -v)
    const gradient = (backend: Backend) => valuesOf(backend, x => gradientOf(gelu, x), x)
    const right = gradient(cpu)
    gradient(wasm).forEach((v, i) => {
      const error = Math.abs(v / right[i] - 1)
      assert.ok(error < 3e-6 + 1e-7 * x[i] ** 2, `gelu′(${x[i]}) is ${v}, right is ${right[i]}`)
    })
  })

  test(`${build}: errors of exponentials in units of the last place`, () => {
    const bounds: readonly (readonly [(x: Tensor) => Tensor, bound: number, low: number, high: number])[] = [
      [exp, 1.3, -80, 80],
      [sigmoid, 2.3, -80, 80],
      [silu, 2.7, -80, 80],
      [geluTanh, 2.5, -1, 80],
    ]
    for (const [f, bound, low, high] of bounds) {
      const x = [...f32Between(1e-3, high, 20_011), ...f32Between(1e-3, -low, 20_011).map(v => -v)]
      const right = valuesOf(cpu, f, x)
      valuesOf(wasm, f, x).forEach((v, i) => {
        const ulp = 2 ** (Math.floor(Math.log2(Math.max(Math.abs(right[i]), 2 ** -126))) - 23)
        const error = Math.abs(v - right[i]) / ulp
        assert.ok(error <= bound, `${f.name}(${x[i]}) is ${v}, right is ${right[i]}: ${error} ulp`)
      })
    }
  })

  test(`${build}: the tanh form of GELU keeps its digits in the lower tail`, () => {
    // The argument of the exponential, 2u, is rounded.
    const x = [...f32Between(1, 9, 2_011)].map(v => -v)
    const right = valuesOf(cpu, geluTanh, x)
    valuesOf(wasm, geluTanh, x).forEach((v, i) => {
      const argument = 2 * Math.sqrt(2 / Math.PI) * -(x[i] + 0.044715 * x[i] ** 3)
      const error = Math.abs(v / right[i] - 1)
      assert.ok(error < 1.2e-7 * (3 + 2.5 * argument), `geluTanh(${x[i]}) is ${v}, right is ${right[i]}`)
    })
    const [infinite, large, small, nan] = valuesOf(wasm, geluTanh, [Infinity, 1e30, -1e30, Number.NaN])
    assert.equal([infinite, large, nan], [Infinity, Math.fround(1e30), Number.NaN])
    assert.is(Math.abs(small), 0)
  })

  test(`${build}: the gradient of the tanh form of GELU`, () => {
    const x = [...f32Between(1e-3, 12, 20_011)].flatMap(v => [v, -v])
    const gradient = (backend: Backend, numbers: readonly number[]) =>
      valuesOf(backend, x => gradientOf(geluTanh, x), numbers)
    const right = gradient(cpu, x)
    gradient(wasm, x).forEach((v, i) => {
      assert.ok(Math.abs(v - right[i]) < 4e-7, `geluTanh′(${x[i]}) is ${v}, right is ${right[i]}`)
    })
    assert.equal(
      gradient(wasm, [1e30, -1e30]).map(v => v + 0),
      [1, 0],
    )
  })

  for (const size of [2 ** 60, 2 ** 64, 2 ** 100, 2 ** 127])
    test(`${build}: layer norm of rows as large as ${size}, and its gradients`, () => {
      for (const D of [1, 3, 8, 37]) {
        // A large row, one of ordinary size, a constant large one, whose sum is exact in f32, and another large one.
        const rows = [0, 1, 2, 3].map(row =>
          Array.from({ length: D }, (_, i) => (row === 2 ? size : (row === 1 ? 1 : size) * Math.sin(1 + row + 3 * i))),
        )
        const numbers = Float32Array.from(rows.flat())
        const on = (backend: Backend) =>
          scope(() => {
            const made = (values: ArrayLike<number>, shape: readonly number[]) =>
              tensor(Array.from(values), { shape, backend, dtype: backend === cpu ? 'f64' : 'f32' })
            const along = (f: (i: number) => number, n: number) => Array.from({ length: n }, (_, i) => f(i))
            const x = made(numbers, [4, D]).requireGrad()
            const w = made(
              along(i => 1 + i / 8, D),
              [D],
            ).requireGrad()
            const b = made(
              along(i => 0.5 - i / 8, D),
              [D],
            ).requireGrad()
            const y = layerNorm(x, w, b, 1e-5)
            const cotangent = made(
              along(i => Math.cos(2 * i), 4 * D),
              [4, D],
            )
            return [y, ...gradients(y, [x, w, b], { cotangent })].map(t => [...t.dataSync()])
          })
        const [y, gx, gw, gb] = on(wasm)
        const right = on(cpu)
        const near = (what: string, got: readonly number[], wanted: readonly number[], from = 0, to = got.length) => {
          const unit = Math.max(...wanted.slice(from, to).map(Math.abs))
          for (let i = from; i < to; i++)
            assert.ok(Math.abs(got[i] - wanted[i]) <= 2e-6 * unit, `${what}[${i}]: ${got[i]}, right is ${wanted[i]}`)
        }
        for (let row = 0; row < 4; row++) {
          near(`y, D ${D}`, y, right[0], row * D, (row + 1) * D)
          near(`gx, D ${D}`, gx, right[1], row * D, (row + 1) * D)
        }
        near(`gw, D ${D}`, gw, right[2])
        near(`gb, D ${D}`, gb, right[3])
      }
    })
}

test.after(() => {
  for (const wasm of Object.values(builds)) wasm.dispose()
})

test.run()

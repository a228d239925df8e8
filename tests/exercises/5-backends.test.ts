/** Solutions of docs/tour/5-backends.md. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Backend, cpu, matmul, ready, rng, setDefaultBackend, sum, tensor } from '../../core/index.ts'

/** A product with 1,031 terms, computed on a backend from the same f32 numbers. */
async function product(backend: Backend): Promise<Float32Array> {
  const [a, b] = [rng(1).normal([3, 1031], { backend }), rng(2).normal([1031, 5], { backend })]
  return (await matmul(a, b).data()) as Float32Array
}

test('1: backends agree as far as f32 goes, and not to the bit', async () => {
  const wide = { dtype: 'f64', backend: cpu } as const
  const exact = matmul(rng(1).normal([3, 1031], wide), rng(2).normal([1031, 5], wide)).dataSync()
  const wasm = await ready({ backend: 'wasm', threads: 1 })
  for (const backend of [cpu, wasm]) {
    const got = await product(backend)
    // n roundings of up to 2⁻²⁴ of a partial sum of size √n add up to √n · √n · 2⁻²⁴ where they fall at random.
    const worst = Math.max(...got.map((value, i) => Math.abs(value - exact[i])))
    assert.ok(worst < 1031 * 2 ** -24, `${backend.name}: ${worst}`)
    assert.ok(worst > 0, `${backend.name} rounds`)
  }
  wasm.dispose()
})

test('2: the order of a sum shows in its last bits, the number of threads does not', async () => {
  const terms = rng(3).normalArray(100_000)
  const add = (numbers: Iterable<number>) => {
    let total = 0
    for (const x of numbers) total = Math.fround(total + x)
    return total
  }
  assert.is.not(add(terms), add([...terms].reverse()))

  const sums: number[] = []
  for (const threads of [1, 2, 3]) {
    const backend = await ready({ backend: 'wasm', threads })
    sums.push(await sum(tensor(terms, { backend })).item())
    backend.dispose()
  }
  assert.equal(new Set(sums).size, 1, `sums on 1, 2 and 3 threads: ${sums}`)
  setDefaultBackend(cpu)
})

test.run()

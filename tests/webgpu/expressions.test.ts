/**
 * Elementwise kernels that wait on WebGPU: values of whole programs against `cpu` in f64, whatever is released, written in
 * place or read in between, and how many dispatches they take. Skipped without an adapter.
 */

import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  add,
  affine,
  assign,
  type Backend,
  clamp,
  copy,
  cpu,
  exp,
  full,
  lerp,
  less,
  mul,
  neg,
  rng,
  scope,
  square,
  sub,
  sum,
  type Tensor,
  tanh,
  tensor,
  where,
} from '../../core/index.ts'
import { close } from '../near.ts'
import { openWebGpu } from './device.ts'

const device = await openWebGpu()
const run = device === null ? test.skip : test
const dispatches = () => device!.device.counters().dispatches

const numbers = (seed: number, ...shape: number[]) => ({
  shape,
  values: Float32Array.from(rng(seed).normalArray(shape.reduce((a, b) => a * b, 1))),
})

function on(backend: Backend, { shape, values }: ReturnType<typeof numbers>): Tensor {
  return tensor(values, { shape, backend, dtype: backend === cpu ? 'f64' : 'f32' })
}

run('a chain of terms is one dispatch, which also writes what is still held', async () => {
  const x = on(device!, numbers(1, 4, 100))
  const before = dispatches()
  const kept: Tensor[] = []
  const y = scope(() => {
    const e = exp(neg(square(x)))
    kept.push(e.persist())
    return add(mul(e, 3), full([100], 1, { backend: device! }))
  })
  assert.is(dispatches(), before)
  const values = await y.data()
  assert.is(dispatches(), before + 1)
  const inner = await kept[0].data()
  assert.is(dispatches(), before + 1, 'the exponential was written along')
  numbers(1, 400).values.forEach((v, i) => {
    assert.ok(Math.abs(inner[i] - Math.exp(-v * v)) < 1e-6)
    assert.ok(Math.abs(values[i] - 3 * Math.exp(-v * v) - 1) < 3e-6)
  })
  for (const t of [x, y, ...kept]) t.dispose()
})

run('what is released is never computed', () => {
  const x = on(device!, numbers(2, 10))
  const before = dispatches()
  scope(() => void tanh(add(x, 1)))
  assert.is(dispatches(), before)
  x.dispose()
})

run('a result that waits keeps the values of before a write in place', async () => {
  const [x, other, zero] = [
    on(device!, numbers(3, 50)),
    on(device!, numbers(4, 50)),
    full([50], 0, { backend: device! }),
  ]
  const [y, z, c] = [add(x, 1), mul(zero, 2), copy(x)]
  assign([x, zero], [other, other])
  lerp([x], [zero], 0.5)
  const wanted = numbers(3, 50).values
  close(
    await y.data(),
    Float64Array.from(wanted, v => v + 1),
    1e-6,
    'y',
  )
  close(await c.data(), Float64Array.from(wanted), 0, 'c')
  close(await z.data(), new Float64Array(50), 0, 'z')
  close(await x.data(), Float64Array.from(numbers(4, 50).values), 1e-6, 'x')
  for (const t of [x, other, zero, y, z, c]) t.dispose()
})

run('sums of gradients that are needed together share dispatches and overwrite one operand', async () => {
  const pairs = Array.from({ length: 8 }, (_, i) => [
    on(device!, numbers(i, 30 + i)),
    on(device!, numbers(20 + i, 30 + i)),
  ])
  const totals = pairs.map(([a, b]) => add(a, b))
  for (const t of pairs.flat()) t.dispose()
  const { allocations } = device!.device.counters()
  const before = dispatches()
  await device!.device.settled()
  assert.is(dispatches() - before, 2) // of four sums each: b is read, and a overwritten
  assert.is(device!.device.counters().allocations, allocations)
  for (const [i, t] of totals.entries()) {
    const [a, b] = [numbers(i, 30 + i).values, numbers(20 + i, 30 + i).values]
    close(
      await t.data(),
      Float64Array.from(a, (v, k) => v + b[k]),
      1e-6,
      `sum ${i}`,
    )
    t.dispose()
  }
})

run('more operands and terms than a shader takes', async () => {
  const xs = Array.from({ length: 20 }, (_, i) => on(device!, numbers(i, 33)))
  const y = scope(() => xs.reduce((total, x) => add(total, square(x))))
  const wanted = new Float64Array(33)
  for (let i = 0; i < 20; i++) for (const [k, v] of numbers(i, 33).values.entries()) wanted[k] += i === 0 ? v : v * v
  close(await y.data(), wanted, 1e-5, 'y')
  for (const t of [...xs, y]) t.dispose()
})

/** A step of a random program: an op on tensors chosen by two numbers, or something that happens to one of them. */
const steps = fc.array(fc.tuple(fc.nat(11), fc.nat(40), fc.nat(40)), { minLength: 3, maxLength: 40 })
const [N, T, D] = [3, 4, 5]

/** The tensors that a random program leaves. All have values within ±4. */
function program(backend: Backend, script: readonly (readonly [number, number, number])[]): Tensor[] {
  const live = [[N, T, D], [N, 1, 1], [1, T, D], [], [1, T, 1], [N, 1, D]].map((shape, i) =>
    on(backend, numbers(i, ...shape)),
  )
  const bounded = (x: Tensor) => clamp(x, -4, 4)
  for (const [op, i, j] of script) {
    const [a, b] = [live[i % live.length], live[j % live.length]]
    const made = scope((): Tensor | null => {
      if (op === 0) return bounded(add(a, b))
      if (op === 1) return bounded(mul(a, b))
      if (op === 2) return bounded(sub(a, b))
      if (op === 3) return tanh(a)
      if (op === 4) return affine(a, 0.5, 0.25)
      if (op === 5) return where(less(a, b), a, b)
      if (op === 6) return copy(a)
      if (op === 7) return bounded(affine(sum(a), 0.01, 0))
      if (op === 8) return full(a.shape, (i % 7) / 4, { backend, dtype: a.dtype })
      if (op === 9) return neg(a)
      return null
    })
    if (made !== null) live.push(made)
    else if (op === 10 && live.length > 6) live.splice(6 + (i % (live.length - 6)), 1)[0].dispose()
    else if (op === 11) {
      const same = live.find(x => x !== a && x.storage !== a.storage && `${x.shape}` === `${a.shape}`)
      if (same !== undefined) assign([a], [same])
    }
  }
  return live
}

run('random programs leave the values of cpu', async () => {
  const before = device!.stats()
  await fc.assert(
    fc.asyncProperty(steps, async script => {
      const [ours, exact] = [program(device!, script), program(cpu, script)]
      for (const [i, t] of ours.entries()) close(await t.data(), exact[i].dataSync(), 2e-4, `tensor ${i}`)
      for (const t of [...ours, ...exact]) t.dispose()
    }),
    { numRuns: 60, seed: 3 },
  )
  assert.is(device!.stats().bytes, before.bytes)
})

test.after(() => device?.dispose())

test.run()

/**
 * The one walk over all ops: every op × every sample × every backend. Values and first derivatives against `cpu` in f64,
 * derivatives of both orders in f64 against differences, fused against decomposed, integers exactly, and no bytes left
 * behind. A new op is tested by being registered. A failure names op, sample and backend.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { gpu } from '../core/backends/gpu/index.ts'
import { createWasm } from '../core/backends/wasm/index.ts'
import { type Checked, gradcheck, gradcheck2, project, runs } from '../core/gradcheck.ts'
import {
  add,
  type Backend,
  cast,
  cpu,
  type DType,
  gradients,
  mul,
  noGrad,
  registry,
  scope,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
} from '../core/index.ts'
import { type AnyOp, erase, type Sample } from '../core/op.ts'
import { rng } from '../core/random.ts'
import { sampler } from '../core/samples.ts'

const backends: Record<string, Backend> = {
  'cpu f32': cpu,
  wasm: await createWasm({ threads: 2 }),
  'wasm simd': await createWasm({ threads: 1, build: 'simd' }),
  gpu: await gpu(),
}

/** Ops that mean something for integers, and are exact there. */
const inIntegers = [
  /^(add|sub|mul|maximum|minimum|equal|less|lessEqual|neg|abs|sign|square|relu|where|sum|max|min|matmul)$/,
  /^(reshape|permute|broadcastTo|slice|pad|concat|copy|gather|scatterAdd)$/,
]

const samplesOf = (op: AnyOp): readonly Sample[] => scope(() => erase(op).samples(sampler(7)))
const describe = (x: readonly Tensor[]) => x.map(t => `${t.dtype}[${t.shape}]`).join(' ')
const sizeOf = (t: Tensor) => Math.max(1, t.size)

type Values = ArrayLike<number>

/** Values of an op on a sample, and the gradients of Σ u ⊙ values by the float inputs, as handles without a graph. */
function evaluate(op: AnyOp, f: Checked, x: readonly Tensor[]): { ys: Tensor[]; gs: Tensor[] } {
  const isFloat = (t: Tensor) => t.dtype !== 'i32'
  if (erase(op).differentiable === 'none' || !x.some(isFloat)) return { ys: noGrad(() => [f(...x)].flat()), gs: [] }
  const leaves = x.map(t => (isFloat(t) ? t.requireGrad() : t))
  const ys = [f(...leaves)].flat()
  const random = rng(3)
  const u = ys.map(y => tensor(random.normalArray(y.size), { shape: y.shape, dtype: y.dtype, backend: y.backend }))
  const gs = ys.every(isFloat) ? gradients(project(ys, u), leaves.filter(isFloat)) : []
  return { ys: ys.map(y => y.detach()), gs }
}

/** A sample on another backend, its f64 values in f32. */
function moved(x: Tensor, backend: Backend): Tensor {
  return tensor(x.dataSync(), { shape: x.shape, dtype: x.dtype === 'f64' ? 'f32' : x.dtype, backend })
}

/** Where got is furthest from wanted, in units of limit · max(1, |wanted|). Not a number is infinitely far. */
function distance(got: Values, wanted: Values, limit: number): number {
  if (got.length !== wanted.length) return Infinity
  let worst = 0
  for (let i = 0; i < got.length; i++) {
    const error = Object.is(got[i], wanted[i]) ? 0 : Math.abs(got[i] - wanted[i])
    const units = error / (limit * Math.max(1, Math.abs(wanted[i])))
    if (!(units <= worst)) worst = Number.isNaN(units) ? Infinity : units
  }
  return worst
}

/** Compares an op on one backend with the reference. Returns what is wrong. */
async function compare(op: AnyOp, sample: Sample, f: Checked, backend: Backend): Promise<string[]> {
  const reference = scope(() => {
    const { ys, gs } = evaluate(op, f, sample.x)
    return [...ys, ...gs].map(t => ({ values: t.dataSync(), exact: t.dtype === 'i32' }))
  })
  const before = backend.stats()
  const results = scope(() => {
    const inputs = sample.x.map(x => moved(x, backend))
    const { ys, gs } = evaluate(op, f, inputs)
    return [...ys, ...gs]
  })
  const found: string[] = []
  const longest = Math.max(...sample.x.map(sizeOf), ...results.map(sizeOf))
  for (let i = 0; i < results.length; i++) {
    const { values, exact } = reference[i]
    // Each element of a result stands for at most this many that were summed.
    const summed = longest / sizeOf(results[i])
    const limit = exact ? Number.MIN_VALUE : 1e-5 * Math.sqrt(summed)
    const units = distance(await results[i].data(), values, limit)
    if (units > 1) found.push(`result ${i}: ${units.toPrecision(3)} × the tolerance ${limit.toExponential(1)}`)
  }
  for (const t of results) t.dispose()
  const { bytes, fallbacks } = backend.stats()
  if (bytes !== before.bytes) found.push(`${bytes - before.bytes} bytes left behind`)
  if (fallbacks !== before.fallbacks) found.push(`${fallbacks - before.fallbacks} kernels ran on a fallback loop`)
  return found
}

/** What an op gives when the first element of its first float input is not a number. Returns what is wrong. */
async function comparePoisoned(f: Checked, { x }: Sample, backend: Backend): Promise<string[]> {
  const hit = x.findIndex(t => t.dtype !== 'i32')
  if (hit < 0) return []
  const run = (move: (t: Tensor) => Tensor) =>
    scope(() => {
      const values = x[hit].dataSync()
      values[0] = Number.NaN
      const poisoned = tensor(values, { shape: x[hit].shape, dtype: 'f64', backend: cpu })
      return noGrad(() => [f(...x.with(hit, poisoned).map(move))].flat().map(y => y.detach()))
    })
  const [got, wanted] = [run(t => moved(t, backend)), run(t => t)]
  const found: string[] = []
  for (let i = 0; i < got.length; i++) {
    const [values, reference] = [await got[i].data(), wanted[i].dataSync()]
    const wrong = values.findIndex((v, k) => Number.isNaN(v) !== Number.isNaN(reference[k]))
    if (wrong >= 0) found.push(`NaN in: wanted ${reference[wrong]} at element ${wrong}, got ${values[wrong]}`)
  }
  for (const t of [...got, ...wanted]) t.dispose()
  return found
}

/** What an op gives for whole numbers in i32, against the same in f64. Returns what is wrong. */
async function compareIntegers(f: Checked, { x }: Sample, backend: Backend): Promise<string[]> {
  const whole = x.map(t => t.dataSync().map(v => Math.round(t.dtype === 'i32' ? v : 8 * v)))
  const run = (on: Backend, dtype: DType) => {
    const inputs = () =>
      x.map((t, i) => tensor(whole[i], { shape: t.shape, dtype: t.dtype === 'i32' ? 'i32' : dtype, backend: on }))
    return scope(() => noGrad(() => f(...inputs()))) as Tensor
  }
  const [got, wanted] = [run(backend, 'i32'), run(cpu, 'f64')]
  const [values, reference] = [await got.data(), wanted.dataSync().map(Math.trunc)]
  const wrong = values.findIndex((v, i) => v !== reference[i])
  const found = wrong < 0 ? [] : [`i32 element ${wrong}: wanted ${reference[wrong]}, got ${values[wrong]}`]
  got.dispose()
  wanted.dispose()
  return found
}

/** Tells all failures of an op at once. */
function report(found: readonly string[]): void {
  assert.ok(found.length === 0, `\n${found.join('\n')}`)
}

for (const op of registry().values()) {
  const record = erase(op)

  test(`${op.name}: derivatives against differences, fused against decomposed, in f64`, () => {
    const found: string[] = []
    const bytes = cpu.stats().bytes
    scope(() => {
      for (const sample of samplesOf(op)) {
        const f = runs(op, sample)
        const say = (what: string, error: number) =>
          found.push(`${op.name} ${describe(sample.x)}: ${what} ${error.toExponential(1)}`)
        const first = record.differentiable === 'none' ? undefined : gradcheck(f, sample.x)
        const second = record.differentiable === undefined ? gradcheck2(f, sample.x) : undefined
        if (first !== undefined && !(first <= 1e-6)) say('first derivative', first)
        if (second !== undefined && !(second <= 1e-6)) say('second derivative', second)
        if (record.decompose === undefined) continue
        const fused = [f(...sample.x)].flat()
        const plain = [record.decompose(sample.x, sample.attrs)].flat()
        fused.forEach((y, i) => {
          const units = distance(y.dataSync(), plain[i].dataSync(), 1e-10)
          if (units > 1) say(`result ${i} differs from the decomposition by`, units * 1e-10)
        })
      }
    })
    report(found)
    assert.is(cpu.stats().bytes, bytes, 'bytes left behind')
  })

  for (const [name, backend] of Object.entries(backends))
    test(`${op.name} on ${name}`, async () => {
      const found: string[] = []
      const bytes = cpu.stats().bytes
      const samples = samplesOf(op)
      for (const sample of samples) {
        const wrong = await compare(op, sample, runs(op, sample), backend)
        wrong.push(...(await comparePoisoned(runs(op, sample), sample, backend)))
        if (inIntegers.some(names => names.test(op.name)))
          wrong.push(...(await compareIntegers(runs(op, sample), sample, backend)))
        found.push(...wrong.map(what => `${op.name} ${describe(sample.x)} on ${name}: ${what}`))
      }
      for (const { x } of samples) for (const t of x) t.dispose()
      report(found)
      assert.is(cpu.stats().bytes, bytes, 'bytes left behind on cpu')
    })

  test(`${op.name} has samples with a size-1 axis, an odd size and a long axis`, () => {
    scope(() => {
      const sizes = samplesOf(op).flatMap(sample => {
        const results = noGrad(() => [runs(op, sample)(...sample.x)].flat())
        return [...sample.x, ...results].flatMap(t => t.shape)
      })
      // Attention over 1,000 tokens would have a million scores a head: its longest sample has 67.
      const long = op.name.startsWith('selfAttention') ? 64 : 1000
      assert.ok(sizes.includes(1), 'no axis of size 1')
      assert.ok(sizes.filter(n => n > 1 && n % 2 === 1).length > 0, 'no odd size')
      assert.ok(sizes.filter(n => n > long).length > 0, `no axis longer than ${long}`)
    })
  })
}

test('gradcheck sees a wrong gradient: of first order, of one element among many, of second order', () => {
  scope(() => {
    const x = sampler(1)(3, 5)
    const once = (x: Tensor) => mul(x, x.detach()) // x², of which the tape sees one factor
    const mask = tensor(
      Float64Array.from({ length: 15 }, (_, i) => (i === 7 ? 1 : 0)),
      { shape: [3, 5], dtype: 'f64', backend: cpu },
    )
    assert.ok(gradcheck(square, [x])! < 1e-9)
    assert.ok(gradcheck(once, [x])! > 0.1)
    assert.ok(gradcheck(x => add(square(x), mul(mask, sub(once(x), square(x)))), [x])! > 1e-3)
    // x³ with the right gradient, which the tape takes for linear in x.
    const flat = (x: Tensor) => sub(mul(square(x.detach()), mul(x, 3)), mul(mul(x, square(x)).detach(), 2))
    assert.ok(gradcheck2(x => mul(x, square(x)), [x])! < 1e-9)
    assert.ok(gradcheck2(flat, [x])! > 0.1)
  })
})

test('cast hands a gradient back in the dtype that it came from', () => {
  scope(() => {
    const x = sampler(1)(3).requireGrad()
    const [g] = gradients(sum(mul(cast(x, 'f32'), 2)), [x])
    assert.equal(g.dataSync(), Float64Array.of(2, 2, 2))
  })
})

test.after(() => {
  for (const backend of Object.values(backends)) backend.dispose()
})

test.run()

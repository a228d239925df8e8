/**
 * The walk over all ops on one backend: every op × every sample: values and first derivatives against `cpu` in f64,
 * integers exactly, what is not a number, and no bytes left behind. A failure names op, sample and backend.
 * Used by registry.test.ts and webgpu/registry.test.ts.
 */

import * as assert from 'uvu/assert'
import { type Checked, project, runs } from '../../core/gradcheck.ts'
import { type Backend, cpu, type DType, gradients, noGrad, scope, type Tensor, tensor } from '../../core/index.ts'
import { type AnyOp, type Sample, untyped } from '../../core/op.ts'
import { rng } from '../../core/random.ts'
import { sampler } from '../../core/samples.ts'

export const samplesOf = (op: AnyOp): readonly Sample[] => scope(() => untyped(op).samples(sampler(7)))
export const describe = (x: readonly Tensor[]) => x.map(t => `${t.dtype}[${t.shape}]`).join(' ')
const sizeOf = (t: Tensor) => Math.max(1, t.size)

type Values = ArrayLike<number>

/** Values of an op on a sample, and the gradients of Σ u ⊙ values by the float inputs, as handles without a graph. */
function evaluate(op: AnyOp, f: Checked, x: readonly Tensor[]): { ys: Tensor[]; gs: Tensor[] } {
  const isFloat = (t: Tensor) => t.dtype !== 'i32'
  if (untyped(op).differentiable === 'none' || !x.some(isFloat)) return { ys: noGrad(() => [f(...x)].flat()), gs: [] }
  const leaves = x.map(t => (isFloat(t) ? t.detach().requireGrad() : t))
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
export function distance(got: Values, wanted: Values, limit: number): number {
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

/** Runs an op with a NaN as the first element of its first float input. Returns the differences from cpu. */
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
    if (wrong >= 0) found.push(`NaN in: expected ${reference[wrong]} at element ${wrong}, got ${values[wrong]}`)
  }
  for (const t of [...got, ...wanted]) t.dispose()
  return found
}

/** Runs an op on i32, against the same in f64, or expects it to refuse i32. Returns what is wrong. */
async function compareIntegers(op: AnyOp, { x, attrs }: Sample, backend: Backend): Promise<string[]> {
  const f = runs(op, { x, attrs: wholeNumbers(attrs) })
  const whole = x.map(t => t.dataSync().map(v => Math.round(t.dtype === 'i32' ? v : 8 * v)))
  const run = (on: Backend, dtype: DType) => {
    const inputs = () =>
      x.map((t, i) => tensor(whole[i], { shape: t.shape, dtype: t.dtype === 'i32' ? 'i32' : dtype, backend: on }))
    return scope(() => noGrad(() => [f(...inputs())].flat()))
  }
  if (untyped(op).integers !== true) {
    const wanted = `${op.name}: expected a float dtype, got i32; convert with to(x, { dtype: 'f32' })`
    return refusal(() => run(backend, 'i32')) === wanted ? [] : ['does not refuse i32']
  }
  const [got, wanted] = [run(backend, 'i32'), run(cpu, 'f64')]
  const found: string[] = []
  for (let i = 0; i < got.length; i++) {
    const { dtype } = got[i]
    if (x.every(t => t.dtype !== 'i32') && dtype !== 'i32' && op.name !== 'cast') found.push(`${dtype} of i32`)
    const [values, reference] = [await got[i].data(), wanted[i].dataSync().map(Math.trunc)]
    const wrong = values.findIndex((v, k) => v !== reference[k])
    if (wrong >= 0) found.push(`i32 element ${wrong}: expected ${reference[wrong]}, got ${values[wrong]}`)
  }
  for (const t of [...got, ...wanted]) t.dispose()
  return found
}

/** Attributes whose numbers are rounded: 2 for 1.5. */
function wholeNumbers(attrs: unknown): unknown {
  const rounded = ([key, value]: [string, unknown]) => [key, typeof value === 'number' ? Math.round(value) : value]
  return Object.fromEntries(Object.entries(attrs as object).map(rounded))
}

/** The message of the error that `f` throws; null if it throws none. */
function refusal(f: () => unknown): string | null {
  try {
    f()
    return null
  } catch (error) {
    return (error as Error).message
  }
}

/** Tells all failures of an op at once. */
export function report(found: readonly string[]): void {
  assert.ok(found.length === 0, `\n${found.join('\n')}`)
}

/** Runs all samples of an op on a backend. Throws an assertion with a line for all that is wrong. */
export async function walk(op: AnyOp, name: string, backend: Backend): Promise<void> {
  const found: string[] = []
  const bytes = cpu.stats().bytes
  const samples = samplesOf(op)
  for (const sample of samples) {
    const wrong = await compare(op, sample, runs(op, sample), backend)
    wrong.push(...(await comparePoisoned(runs(op, sample), sample, backend)))
    wrong.push(...(await compareIntegers(op, sample, backend)))
    found.push(...wrong.map(what => `${op.name} ${describe(sample.x)} on ${name}: ${what}`))
  }
  for (const { x } of samples) for (const t of x) t.dispose()
  report(found)
  assert.is(cpu.stats().bytes, bytes, 'bytes left behind on cpu')
}

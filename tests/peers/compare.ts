/**
 * Runs a case on a backend and compares it with PyTorch: results, gradients of Σ cotangent · y, and gradients of
 * Σ direction · gradient. Errors are measured against PyTorch's f64. In f32 an error as large as four times PyTorch's
 * own f32 error is right as well.
 */

import { createWasm } from '../../core/backends/wasm/index.ts'
import {
  add,
  type Backend,
  cpu,
  type DType,
  gradients,
  mul,
  scope,
  sum,
  type Tensor,
  tensor,
} from '../../core/index.ts'
import { sameShape, show } from '../../core/shape.ts'
import { type Call, calls } from './calls.ts'
import { type Argument, type Case, type Cases, type Quantity, quantities, type Stored } from './cases.ts'

/** A backend and the dtype of its floats. */
export interface Place {
  readonly backend: Backend
  readonly dtype: DType
}

/** Where cases are compared. */
export async function places(): Promise<Readonly<Record<string, Place>>> {
  return {
    'cpu f64': { backend: cpu, dtype: 'f64' },
    'cpu f32': { backend: cpu, dtype: 'f32' },
    wasm: { backend: await createWasm({ threads: 2 }), dtype: 'f32' },
  }
}

/** Kind of a difference: it threw, has another shape, is (not) a number, is (not) infinite, or is another number. */
export type Kind = 'threw' | 'shape' | 'nan' | 'infinite' | 'value'

export interface Difference {
  readonly op: string
  readonly tag: string
  readonly quantity: Quantity
  readonly kind: Kind
  readonly dtype: DType
  /** One line: what was expected and got, and where. */
  readonly text: string
}

export interface Outcome {
  readonly compared: number
  readonly differences: readonly Difference[]
}

/** All cases on a place. Those of integers are compared on the places of f32. */
export function compareAll(cases: Cases, place: Place): Outcome {
  const ofIntegers = ({ operands }: Case) => operands.every(([dtype]) => dtype === 'i32')
  const compared = cases.cases.filter(given => place.dtype === 'f32' || !ofIntegers(given))
  return { compared: compared.length, differences: compared.flatMap(given => compareCase(cases, given, place)) }
}

type Numbers = ArrayLike<number>

/** Differences of a case on a place: none if all is right. */
export function compareCase(cases: Cases, given: Case, { backend, dtype }: Place): Difference[] {
  const found: Difference[] = []
  const differ = (quantity: Quantity, kind: Kind, text: string) =>
    found.push({ op: given.op, tag: given.tag, quantity, kind, dtype, text })
  let quantity: Quantity = 'values'
  try {
    scope(() => {
      const results = run(cases, given, { backend, dtype })
      for (quantity of quantities) {
        const wanted = given[quantity]
        if (wanted === undefined || wanted === null) continue
        const got = results[quantity]()
        const single = given[`${quantity}32`] ?? undefined
        if (got.length !== wanted.length) {
          differ(quantity, 'shape', `${got.length} tensors, not ${wanted.length}`)
          continue
        }
        for (const [i, y] of got.entries()) {
          const at = `${quantity} ${i}`
          if (!sameShape(y.shape, wanted[i][1])) {
            differ(quantity, 'shape', `${at}: expected ${show(wanted[i][1])}, got ${show(y.shape)}`)
            continue
          }
          const limit = limitOf(given, quantity, dtype)
          const worst = compareNumbers(y.dataSync(), cases.read(wanted[i]), single && cases.read(single[i]), limit)
          if (worst !== null) differ(quantity, worst.kind, `${at}: ${worst.text}`)
        }
      }
    })
  } catch (error) {
    differ(quantity, 'threw', (error as Error).message)
  }
  return found
}

/** The results of a case on a place, one quantity after the other. */
function run(cases: Cases, given: Case, { backend, dtype }: Place): Record<Quantity, () => readonly Tensor[]> {
  const make = (stored: Stored) =>
    tensor(cases.read(stored), { shape: stored[1], dtype: stored[0] === 'i32' ? 'i32' : dtype, backend })
  const operands = given.operands.map(make)
  const floats = given.random === undefined ? [] : operands.filter(x => x.dtype !== 'i32').map(x => x.requireGrad())
  const constants = given.constants.map(make)
  const call = calls[given.call] as (...args: unknown[]) => ReturnType<Call>
  const ys = [call(...given.args.map(arg => argumentOf(arg, operands, constants)))].flat()
  const cotangents = given.random?.cotangents.map(c => make(c).requireGrad()) ?? []
  const directions = given.random?.directions.map(make) ?? []
  let first: Tensor[] = []
  return {
    values: () => ys,
    first: () => {
      first = gradients(project(ys, cotangents), floats, { createGraph: given.second !== undefined })
      return first
    },
    second: () => gradients(project(first, directions), [...floats, ...cotangents]),
  }
}

/** Σ u ⊙ y over all tensors. */
function project(ys: readonly Tensor[], us: readonly Tensor[]): Tensor {
  return ys.map((y, i) => sum(mul(y, us[i]))).reduce((a, b) => add(a, b))
}

function argumentOf(arg: Argument, operands: readonly Tensor[], constants: readonly Tensor[]): unknown {
  if (arg === null || typeof arg !== 'object') return arg
  if (Array.isArray(arg)) return arg.map(item => argumentOf(item, operands, constants))
  if ('operand' in arg) return operands[arg.operand]
  if ('constant' in arg) return constants[arg.constant]
  if ('number' in arg) return Number(arg.number)
  const { options } = arg as { options: Record<string, Argument> }
  return Object.fromEntries(Object.entries(options).map(([key, item]) => [key, argumentOf(item, operands, constants)]))
}

/** Scale of an error. */
interface Limit {
  /** Relative error. */
  readonly relative: number
  /** An error is relative to the element, or to the largest one. */
  readonly elementwise: boolean
  readonly dtype: DType
}

// A sum of n terms in f32 errs by about √n roundings of the largest; a derivative has more steps than a value.
function limitOf({ elementwise, operands }: Case, quantity: Quantity, dtype: DType): Limit {
  const n = Math.max(1, ...operands.map(([, shape]) => shape.reduce((a, b) => a * b, 1)))
  const steps = { values: 1, first: 8, second: 32 }[quantity] * (elementwise ? 8 : 4 + Math.sqrt(n))
  const single = elementwise && quantity !== 'values' ? false : elementwise
  return { relative: dtype === 'f32' ? steps * 2 ** -23 : dtype === 'f64' ? 1e-10 : 0, elementwise: single, dtype }
}

/** The worst difference, or null. `single` is PyTorch's own f32 result. */
function compareNumbers(
  got: Numbers,
  wanted: Numbers,
  single: Numbers | undefined,
  { relative, elementwise, dtype }: Limit,
): { readonly kind: Kind; readonly text: string } | null {
  const round = dtype === 'f32' ? Math.fround : (x: number) => x
  let [largest, singleError] = [0, 0]
  for (let i = 0; i < wanted.length; i++) {
    if (Number.isFinite(wanted[i])) largest = Math.max(largest, Math.abs(wanted[i]))
    const error = single === undefined ? Number.NaN : Math.abs(single[i] - wanted[i])
    if (Number.isFinite(error)) singleError = Math.max(singleError, error)
  }
  let [worst, count, at] = [null as Kind | null, 0, 0]
  for (let i = 0; i < wanted.length; i++) {
    const [g, w] = [got[i], round(wanted[i])]
    if (g === w || (Number.isNaN(g) && Number.isNaN(w))) continue
    if (dtype === 'f32' && single !== undefined && Object.is(g, single[i])) continue
    const kind: Kind =
      Number.isNaN(g) !== Number.isNaN(w) ? 'nan' : Number.isFinite(g) && Number.isFinite(w) ? 'value' : 'infinite'
    if (kind === 'value') {
      const error = Math.abs(g - wanted[i])
      const smallest = dtype === 'f32' ? 2 ** -148 : 0 // two steps of a subnormal
      if (error <= relative * (elementwise ? Math.abs(w) : largest) + smallest) continue
      if (dtype === 'f32' && single !== undefined) {
        const own = elementwise ? Math.abs(single[i] - wanted[i]) : singleError
        if (error <= 4 * own) continue
      }
    }
    if (worst === null || (worst === 'value' && kind !== 'value')) [worst, at] = [kind, i]
    count++
  }
  if (worst === null) return null
  const own = single === undefined ? '' : `, PyTorch's f32 ${single[at]}`
  return {
    kind: worst,
    text: `${count} of ${wanted.length} elements, at ${at} expected ${wanted[at]}, got ${got[at]}${own}`,
  }
}

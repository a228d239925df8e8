/**
 * Wrong calls of public functions: from one right call of each, every argument is replaced by values of other kinds, left
 * out, or given an unknown option. Each wrong call must throw one line that begins with the function's name. Used by
 * wrong-calls.test.ts here and in the other rooms. Needs Node.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { test as uvuTest } from 'uvu'
import * as assert from 'uvu/assert'
import { isTensor } from '../../core/arguments.ts'
import { cpu, type Tensor, tensor } from '../../core/index.ts'

/** A right call: a function, and the arguments it is given. */
export interface RightCall {
  readonly call: (...args: never[]) => unknown
  readonly args: () => readonly unknown[]
  /** Wrong calls that are right after all, as `label` names them. */
  readonly accepts?: readonly string[]
  /** Wrong calls whose error begins with the value, a path where nothing is. */
  readonly paths?: readonly string[]
}

/** A float tensor on `cpu`, and one of i32. */
export const floats = (...shape: number[]): Tensor =>
  tensor(new Float32Array(size(shape)).fill(0.5), { shape, backend: cpu })
export const ints = (...shape: number[]): Tensor =>
  tensor(new Int32Array(size(shape)), { shape, dtype: 'i32', backend: cpu })

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

function disposed(): Tensor {
  const x = floats(2)
  x.dispose()
  return x
}

/** Values of another kind than `right`, by the name that a label gives them. */
function othersThan(right: unknown): Record<string, unknown> {
  const any = { null: null, object: { unknownOption: 1 } }
  if (isTensor(right)) return { ...any, undefined, string: 'text', number: 3, array: [1, 2], disposed: disposed() }
  if (right === null) return { object: any.object, string: 'text', number: 3, array: [1, 2], disposed: disposed() }
  if (typeof right === 'number') {
    const own = { ...any, string: 'text', array: [1], tensor: floats(2) }
    return Number.isInteger(right) ? { ...own, NaN: Number.NaN, fraction: 1.25 } : own
  }
  if (typeof right === 'string') return { ...any, string: 'unknown', number: 3 }
  if (typeof right === 'boolean') return { ...any, string: 'text', number: 3 }
  if (typeof right === 'function') return { ...any, undefined, string: 'text', number: 3 }
  if (Array.isArray(right)) {
    const item = right[0]
    const items = isTensor(item)
      ? { ofUndefined: [undefined], ofDisposed: [disposed()], tensor: floats(2) }
      : typeof item === 'number'
        ? { ofNaN: right.map(() => Number.NaN), ofStrings: right.map(() => 'a') }
        : {}
    return { ...any, string: 'text', number: 1.25, ...items }
  }
  if (ArrayBuffer.isView(right)) return { ...any, string: 'text', number: 3 }
  return { ...any, string: 'text', number: 3 } // options, and objects such as backends
}

/** Tensors that do not go with the others of a call. */
function misfits(x: Tensor, all: readonly Tensor[]): [string, Tensor][] {
  const { shape, dtype } = x
  if (all.length === 1) return []
  const other = dtype === 'i32' ? 'f32' : 'f64'
  const alike = dtype === 'i32' || all.some(t => t !== x && t.dtype === dtype)
  return [
    ...(alike
      ? [[other, tensor(new Float64Array(size(shape)), { shape, dtype: other, backend: cpu })] as [string, Tensor]]
      : []),
    ['shape', dtype === 'i32' ? ints(7, 11, 13) : floats(7, 11, 13)],
  ]
}

/** The wrong calls that follow from a right one: a label, and what makes the arguments. */
function wrongCalls({ call, args }: RightCall): [string, () => readonly unknown[]][] {
  const right = args()
  const found: [string, () => readonly unknown[]][] = []
  const replace = (i: number, label: string, other: unknown) => found.push([label, () => args().with(i, other)])
  for (const [i, value] of right.entries()) {
    if (isTensor(value))
      for (const [name, other] of misfits(value, right.filter(isTensor))) replace(i, `${i} ${name}`, other)
    for (const [name, other] of Object.entries(othersThan(value))) replace(i, `${i} ${name}`, other)
    if (!isPlain(value)) continue
    for (const [key, own] of Object.entries(value)) {
      const wrong = isTensor(own) ? 'text' : typeof own === 'string' ? 'unknown' : { of: 'another kind' }
      replace(i, `${i}.${key}`, { ...value, [key]: wrong })
    }
  }
  for (let n = 0; n < call.length; n++) found.push([`${n} arguments`, () => args().slice(0, n)])
  return found
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.getPrototypeOf(value) === Object.prototype &&
    !('kernels' in value)
  )
}

const native = /Cannot read|Cannot destructure|is not a function|not iterable|is not defined|is not a constructor/

/** True if an error begins with the function's name, or that of a file. */
function isNamed(message: string, name: string, byPath: boolean): boolean {
  return byPath ? /^unknown\b|^ENOENT: .*'unknown'$/.test(message) : message.startsWith(`${name}: `)
}

/** Returns the bad answers to the wrong calls of `name`: silence, another name, or the engine's own message. */
export async function badAnswers(name: string, right: RightCall): Promise<string[]> {
  const bad: string[] = []
  const accepted = new Set(right.accepts)
  const paths = new Set(right.paths)
  for (const [label, args] of wrongCalls(right)) {
    let message: string | null = null
    try {
      await (right.call as (...args: readonly unknown[]) => unknown)(...args())
    } catch (error) {
      message = (error as Error).message
    }
    if (accepted.delete(label)) {
      if (message !== null) bad.push(`${name} (${label}): expected no error, got ${message}`)
    } else if (message === null) bad.push(`${name} (${label}): no error`)
    else if (!isNamed(message, name, paths.delete(label)) || message.includes('\n') || native.test(message))
      bad.push(`${name} (${label}): ${message}`)
  }
  for (const label of [...accepted, ...paths]) bad.push(`${name} (${label}): no such wrong call`)
  return bad
}

/** A test for each function: its right call runs, and its wrong calls are answered. */
export function testCalls(test: typeof uvuTest, calls: Readonly<Record<string, RightCall>>): void {
  for (const [name, right] of Object.entries(calls))
    test(`${name} answers wrong calls`, async () => {
      await (right.call as (...args: readonly unknown[]) => unknown)(...right.args())
      assert.equal(await badAnswers(name, right), [])
    })
}

/**
 * Makes a folder the working directory of a file of tests, so that a path that is only a name, as wrong calls have, is
 * written there. It is removed after the tests. Returns the directory before.
 */
export function workInOwnFolder(test: typeof uvuTest, room: string): string {
  const before = process.cwd()
  const folder = mkdtempSync(join(tmpdir(), `demask-${room}-`))
  process.chdir(folder)
  test.after(() => {
    process.chdir(before)
    rmSync(folder, { recursive: true })
  })
  test.before.each(() => rmSync('unknown', { recursive: true, force: true }))
  return before
}

/** A constructor as a function that needs as many arguments. */
export function constructing(Class: RightCall['call']): RightCall['call'] {
  const call = (...args: unknown[]) => Reflect.construct(Class, args)
  return Object.defineProperty(call, 'length', { value: Class.length })
}

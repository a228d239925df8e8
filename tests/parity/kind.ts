/**
 * Interface of fixture kinds: a function from a fixture and where to compute to values by key. A kind named
 * `k` is the file `kinds/k.ts`, which exports `compute`. Keys are those of the fixture (`out.forward`, `grad.w`, …), and
 * `scalar.…` for the manifest's scalars, so `scalar.loss` or `scalar.param_count.total`.
 */

import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Tensor } from '../../core/index.ts'
import type { Shape } from '../../core/shape.ts'
import type { Fixture, Run } from './fixture.ts'

/** Elements on the host; a number is a scalar. */
export type Value = Tensor | number | { readonly data: ArrayLike<number>; readonly shape: Shape }

/** A value, or what computes it: run only when the fixture holds the key and the run checks it. */
export type Computed = Value | (() => Value | Promise<Value>)
export type Results = Map<string, Computed>
export type Kind = (fixture: Fixture, run: Run) => Results | Promise<Results>

const folder = new URL('./kinds/', import.meta.url)

/** The kinds that can be run. */
export function knownKinds(): string[] {
  return readdirSync(fileURLToPath(folder))
    .filter(file => file.endsWith('.ts'))
    .map(file => file.slice(0, -'.ts'.length))
    .sort()
}

/** The kind of that name. Throws on an unknown one. */
export async function loadKind(name: string): Promise<Kind> {
  const known = knownKinds()
  if (!known.includes(name)) throw new Error(`unknown fixture kind '${name}'; known: ${known.join(', ')}`)
  const { compute } = (await import(new URL(`${name}.ts`, folder).href)) as { compute: Kind }
  return compute
}

/** Runs f at its first call and remembers the result: for values that several keys are made of. */
export function once<T>(f: () => T): () => T {
  let done: { value: T } | undefined
  return () => {
    done ??= { value: f() }
    return done.value
  }
}

/** Results named `${prefix}<number>`, as `out.cfg_pow4.0` is, with that number; a `_f32cast` behind it is left out. */
export function numbered(fixture: Fixture, prefix: string): Map<string, number> {
  const found = new Map<string, number>()
  for (const name of fixture.names(prefix)) {
    const digits = /^(\d+(?:\.\d+)?)(?:_f32(?:cast)?)?$/.exec(name)?.[1]
    if (digits !== undefined) found.set(prefix + digits, Number(digits))
  }
  return found
}

/** Elements and shape of a value, on the host. */
export async function onHost(value: Value): Promise<{ data: ArrayLike<number>; shape: Shape }> {
  if (typeof value === 'number') return { data: [value], shape: [] }
  if (value instanceof Tensor) return { data: await value.data(), shape: value.shape }
  return value
}

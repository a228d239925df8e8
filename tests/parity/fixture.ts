/**
 * A fixture folder: numbers made with a reference implementation. `fixture.safetensors` holds `param.*`, `in.*` (what
 * goes in, random draws included) and results (every other key); `manifest.json` says the kind, the configuration and
 * scalars. Reads are recorded, so that unused inputs can be reported. Needs Node.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Backend, type Tensor, tensor } from '../../core/index.ts'
import { sizeOf } from '../../core/shape.ts'
import type { HostTensor } from '../../io/safetensors.ts'
import { readSafetensors } from '../../io/safetensors-node.ts'

/** Result of JSON.parse. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }
export type JsonObject = { readonly [key: string]: Json }

/** Where, and in which floating-point type, a kind is to compute. */
export interface Run {
  readonly backend: Backend
  readonly dtype: 'f32' | 'f64'
}

/** A fixture that was read. */
export class Fixture {
  readonly dir: string
  readonly manifest: JsonObject
  readonly kind: string
  readonly config: JsonObject
  readonly tensors: ReadonlyMap<string, HostTensor>
  /** Inputs, parameters and scalars that were taken. */
  readonly taken = new Set<string>()
  /** Scalars that were taken as settings, for messages; whoever compares clears it. */
  readonly settings = new Map<string, number>()

  /** Throws on a folder, manifest or tensor file that cannot be read. */
  constructor(dir: string) {
    this.dir = dir
    const manifest: Json = JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8'))
    if (!isObject(manifest)) throw new Error(`${dir}/manifest.json: expected an object`)
    this.manifest = manifest
    if (typeof manifest.kind !== 'string') throw new Error(`${dir}/manifest.json: expected a string at 'kind'`)
    this.kind = manifest.kind
    this.config = isObject(manifest.config) ? manifest.config : {}
    this.tensors = readSafetensors(join(dir, 'fixture.safetensors')).tensors
  }

  has(key: string): boolean {
    return this.tensors.has(key)
  }

  /** Names after `prefix`, such as `param.`. */
  names(prefix: string): string[] {
    return [...this.tensors.keys()].filter(key => key.startsWith(prefix)).map(key => key.slice(prefix.length))
  }

  /** Elements of an input or parameter as they are stored. Throws on an unknown key. */
  host(key: string): HostTensor {
    const found = this.tensors.get(key)
    if (found === undefined) throw new Error(`expected '${key}', which the fixture does not hold`)
    this.taken.add(key)
    return found
  }

  /** Row `index` of the leading axis of `host(key)`: what one step of a loop is given. Throws on an unknown key. */
  hostRow(key: string, index: number): HostTensor {
    const { dtype, data, shape } = this.host(key)
    const size = sizeOf(shape.slice(1))
    return { dtype, shape: shape.slice(1), data: data.slice(index * size, (index + 1) * size) }
  }

  /** An input or parameter as a tensor, placed as `onDevice` does. Throws on an unknown key. */
  tensor(key: string, run: Run): Tensor {
    return onDevice(this.host(key), run)
  }

  /** `hostRow(key, index)` as a tensor. */
  row(key: string, index: number, run: Run): Tensor {
    return onDevice(this.hostRow(key, index), run)
  }

  /** All `param.*` by name without that prefix, as stored. */
  parameters(): Map<string, HostTensor> {
    return new Map(this.names('param.').map(name => [name, this.host(`param.${name}`)]))
  }

  /** Every scalar result and setting of the manifest; the parameter counts are `param_count.…`. */
  get scalars(): Map<string, number> {
    const found = new Map<string, number>()
    const { scalars = {}, param_count: counts = {} } = this.manifest
    if (isObject(scalars))
      for (const [name, entry] of Object.entries(scalars)) {
        const value = isObject(entry) ? entry.value : entry
        found.set(name, typeof value === 'number' ? value : Number.NaN)
      }
    if (isObject(counts))
      for (const [name, value] of Object.entries(counts))
        if (typeof value === 'number') found.set(`param_count.${name}`, value)
    return found
  }

  /** A scalar that is a setting, not a result. Throws when the manifest has none of that name. */
  setting(name: string): number {
    const value = this.scalars.get(name)
    if (value === undefined) throw new Error(`expected scalar '${name}', which the manifest does not hold`)
    this.taken.add(`scalar.${name}`)
    this.settings.set(name, value)
    return value
  }
}

/** Stored elements as a tensor: floats in the run's type, integers as i32. */
export function onDevice({ dtype, data, shape }: HostTensor, { backend, dtype: float }: Run): Tensor {
  return tensor(data, { shape, backend, dtype: dtype.startsWith('F') ? float : 'i32' })
}

/** True for an object that is not a list. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

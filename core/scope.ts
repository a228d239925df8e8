/**
 * Lifetimes without reference counts in user code: `scope(() => …)` frees every tensor created inside it, except what
 * it returns and what is marked persistent, both with the graph that they still need. Dispatch is synchronous on every
 * backend, so a whole training step fits in one scope and the only `await` comes after it.
 */

import { checkFunction, checkSynchronous, type Synchronous } from './synchronous.ts'
import { atCaller } from './traceback.ts'

/** Marks the handles that scopes free. */
export const scopedBrand: unique symbol = Symbol('scoped')

/** A handle that a scope frees: a tensor. */
export interface Scoped {
  readonly [scopedBrand]: true
  readonly disposed: boolean
  /** True if scopes leave it alone. */
  persistent: boolean
  /** Freed with its leaf. */
  grad: Scoped | null
  dispose(): void
}

interface Frame {
  readonly parent: Frame | null
  readonly handles: Scoped[]
}

let current: Frame | null = null

/** Called by every new handle: the innermost scope will dispose it. */
export function adopt(handle: Scoped): void {
  current?.handles.push(handle)
}

/** Runs `fn` outside every scope: what it creates is freed by hand. The tape keeps what it saves this way. */
export function unscoped<T>(fn: () => T): T {
  const frame = current
  current = null
  try {
    return fn()
  } finally {
    current = frame
  }
}

/**
 * Runs `fn` and frees the tensors that it created, except those in its result (a tensor, or arrays, maps, sets and plain
 * objects of them), which pass to the enclosing scope, and persistent ones. Throws if `fn` returns a promise, or an
 * instance of a class that holds tensors which the scope would free.
 */
export function scope<T>(fn: () => Synchronous<T>): T {
  checkFunction('scope', fn)
  const frame: Frame = { parent: current, handles: [] }
  current = frame
  let result: T
  let kept: ReadonlySet<object> = none
  try {
    result = checkSynchronous('scope', fn())
    if (result !== null && typeof result === 'object') kept = keptBy(result, frame)
  } catch (error) {
    current = frame.parent
    close(frame, none)
    throw error
  }
  current = frame.parent
  close(frame, kept)
  return result
}

/** `scope` for a function that returns a list of new handles: they are known without a search. Null stands for none. */
export function scopeOfList<T extends readonly (Scoped | null)[]>(fn: () => T): T {
  const frame: Frame = { parent: current, handles: [] }
  current = frame
  let list: T
  try {
    list = fn()
  } catch (error) {
    current = frame.parent
    close(frame, none)
    throw error
  }
  current = frame.parent
  for (const handle of list) if (handle !== null) handle.persistent = true
  close(frame, none)
  for (const handle of list)
    if (handle !== null) {
      handle.persistent = false
      adopt(handle)
    }
  return list
}

const none: ReadonlySet<object> = new Set()

function isScoped(value: object): value is Scoped {
  return scopedBrand in value
}

/** The handles inside a result. Throws if an instance of a class holds others that `frame` would free. */
function keptBy(result: object, frame: Frame): ReadonlySet<object> {
  const kept = new Set<object>()
  const instances = collect(result, isContainer, kept, [])
  if (instances.length === 0) return kept
  const held = new Set<object>()
  collect(instances, value => !ArrayBuffer.isView(value), held, [])
  for (const handle of frame.handles)
    if (held.has(handle) && !kept.has(handle) && !handle.persistent && !handle.disposed)
      throw atCaller(
        new Error(
          `scope: expected tensors in arrays, maps, sets and plain objects, got an instance of ` +
            `${instances.map(instance => instance.constructor.name).join(', ')} that holds some; persist() them`,
        ),
      )
  return kept
}

/** Maps, sets and plain objects. */
function isContainer(value: object): boolean {
  if (value instanceof Map || value instanceof Set) return true
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** Adds the handles inside a value to `found`, and objects that are neither arrays nor opened by `opens` to `closed`. */
function collect(
  value: unknown,
  opens: (value: object) => boolean,
  found: Set<object>,
  closed: object[],
  depth = 0,
): object[] {
  if (value === null || typeof value !== 'object') return closed
  if (Array.isArray(value)) {
    // Arrays of arrays, which the tape returns, are no cycle yet.
    if (depth > 1) {
      if (found.has(value)) return closed
      found.add(value)
    }
    for (let i = 0; i < value.length; i++) collect(value[i], opens, found, closed, depth + 1)
  } else if (isScoped(value)) found.add(value)
  else if (!opens(value)) closed.push(value)
  else if (!found.has(value)) {
    found.add(value)
    const items = value instanceof Map ? [...value].flat() : value instanceof Set ? [...value] : Object.values(value)
    collect(items, opens, found, closed, depth + 1)
  }
  return closed
}

function close(frame: Frame, kept: ReadonlySet<object>): void {
  for (const handle of frame.handles) {
    if (handle.persistent) continue
    if (kept.has(handle)) frame.parent?.handles.push(handle)
    else {
      if (handle.grad !== null && kept.has(handle.grad)) handOver(handle, handle.grad, frame.parent)
      handle.dispose()
    }
  }
}

/** The gradient of a leaf that is freed, when the scope returns it, becomes a tensor like any other. */
function handOver(leaf: Scoped, gradient: Scoped, to: Frame | null): void {
  leaf.grad = null
  gradient.persistent = false
  to?.handles.push(gradient)
}

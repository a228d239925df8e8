/**
 * Lifetimes without reference counts in user code: `scope(() => …)` frees every tensor created inside it, except what
 * it returns and what is marked persistent, both with the graph that they still need. Dispatch is synchronous on every
 * backend, so a whole training step fits in one scope and the only `await` comes after it.
 */

import { Tensor } from './tensor.ts'

interface Frame {
  readonly parent: Frame | null
  readonly tensors: Tensor[]
}

let current: Frame | null = null

/** Called by every new tensor handle: the innermost scope will dispose it. */
export function adoptTensor(tensor: Tensor): void {
  current?.tensors.push(tensor)
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

type Synchronous<T> = T extends PromiseLike<unknown> ? never : T

/**
 * Runs `fn` and frees the tensors that it created, except those in its result (a tensor, or arrays and plain objects
 * of them), which pass to the enclosing scope, and persistent ones. Throws when `fn` returns a promise.
 */
export function scope<T>(fn: () => Synchronous<T>): T {
  const frame: Frame = { parent: current, tensors: [] }
  current = frame
  let result: T
  const kept = new Set<Tensor>()
  try {
    result = fn()
    if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function')
      throw new Error('scope: wanted a synchronous function, got one that returns a promise; await after the scope')
    collect(result, kept)
  } catch (error) {
    kept.clear()
    current = frame.parent
    close(frame, kept)
    throw error
  }
  current = frame.parent
  close(frame, kept)
  return result
}

/** The tensors inside a result. */
function collect(value: unknown, into: Set<Tensor>): void {
  if (value instanceof Tensor) into.add(value)
  else if (Array.isArray(value)) for (const item of value) collect(item, into)
  else if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype)
    for (const item of Object.values(value)) collect(item, into)
}

function close(frame: Frame, kept: ReadonlySet<Tensor>): void {
  for (const tensor of frame.tensors) {
    if (tensor.persistent) continue
    if (kept.has(tensor)) frame.parent?.tensors.push(tensor)
    else {
      if (tensor.grad !== null && kept.has(tensor.grad)) handOver(tensor, tensor.grad, frame.parent)
      tensor.dispose()
    }
  }
}

/** The gradient of a leaf that goes, when the scope returns it, becomes a tensor like any other. */
function handOver(leaf: Tensor, gradient: Tensor, to: Frame | null): void {
  leaf.grad = null
  gradient.persistent = false
  to?.tensors.push(gradient)
}

/**
 * Dispatch is synchronous, and so are the functions that scopes, `noGrad` and `profile` run: what an async one does after
 * its first `await` would run outside of them.
 */

import { atCaller } from './traceback.ts'

/** T, unless it is a promise. */
export type Synchronous<T> = T extends PromiseLike<unknown> ? never : T

/** Throws TypeError unless a function was given. */
export function checkFunction(op: string, fn: unknown): void {
  if (typeof fn !== 'function')
    throw atCaller(
      new TypeError(
        `${op}: expected fn to be a function, got ${fn === null ? 'null' : `a value of type ${typeof fn}`}`,
      ),
    )
}

/** Returns the result of a function that must be synchronous. Throws if it is a promise, whose rejection is handled. */
export function checkSynchronous<T>(op: string, result: T): T {
  if (typeof (result as { then?: unknown } | null | undefined)?.then !== 'function') return result
  if (result instanceof Promise) result.catch(() => {})
  throw atCaller(new Error(`${op}: expected a synchronous function, got one that returns a promise; await after ${op}`))
}

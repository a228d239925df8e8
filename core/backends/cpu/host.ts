/**
 * The memory that a loop runs on: allocates its result and gives typed arrays over storages. The cpu backend
 * is one host; another backend becomes one to borrow a loop for a kernel that it lacks.
 */

import type { Spec, Storage } from '../../backend.ts'
import type { DType, TypedArray } from '../../dtype.ts'
import { sizeOf } from '../../shape.ts'

export interface Host {
  /** The elements of a storage, in place. Valid only until the next `alloc`: loops allocate first, then take views. */
  view(storage: Storage): TypedArray
  /** Uninitialised memory. */
  alloc(dtype: DType, length: number): Storage
}

/** Memory for a result. */
export function output(host: Host, out: Spec): Storage {
  return host.alloc(out.dtype, sizeOf(out.shape))
}

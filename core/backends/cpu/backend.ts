/**
 * The `cpu` backend: plain loops on typed arrays, in f32, f64 and i32. It is the specification: written to be read,
 * and what the other backends are tested against. Its fused kernels are there as oracles too, not for speed.
 * Read elementwise.ts, reduce.ts, matmul.ts, movement.ts, gather.ts, window.ts, conv.ts, softmax.ts, norm.ts, attention.ts
 * and optimizer.ts, in that order.
 */

import type { Backend, BackendKernels, Storage } from '../../backend.ts'
import { allocate, bytesPerElement, type DType, type TypedArray } from '../../dtype.ts'
import { elementwiseLoops } from './elementwise.ts'
import type { Host } from './host.ts'

class CpuStorage implements Storage {
  readonly backend: Backend = cpu
  readonly dtype: DType
  readonly length: number
  version = 0
  holds = 0
  data: TypedArray

  constructor(dtype: DType, data: TypedArray) {
    this.dtype = dtype
    this.length = data.length
    this.data = data
  }
}

let bytes = 0
let peakBytes = 0
let storages = 0
let reads = 0

function view(storage: Storage): TypedArray {
  return (storage as CpuStorage).data
}

function alloc(dtype: DType, length: number): Storage {
  const size = length * bytesPerElement[dtype]
  let data: TypedArray
  try {
    data = allocate(dtype, length)
  } catch (error) {
    throw new RangeError(`cpu: no room for ${size} bytes (${length} × ${dtype}); ${bytes} are in use`, { cause: error })
  }
  bytes += size
  peakBytes = Math.max(peakBytes, bytes)
  storages++
  return new CpuStorage(dtype, data)
}

function readSync(storage: Storage): TypedArray {
  reads++
  return view(storage).slice()
}

const host: Host = { view, alloc }

/** All of `createLoops` once the ops that use them are loaded: `addLoops`. */
const kernels = elementwiseLoops(host) as BackendKernels

/**
 * Adds kernels to `cpu`. The files of ops/ that use them call this, so that a bundle without matrix products has no loops
 * for them.
 */
export function addLoops(loops: (host: Host) => Partial<BackendKernels>): void {
  Object.assign(kernels, loops(host))
}

/** The backend of plain loops, in f32, f64 and i32: the specification, and the default until `ready`. */
export const cpu: Backend = {
  name: 'cpu',
  dtypes: ['f32', 'f64', 'i32'],
  kernels,
  alloc,
  free(storage) {
    bytes -= storage.length * bytesPerElement[storage.dtype]
    storages--
    ;(storage as CpuStorage).data = allocate(storage.dtype, 0)
  },
  write(storage, data) {
    if (data.length !== storage.length)
      throw new RangeError(`write: expected ${storage.length} elements, got ${data.length}`)
    view(storage).set(data)
    storage.version++
  },
  read: async storage => readSync(storage),
  readSync,
  stats: () => ({ bytes, peakBytes, storages, fallbacks: 0, reads }),
  resetPeak() {
    peakBytes = bytes
  },
  dispose() {},
  disposed: false, // it holds nothing
}

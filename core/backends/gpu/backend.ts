/**
 * A thin backend on gpu.js, for now in its CPU mode: the required kernels in f32, i32 carried as f32 (exact up to 2^24;
 * `write` refuses more). It is here so that the contract is known to fit a device: results stay behind handles, nothing
 * is read back unless asked, dispatch is synchronous and queued, and only `read` waits. An error inside a kernel, an
 * index out of range among them, is thrown by the next read and names the op. Next: queue.ts, device.ts, required.ts.
 */

import type { Backend, Storage } from '../../backend.ts'
import { bytesPerElement, type DType, type TypedArray } from '../../dtype.ts'
import { sizeOf } from '../../shape.ts'
import { openDevice } from './device.ts'
import type { Handle } from './kernels.ts'
import { TicketQueue } from './queue.ts'
import { requiredKernels } from './required.ts'

const largestInteger = 2 ** 24

class GpuStorage implements Storage {
  readonly backend: Backend
  readonly dtype: DType
  readonly length: number
  version = 0
  holds = 0
  /** Null before the ticket that fills it has run, and after it was freed. */
  handle: Handle | null = null

  constructor(backend: Backend, dtype: DType, length: number) {
    this.backend = backend
    this.dtype = dtype
    this.length = length
  }
}

/** Opens the backend. Throws when the package gpu.js is not installed. */
export async function gpu(): Promise<Backend> {
  const device = await openDevice()
  const queue = new TicketQueue()
  let [bytes, peakBytes, storages, reads] = [0, 0, 0, 0]
  let checks: Promise<Error | null>[] = []

  function alloc(dtype: DType, length: number): GpuStorage {
    if (dtype === 'f64') throw new Error('gpu: wanted f32 or i32, got f64; f64 lives on the cpu backend')
    bytes += length * bytesPerElement[dtype]
    peakBytes = Math.max(peakBytes, bytes)
    storages++
    return new GpuStorage(backend, dtype, length)
  }

  function free(storage: Storage): void {
    bytes -= storage.length * bytesPerElement[storage.dtype]
    storages--
    queue.append('free', () => replace(storage as GpuStorage, null))
  }

  function replace(storage: GpuStorage, handle: Handle | null): void {
    if (storage.handle !== null) device.release(storage.handle)
    storage.handle = handle
  }

  /** Waits for all that was dispatched before. Rejects when a kernel failed, with that kernel's error. */
  function download(storage: Storage): Promise<Float32Array> {
    reads++
    return new Promise((resolve, reject) => {
      queue.append('read', async () => {
        const failure = queue.takeFailure()
        const { handle } = storage as GpuStorage
        if (failure !== null) reject(failure)
        else if (handle === null) reject(new Error('gpu: read of a storage that nothing was written to'))
        else resolve(await device.download(handle))
      })
    })
  }

  const kernels = requiredKernels({
    launch(program, operands, args, out) {
      const y = alloc(out.dtype, sizeOf(out.shape))
      const inputs = operands.map(x => x.storage as GpuStorage)
      queue.append(program.key, async () => {
        const handles = inputs.map(({ handle }) => {
          if (handle === null) throw new Error('an operand was never computed')
          return handle
        })
        y.handle = await device.run(program, y.length, [...handles, ...args])
      })
      return y
    },
    free,
    expectZero(op, count, message) {
      const checked = download(count).then(
        ([n]) => (n === 0 ? null : new RangeError(`${op}: ${message(n)}`)),
        (error: Error) => error,
      )
      checks.push(checked)
      free(count)
    },
  })

  const backend: Backend = {
    name: 'gpu',
    dtypes: ['f32', 'i32'],
    kernels,
    alloc,
    free,
    write(storage, data) {
      if (data.length !== storage.length)
        throw new RangeError(`write: wanted ${storage.length} elements, got ${data.length}`)
      if (storage.dtype === 'i32' && data.some(value => Math.abs(value) > largestInteger))
        throw new RangeError(`gpu: i32 is exact up to ±${largestInteger}, got a larger value`)
      const copy = Float32Array.from(data)
      queue.append('write', () => replace(storage as GpuStorage, device.upload(copy)))
    },
    async read(storage): Promise<TypedArray> {
      const found = checks
      checks = []
      const values = await download(storage)
      for (const failure of await Promise.all(found)) if (failure !== null) throw failure
      return storage.dtype === 'i32' ? Int32Array.from(values) : values
    },
    stats: () => ({ bytes, peakBytes, storages, fallbacks: 0, reads }),
    resetPeak() {
      peakBytes = bytes
    },
    dispose: () => device.destroy(),
  }
  return backend
}

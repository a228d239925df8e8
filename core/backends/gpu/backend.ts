/**
 * The gpu backend. Kernels are flat functions that gpu.js translates (gpujs/). On WebGPU, hand-written shaders replace
 * those that gain from workgroup memory (webgpu/wgsl/), and elementwise kernels wait until another needs their result
 * (webgpu/expressions.ts). Dispatch is synchronous; only `read` is asynchronous. An error
 * on the device, such as an index out of range, is thrown by the next read and names the op. Elements are f32. i32 is
 * held as f32, exact up to ±2^24; `write` refuses larger integers.
 */

import { type Backend, type BackendKernels, indexError, type Operand, type Storage } from '../../backend.ts'
import { bytesPerElement, type DType, type TypedArray, toTypedArray } from '../../dtype.ts'
import { broadcastStrides, collapseAxes, type Shape, sizeOf } from '../../shape.ts'
import { openDevice } from './device.ts'
import { createAttentionKernels } from './gpujs/kernels/attention.ts'
import { createElementwiseKernels } from './gpujs/kernels/elementwise.ts'
import { createGatherKernels, outOfRange } from './gpujs/kernels/gather.ts'
import { createMatmulKernels } from './gpujs/kernels/matmul.ts'
import { createMovementKernels } from './gpujs/kernels/movement.ts'
import { createNormKernels } from './gpujs/kernels/norm.ts'
import { createUpdateKernels } from './gpujs/kernels/optimizer.ts'
import { createReduceKernels, createReduceMiddle } from './gpujs/kernels/reduce.ts'
import { createSoftmaxKernels } from './gpujs/kernels/softmax.ts'
import { createWindowKernels } from './gpujs/kernels/window.ts'
import type { Access, Device, DeviceMode, Handle, Launcher } from './program.ts'
import { createWgslKernels } from './webgpu/kernels.ts'

const largestInteger = 2 ** 24

class GpuStorage implements Storage {
  readonly backend: Backend
  readonly dtype: DType
  readonly length: number
  version = 0
  holds = 0
  /** Null before the first write and after `free`. */
  handle: Handle | null = null
  /** Smallest and largest element of an i32 storage that the host wrote last, else null. */
  range: readonly [number, number] | null = null

  constructor(backend: Backend, dtype: DType, length: number) {
    this.backend = backend
    this.dtype = dtype
    this.length = length
  }
}

export interface GpuOptions {
  /** Default: the first of WebGPU, WebGL 2 and CPU that opens. */
  readonly device?: DeviceMode
  /** True if hand-written shaders replace gpu.js' kernels on WebGPU. Default true. */
  readonly wgsl?: boolean
}

export interface GpuBackend extends Backend {
  /** Kind of device. Results of two kinds differ in the last bits. */
  readonly build: DeviceMode
  readonly device: Device
}

/** An index check on the device: `handle` holds the number of indices out of range. */
interface Check {
  readonly op: string
  readonly rows: number
  handle: Handle
}

/** Opens the backend. Throws if the device is missing or the package gpu.js is not installed. */
export async function gpu({ device: wanted, wgsl = true }: GpuOptions = {}): Promise<GpuBackend> {
  const device = await openDevice(wanted)
  const deferred = wgsl && device.express !== undefined
  let disposed = false
  let [bytes, peakBytes, storages, reads] = [0, 0, 0, 0]
  const checks = new Map<string, Check>()

  function alloc(dtype: DType, length: number): GpuStorage {
    if (dtype === 'f64') throw new Error('gpu: expected f32 or i32, got f64; f64 lives on the cpu backend')
    if (length > device.maxElements)
      throw new RangeError(
        `gpu: expected an array of ${length} elements, got a device that takes ${device.maxElements} (${device.about}); ` +
          'lower the batch size or the width of the model',
      )
    bytes += length * bytesPerElement[dtype]
    peakBytes = Math.max(peakBytes, bytes)
    storages++
    return new GpuStorage(backend, dtype, length)
  }

  function free(storage: Storage): void {
    bytes -= storage.length * bytesPerElement[storage.dtype]
    storages--
    replace(storage as GpuStorage, null)
  }

  function replace(storage: GpuStorage, handle: Handle | null): void {
    if (storage.handle !== null) device.release(storage.handle)
    storage.handle = handle
    storage.range = null
  }

  function handleOf({ storage }: Operand): Handle {
    const { handle } = storage as GpuStorage
    if (handle === null) throw new Error('gpu: read of a storage that nothing was written to')
    return handle
  }

  const launcher: Launcher = {
    device,
    launch(program, operands, out, ints = [], floats = []) {
      const y = alloc(out.dtype, sizeOf(out.shape))
      y.handle = device.run(program, y.length, operands.map(handleOf), ints, floats)
      return y
    },
    express(kernel, operands, out, numbers) {
      const size = sizeOf(out.shape)
      if (!deferred || size === 0) return undefined
      const accesses: Access[] = []
      for (const { shape } of operands) {
        const access = accessOf(shape, out.shape)
        if (access === undefined) return undefined
        accesses.push(access)
      }
      const handles = operands.map(handleOf)
      const y = alloc(out.dtype, size)
      y.handle = device.express!(kernel, size, handles, accesses, numbers)
      return y
    },
    constant(value, out) {
      const size = sizeOf(out.shape)
      if (!deferred || size === 0) return undefined
      const y = alloc(out.dtype, size)
      y.handle = device.constant!(size, Math.fround(out.dtype === 'i32' ? Math.trunc(value) : value))
      return y
    },
    update(target, program, operands, ints = [], floats = []) {
      const storage = target.storage as GpuStorage
      replace(storage, device.run(program, storage.length, operands.map(handleOf), ints, floats))
    },
    plan(plan, named, results) {
      const inputs: Handle[] = []
      for (const name in named) inputs.push(handleOf(named[name]))
      const sizes: number[] = []
      const made: GpuStorage[] = []
      for (const name in results) {
        const { dtype, shape } = results[name]
        const y = alloc(dtype, sizeOf(shape))
        sizes.push(y.length)
        made.push(y)
      }
      const handles = device.plan!(plan, named, inputs, results, sizes)
      for (let i = 0; i < made.length; i++) made[i].handle = handles[i]
      return made
    },
    free,
    checkIndices(op, index, R) {
      if (sizeOf(index.shape) === 0) return
      const { range } = index.storage as GpuStorage
      if (range !== null) {
        const wrong = range.find(i => i < 0 || i >= R)
        if (wrong !== undefined) throw indexError(op, R, wrong)
        return
      }
      const flags = { dtype: 'f32', shape: index.shape } as const
      const storage = launcher.launch({ key: 'outOfRange', kernel: outOfRange }, [index], flags, [R])
      const count = reduceMiddle('sum', { ...flags, storage }, sizeOf(index.shape), 1, { dtype: 'f32', shape: [] })
      free(storage)
      const key = `${op} ${R}`
      const before = checks.get(key)
      const handle = (count as GpuStorage).handle!
      if (before === undefined) checks.set(key, { op, rows: R, handle })
      else {
        const scalar = { dtype: 'f32', shape: [] } as const
        const held = new GpuStorage(backend, 'f32', 1)
        held.handle = before.handle
        const total = kernels.binary('add', { ...scalar, storage: held }, { ...scalar, storage: count }, scalar)
        device.release(before.handle)
        free(count)
        before.handle = (total as GpuStorage).handle!
        forget(total as GpuStorage)
        return
      }
      forget(count as GpuStorage)
    },
  }

  /** Frees a storage but not its handle. */
  function forget(storage: GpuStorage): void {
    storage.handle = null
    free(storage)
  }

  const elementwiseKernels = createElementwiseKernels(launcher)
  const reduceMiddle = createReduceMiddle(launcher, elementwiseKernels)
  const movementKernels = createMovementKernels(launcher, elementwiseKernels)
  const softmaxKernels = createSoftmaxKernels(launcher, reduceMiddle)
  const gpuJsKernels = {
    ...elementwiseKernels,
    ...movementKernels,
    ...createReduceKernels(launcher, { ...elementwiseKernels, ...movementKernels }, reduceMiddle),
    ...createMatmulKernels(launcher),
    ...createGatherKernels(launcher, reduceMiddle),
    ...createWindowKernels(launcher),
    ...softmaxKernels,
    ...createNormKernels(launcher, elementwiseKernels, reduceMiddle),
    ...createAttentionKernels(launcher, softmaxKernels, reduceMiddle),
    ...createUpdateKernels(launcher),
  }
  const kernels: BackendKernels =
    wgsl && device.plan !== undefined ? createWgslKernels(launcher, gpuJsKernels) : gpuJsKernels

  const backend: GpuBackend = {
    name: 'gpu',
    build: device.mode,
    device,
    dtypes: ['f32', 'i32'],
    kernels,
    alloc,
    free,
    write(storage, data) {
      if (data.length !== storage.length)
        throw new RangeError(`write: expected ${storage.length} elements, got ${data.length}`)
      const range = storage.dtype === 'i32' ? rangeOf(data) : null
      if (range !== null && Math.max(-range[0], range[1]) > largestInteger)
        throw new RangeError(`gpu: i32 is exact up to ±${largestInteger}, got a larger value`)
      replace(storage as GpuStorage, device.upload(new Float32Array(data)))
      ;(storage as GpuStorage).range = range
      storage.version++
    },
    async read(storage): Promise<TypedArray> {
      const { handle, length, dtype } = storage as GpuStorage
      if (handle === null) throw new Error('gpu: read of a storage that nothing was written to')
      reads++
      const open = [...checks.values()]
      checks.clear()
      const downloading = device.download([handle, ...open.map(check => check.handle)], [length, ...open.map(() => 1)])
      for (const check of open) device.release(check.handle)
      const [values, ...counts] = await downloading
      open.forEach(({ op, rows }, i) => {
        if (counts[i][0] > 0) throw indexError(op, rows, `${counts[i][0]} outside`)
      })
      return toTypedArray(dtype, values)
    },
    stats: () => ({ bytes, peakBytes, storages, fallbacks: 0, reads }),
    resetPeak() {
      peakBytes = bytes
    },
    dispose() {
      disposed = true
      device.destroy()
    },
    get disposed() {
      return disposed
    },
  }
  return backend
}

/** How an operand is read where it broadcasts to `out`; undefined where that is no `Access`. */
function accessOf(shape: Shape, out: Shape): Access | undefined {
  const count = sizeOf(shape)
  if (count === sizeOf(out)) return 'each'
  if (count === 1) return 'one'
  const { extents, strides } = collapseAxes(out, [broadcastStrides(shape, out)])
  const walked = strides[0].flatMap((stride, axis) => (stride === 0 ? [] : axis))
  const below = (axis: number) => sizeOf(extents.slice(axis + 1))
  if (walked.length === 1 && walked[0] === 0) return { step: below(0), unit: 1, inner: 1 }
  if (walked.length > 2 || (walked.length === 2 && walked[0] !== 0)) return undefined
  const last = walked[walked.length - 1]
  return { step: walked.length === 2 ? below(0) : sizeOf(out), unit: below(last), inner: extents[last] }
}

function rangeOf(data: TypedArray): readonly [number, number] {
  let [low, high] = [0, 0]
  for (let i = 0; i < data.length; i++) {
    if (i === 0 || data[i] < low) low = data[i]
    if (i === 0 || data[i] > high) high = data[i]
  }
  return [low, high]
}

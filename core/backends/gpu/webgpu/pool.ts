/**
 * Pool of buffers on a GPUDevice, by size class. A buffer is reused as soon as it is given back: commands run in the
 * order in which they were recorded, so later dispatches may write where earlier ones read. Classes are at most an
 * eighth apart, and `take` accepts a buffer of the next few classes.
 */

import { usage } from './flags.ts'

export interface PooledBuffer {
  readonly gpu: GPUBuffer
  readonly bytes: number
  /** Identifies the buffer in keys of bind groups. */
  readonly id: number
  /** Batch of commands that last used it. */
  batch: number
}

/** Size classes that `take` searches: up to about 1.4 times the wanted size. */
const reach = 4

/** Returns the size class of a buffer: at least 256 bytes, else three significant bits. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256
  const step = 2 ** (Math.ceil(Math.log2(bytes)) - 4)
  return Math.ceil(bytes / step) * step
}

export class BufferPool {
  reserved = 0
  allocations = 0
  readonly #device: GPUDevice
  readonly #most: number
  readonly #failed: (error: Error) => void
  readonly #free = new Map<number, PooledBuffer[]>()
  readonly #all = new Set<PooledBuffer>()
  #nextId = 0

  /** `most` is the largest buffer of the device. `failed` receives errors of allocation, later. */
  constructor(device: GPUDevice, most: number, failed: (error: Error) => void) {
    this.#device = device
    this.#most = most
    this.#failed = failed
  }

  /** Returns a buffer of at least `bytes` bytes with arbitrary contents. */
  take(bytes: number): PooledBuffer {
    const own = this.#classOf(bytes)
    let wanted = own
    for (let i = 0; i < reach; i++, wanted = this.#classOf(wanted + 1)) {
      const found = this.#free.get(wanted)?.pop()
      if (found !== undefined) return found
    }
    return this.#make(own)
  }

  give(buffer: PooledBuffer): void {
    if (!this.#all.has(buffer)) return
    const waiting = this.#free.get(buffer.bytes)
    if (waiting === undefined) this.#free.set(buffer.bytes, [buffer])
    else waiting.push(buffer)
  }

  /** Destroys free buffers. Commands that use them must have been submitted. */
  drain(): void {
    for (const buffer of [...this.#free.values()].flat()) this.#forget(buffer)
    this.#free.clear()
  }

  destroy(): void {
    for (const { gpu } of this.#all) gpu.destroy()
    this.#all.clear()
    this.#free.clear()
    this.reserved = 0
  }

  /** Returns the size class, capped at the largest buffer of the device; the device refuses larger requests. */
  #classOf(bytes: number): number {
    return Math.max(bytes, Math.min(sizeClass(bytes), this.#most))
  }

  #forget(buffer: PooledBuffer): void {
    buffer.gpu.destroy()
    this.reserved -= buffer.bytes
    this.#all.delete(buffer)
  }

  #make(bytes: number): PooledBuffer {
    this.#device.pushErrorScope('validation')
    this.#device.pushErrorScope('out-of-memory')
    const gpu = this.#device.createBuffer({
      size: bytes,
      usage: usage.storage | usage.uniform | usage.copySource | usage.copyTarget,
    })
    const buffer = { gpu, bytes, id: this.#nextId++, batch: -1 }
    const before = this.reserved
    this.#all.add(buffer)
    this.reserved += bytes
    this.allocations++
    const mib = (n: number) => `${(n / 2 ** 20).toFixed(1)} MiB`
    Promise.all([this.#device.popErrorScope(), this.#device.popErrorScope()]).then(
      ([noMemory, refused]) => {
        if (noMemory === null && refused === null) return
        this.#drop(buffer)
        const why = refused?.message.split('\n')[0]
        this.#failed(
          why === undefined
            ? new Error(
                `gpu: out of device memory: needed ${mib(bytes)} more on top of ${mib(before)}; lower the batch size`,
              )
            : new Error(`gpu: expected a buffer of ${mib(bytes)}, got ${why}`),
        )
      },
      () => {}, // the device is lost, which is reported elsewhere
    )
    return buffer
  }

  /** Removes a buffer whose allocation failed, free or in use. */
  #drop(buffer: PooledBuffer): void {
    if (!this.#all.has(buffer)) return
    this.#forget(buffer)
    const waiting = this.#free.get(buffer.bytes)
    if (waiting?.includes(buffer)) waiting.splice(waiting.indexOf(buffer), 1)
  }
}

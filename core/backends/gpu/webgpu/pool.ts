/**
 * Buffers on a GPUDevice by size class, used again as soon as they are given back: commands run in the order of their
 * making, so what is dispatched later may write where earlier commands read. Classes are at most an eighth apart, and a
 * buffer of one of the next few classes will do. Next: encoder.ts.
 */

import { usage } from './flags.ts'

export interface PooledBuffer {
  readonly gpu: GPUBuffer
  readonly bytes: number
  /** Tells buffers apart in the keys of bind groups. */
  readonly id: number
  /** The batch of commands that last used it. */
  batch: number
}

/** Classes above the wanted one that are looked through: up to about 1.4 times as large. */
const reach = 4

/** The size class of a buffer: 256 bytes at least, else three significant bits. */
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

  /** No buffer that fits in `most` bytes is made larger; `failed` hears, later, of memory that there was not. */
  constructor(device: GPUDevice, most: number, failed: (error: Error) => void) {
    this.#device = device
    this.#most = most
    this.#failed = failed
  }

  /** Its contents do not matter. */
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

  /** Memory that waits goes back to the device. Commands that use it must have been submitted. */
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

  /** The size class, or all that the device takes where that is less; more than that is for the device to refuse. */
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
      usage: usage.storage | usage.copySource | usage.copyTarget,
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
                `gpu: out of device memory: wanted ${mib(bytes)} more on top of ${mib(before)}; lower the batch size`,
              )
            : new Error(`gpu: wanted a buffer of ${mib(bytes)}, got ${why}`),
        )
      },
      () => {}, // the device is gone, which is said elsewhere
    )
    return buffer
  }

  /** A buffer that could not be made is handed out no more, whether it waits or is still in use. */
  #drop(buffer: PooledBuffer): void {
    if (!this.#all.has(buffer)) return
    this.#forget(buffer)
    const waiting = this.#free.get(buffer.bytes)
    if (waiting?.includes(buffer)) waiting.splice(waiting.indexOf(buffer), 1)
  }
}

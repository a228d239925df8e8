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
  readonly #failed: (error: Error) => void
  readonly #free = new Map<number, PooledBuffer[]>()
  readonly #all = new Set<PooledBuffer>()
  #nextId = 0

  /** `failed` hears, later, of memory that there was not. */
  constructor(device: GPUDevice, failed: (error: Error) => void) {
    this.#device = device
    this.#failed = failed
  }

  /** Its contents do not matter. */
  take(bytes: number): PooledBuffer {
    let wanted = sizeClass(bytes)
    const own = wanted
    for (let i = 0; i < reach; i++, wanted = sizeClass(wanted + 1)) {
      const found = this.#free.get(wanted)?.pop()
      if (found !== undefined) return found
    }
    return this.#make(own)
  }

  give(buffer: PooledBuffer): void {
    const waiting = this.#free.get(buffer.bytes)
    if (waiting === undefined) this.#free.set(buffer.bytes, [buffer])
    else waiting.push(buffer)
  }

  destroy(): void {
    for (const { gpu } of this.#all) gpu.destroy()
    this.#all.clear()
    this.#free.clear()
    this.reserved = 0
  }

  #make(bytes: number): PooledBuffer {
    this.#device.pushErrorScope('out-of-memory')
    const gpu = this.#device.createBuffer({
      size: bytes,
      usage: usage.storage | usage.copySource | usage.copyTarget,
    })
    this.reserved += bytes
    this.allocations++
    const reserved = this.reserved
    const mib = (n: number) => `${(n / 2 ** 20).toFixed(1)} MiB`
    this.#device.popErrorScope().then(
      error => {
        if (error === null) return
        this.#failed(
          new Error(
            `gpu: out of device memory: wanted ${mib(bytes)} more on top of ${mib(reserved - bytes)}; lower the batch size`,
          ),
        )
      },
      () => {}, // the device is gone, which is said elsewhere
    )
    const buffer = { gpu, bytes, id: this.#nextId++, batch: -1 }
    this.#all.add(buffer)
    return buffer
  }
}

/**
 * The WebGPU device: it runs translated kernels and plans of hand-written shaders, both as programs, with one pool of
 * buffers and one encoder. Dispatch is synchronous; the next download reports errors of the device.
 */

import { type Device, type Handle, lostDevice, type Program, type Translator } from '../program.ts'
import { closeAdapter, type Opened } from './adapter.ts'
import { Encoder, type Shader } from './encoder.ts'
import { mapRead, usage } from './flags.ts'
import { BufferPool, type PooledBuffer } from './pool.ts'

export interface WebGpuDevice extends Device {
  readonly gpu: GPUDevice
  readonly encoder: Encoder
}

/** Resolves in the next turn of the event loop. The device reports the cause of a failure after its consequences. */
const nextTurn = () => new Promise(resolve => setTimeout(resolve, 0))

export function openWebGpu(translate: Translator, { device, name }: Opened, about: string): WebGpuDevice {
  let failure: Error | null = null
  const failed = (error: Error) => {
    failure ??= error
  }
  const encoder = new Encoder(device)
  const { maxStorageBufferBindingSize, maxBufferSize } = device.limits
  const maxElements = Math.floor(Math.min(maxStorageBufferBindingSize, maxBufferSize) / 4)
  const pool = new BufferPool(device, 4 * maxElements, error => {
    failure = error // replaces the errors that follow from it
    encoder.flush()
    pool.drain() // frees buffers of other sizes for the next attempt
  })
  const shaders = new Map<string, Shader>()
  let closed = false

  device.onuncapturederror = ({ error }) => failed(new Error(`gpu: ${error.message}`))
  device.lost.then(({ reason, message }) => {
    if (!closed) failed(lostDevice(name, message || reason))
  })

  function dispatch(program: Program, buffers: readonly PooledBuffer[]): void {
    let shader = shaders.get(program.key)
    if (shader === undefined) {
      shader = encoder.shader(program)
      shaders.set(program.key, shader)
    }
    encoder.dispatch(shader, program, buffers)
  }

  return {
    mode: 'webgpu',
    about,
    gpu: device,
    encoder,
    maxElements,

    upload(data) {
      const buffer = pool.take(data.byteLength)
      // writeBuffer precedes all commands not yet submitted, so those that use the buffer are submitted first.
      if (buffer.batch === encoder.batch) encoder.flush()
      device.queue.writeBuffer(buffer.gpu, 0, data as Float32Array<ArrayBuffer>)
      return buffer
    },

    run(kernel, size, arrays, ints, floats) {
      const result = pool.take(4 * size)
      if (size > 0)
        dispatch(translate(kernel, size, arrays.length, ints, floats), [...(arrays as PooledBuffer[]), result])
      return result
    },

    plan({ steps, scratch }, handles, results) {
      const buffers = handles as Record<string, PooledBuffer>
      for (const name in scratch) buffers[name] = pool.take(4 * scratch[name])
      for (const name in results) buffers[name] = pool.take(4 * results[name])
      for (const { program, buffers: names } of steps) {
        if (program.workgroups === 0) continue
        const bound = names.map(name => {
          if (buffers[name] === undefined) throw new Error(`${program.key}: expected a buffer '${name}', got none`)
          return buffers[name]
        })
        dispatch(program, bound)
      }
      for (const name in scratch) pool.give(buffers[name])
    },

    async download(handles, sizes) {
      const offsets: number[] = []
      let bytes = 0
      for (const size of sizes) {
        offsets.push(bytes)
        bytes += 4 * size
      }
      const staging = device.createBuffer({
        size: Math.max(bytes, 4),
        usage: usage.copyTarget | usage.mapRead,
      })
      handles.forEach((handle, i) => {
        if (sizes[i] > 0) encoder.copy(handle as PooledBuffer, staging, offsets[i], 4 * sizes[i])
      })
      encoder.flush()
      try {
        await staging.mapAsync(mapRead)
      } catch (error) {
        await nextTurn()
        failed(new Error(`gpu: ${(error as Error).message}`))
      }
      if (failure !== null) {
        await nextTurn()
        const told = failure
        failure = null
        throw told
      }
      const all = new Float32Array(staging.getMappedRange().slice(0))
      staging.destroy()
      return sizes.map((size, i) => all.subarray(offsets[i] / 4, offsets[i] / 4 + size))
    },

    release: (handle: Handle) => pool.give(handle as PooledBuffer),

    async settled() {
      encoder.flush()
      await device.queue.onSubmittedWorkDone()
    },

    counters: () => ({
      built: encoder.shaders,
      dispatches: encoder.dispatches,
      submits: encoder.submits,
      reserved: pool.reserved,
      allocations: pool.allocations,
    }),

    destroy() {
      closed = true
      encoder.destroy()
      pool.destroy()
      device.destroy()
      closeAdapter()
    },
  }
}

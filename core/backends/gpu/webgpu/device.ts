/**
 * The WebGPU device: it runs translated kernels and plans of hand-written shaders, both as programs, with one pool of
 * buffers and one encoder. Dispatch is synchronous; the next download reports errors of the device.
 */

import type { FlatKernel } from '../gpujs/kernel.ts'
import { functionsOf } from '../gpujs/translate.ts'
import {
  type Device,
  type Handle,
  lostDevice,
  type Plan,
  type Program,
  type Term,
  type Translator,
} from '../program.ts'
import { closeAdapter, type Opened } from './adapter.ts'
import { Encoder, type Shader } from './encoder.ts'
import { Expressions } from './expressions.ts'
import { mapRead, usage } from './flags.ts'
import { BufferPool, type PooledBuffer } from './pool.ts'
import type { Value } from './value.ts'

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

  function shaderOf(program: Program): Shader {
    let shader = shaders.get(program.key)
    if (shader === undefined) {
      shader = encoder.shader(program)
      shaders.set(program.key, shader)
    }
    return shader
  }

  function dispatch(program: Program, buffers: readonly PooledBuffer[]): void {
    encoder.dispatch(shaderOf(program), program, buffers)
  }

  const expressions = new Expressions(pool, dispatch)
  const terms = new Map<FlatKernel, Term>()
  const boundPlans = new WeakMap<Plan, BoundPlan>()

  /** The function of an elementwise kernel of `arrays` operands. */
  function termOf(kernel: FlatKernel, arrays: number): Term {
    let term = terms.get(kernel)
    if (term === undefined) {
      term = functionsOf(kernel, translate, arrays)
      terms.set(kernel, term)
    }
    return term
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
      return expressions.inBuffer(data.length, buffer)
    },

    run(kernel, size, arrays, ints, floats) {
      const values = arrays as Value[]
      expressions.compute(values)
      const result = pool.take(4 * size)
      if (size > 0) {
        const bound = values.map(value => value.buffer!)
        bound.push(result)
        dispatch(translate(kernel, size, arrays.length, ints, floats), bound)
      }
      return expressions.inBuffer(size, result)
    },

    express(kernel, size, operands, accesses, numbers) {
      return expressions.express(termOf(kernel, operands.length), size, operands as Value[], accesses, numbers)
    },

    constant: (size, value) => expressions.constant(size, value),

    plan(plan, named, inputs, results, sizes) {
      let bound = boundPlans.get(plan)
      if (bound === undefined) {
        bound = boundPlan(plan, Object.keys(named), Object.keys(results))
        boundPlans.set(plan, bound)
      }
      const values = inputs as Value[]
      expressions.compute(values)
      for (const i of bound.written) expressions.beforeWrite(values[i])
      const buffers: PooledBuffer[] = []
      for (const value of values) buffers.push(value.buffer!)
      const made: Value[] = []
      for (const size of sizes) {
        const buffer = pool.take(4 * size)
        buffers.push(buffer)
        made.push(expressions.inBuffer(size, buffer))
      }
      const own = buffers.length
      for (const size of bound.scratch) buffers.push(pool.take(4 * size))
      for (const step of bound.steps) {
        if (step.program.workgroups === 0) continue
        step.shader ??= shaderOf(step.program)
        encoder.dispatch(
          step.shader,
          step.program,
          step.from.map(i => buffers[i]),
        )
      }
      for (let i = own; i < buffers.length; i++) pool.give(buffers[i])
      return made
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
      const values = handles as Value[]
      expressions.compute(values)
      values.forEach(({ buffer }, i) => {
        if (sizes[i] > 0) encoder.copy(buffer!, staging, offsets[i], 4 * sizes[i])
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

    release: (handle: Handle) => expressions.release(handle as Value),

    async settled() {
      expressions.computeAll()
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

/** A plan whose buffers have numbers: those of its inputs, then of its results, then of its intermediate values. */
interface BoundPlan {
  readonly steps: { readonly program: Program; readonly from: readonly number[]; shader: Shader | null }[]
  /** Elements of the buffers of intermediate values. */
  readonly scratch: readonly number[]
  /** Inputs that a step writes. */
  readonly written: readonly number[]
}

function boundPlan({ steps, scratch }: Plan, inputs: readonly string[], results: readonly string[]): BoundPlan {
  const numbers = new Map([...inputs, ...results, ...Object.keys(scratch)].map((name, i) => [name, i]))
  const bound = steps.map(({ program, buffers }) => {
    const from = buffers.map(name => {
      const i = numbers.get(name)
      if (i === undefined) throw new Error(`${program.key}: expected a buffer '${name}', got none`)
      return i
    })
    return { program, from, shader: null }
  })
  const written = bound.flatMap(({ program, from }) => from.slice(program.scalars + program.reads))
  return {
    steps: bound,
    scratch: Object.values(scratch),
    written: [...new Set(written)].filter(i => i < inputs.length),
  }
}

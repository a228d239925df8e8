/**
 * Encodes plans on a device: pipelines are kept by key, uniform blocks by content, so that a step that repeats builds and
 * allocates nothing here. The caller owns the buffers and the compute pass and decides when to submit; dispatches of one
 * pass see each other's results in order. Next: matmul.ts.
 */

import { folded, type Plan, type Program } from './program.ts'

/** Distance of uniform blocks in a buffer: the alignment that every device takes. */
const blockBytes = 256
const blocksPerBuffer = 256
/** GPUBufferUsage.COPY_DST and .UNIFORM, whose names Node does not know. */
const blockUsage = 0x08 | 0x40

export class Runner {
  /** Dispatches encoded so far. */
  dispatches = 0
  readonly #device: GPUDevice
  readonly #pipelines = new Map<string, GPUComputePipeline>()
  readonly #blocks = new Map<string, GPUBufferBinding>()
  readonly #blockBuffers: GPUBuffer[] = []

  constructor(device: GPUDevice) {
    this.#device = device
  }

  /** Pipelines built so far. */
  get pipelines(): number {
    return this.#pipelines.size
  }

  /**
   * Encodes all steps of `plan`. `buffers` has the kernel's operands and results by the names that the plan's function
   * documents, and one buffer for each name in `plan.scratch`. Throws on a missing buffer.
   */
  encode(pass: GPUComputePassEncoder, plan: Plan, buffers: Readonly<Record<string, GPUBuffer>>): void {
    for (const { program, buffers: names } of plan.steps) {
      if (program.workgroups === 0) continue
      const pipeline = this.#pipeline(program)
      const bound = names.map((name, i) => {
        const buffer = buffers[name]
        if (buffer === undefined) throw new Error(`${program.key}: wanted a buffer '${name}', got none`)
        return { binding: i + 1, resource: { buffer } }
      })
      const layout = pipeline.getBindGroupLayout(0)
      const entries = [{ binding: 0, resource: this.#block(program.params) }, ...bound]
      pass.setPipeline(pipeline)
      pass.setBindGroup(0, this.#device.createBindGroup({ layout, entries }))
      pass.dispatchWorkgroups(...folded(program.workgroups))
      this.dispatches++
    }
  }

  /** Releases uniform blocks and forgets pipelines. */
  dispose(): void {
    for (const buffer of this.#blockBuffers) buffer.destroy()
    this.#blockBuffers.length = 0
    this.#blocks.clear()
    this.#pipelines.clear()
  }

  #pipeline({ key, code }: Program): GPUComputePipeline {
    let pipeline = this.#pipelines.get(key)
    if (pipeline === undefined) {
      const module = this.#device.createShaderModule({ label: key, code: code() })
      pipeline = this.#device.createComputePipeline({ label: key, layout: 'auto', compute: { module } })
      this.#pipelines.set(key, pipeline)
    }
    return pipeline
  }

  /** A block is written once, before anything that reads it is submitted, and never again. */
  #block(params: ArrayBuffer): GPUBufferBinding {
    const key = new Uint32Array(params).join()
    let block = this.#blocks.get(key)
    if (block === undefined) {
      const slot = this.#blocks.size % blocksPerBuffer
      if (slot === 0)
        this.#blockBuffers.push(
          this.#device.createBuffer({
            label: 'uniform blocks',
            size: blockBytes * blocksPerBuffer,
            usage: blockUsage,
          }),
        )
      const buffer = this.#blockBuffers.at(-1)!
      block = { buffer, offset: slot * blockBytes, size: Math.ceil(params.byteLength / 16) * 16 }
      this.#device.queue.writeBuffer(buffer, slot * blockBytes, params)
      this.#blocks.set(key, block)
    }
    return block
  }
}

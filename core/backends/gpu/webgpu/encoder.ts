/**
 * Records commands for a GPUDevice and submits them in batches: dispatches share one compute pass until a copy needs
 * their results or the batch is full. The uniform blocks of a batch share a buffer, written once before the submit.
 * Bind groups are cached by their buffers, so a repeated step creates none.
 */

import { ceilDiv } from '../../../shape.ts'
import { gridOf, type Program } from '../program.ts'
import { computeStage, mapRead, usage } from './flags.ts'
import type { PooledBuffer } from './pool.ts'

/** A compiled shader: its uniform block at binding 0 of group 0, then buffers of one element, then storage buffers. */
export interface Shader {
  readonly label: string
  readonly id: number
  readonly pipeline: GPUComputePipeline
  readonly layout: GPUBindGroupLayout
  /** Number of buffers of one element. */
  readonly scalars: number
}

/** Distance between uniform blocks: an alignment that every device accepts. */
const blockBytes = 256
/** Bytes that a shader sees of a buffer of one element: a uniform has at least 16. */
const scalarBytes = 16
/** Most dispatches of a batch. */
const batchSize = 256
/** Most cached bind groups; beyond it the cache is cleared. */
const mostGroups = 20_000
const mostTimed = 2048
/** Multiplier of the hash of bind groups: odd and large, so that small numbers are spread over all words. */
const hashFactor = 0x9e3779b1

export class Encoder {
  dispatches = 0
  submits = 0
  /** Number of the current batch. A buffer with this `batch` is used by commands not yet submitted. */
  batch = 0
  readonly #device: GPUDevice
  /** Bind groups by a hash of the shader and the buffers. */
  readonly #groups = new Map<number, Group[]>()
  #made = 0
  readonly #blocks = new Uint32Array((blockBytes / 4) * batchSize)
  readonly #uniforms: GPUBuffer
  #used = 0
  #commands: GPUCommandEncoder | null = null
  #pass: GPUComputePassEncoder | null = null
  #shaders = 0
  #timer: Timer | null = null

  constructor(device: GPUDevice) {
    this.#device = device
    this.#uniforms = device.createBuffer({
      label: 'uniform blocks',
      size: this.#blocks.byteLength,
      usage: usage.uniform | usage.copyTarget,
    })
  }

  get shaders(): number {
    return this.#shaders
  }

  /** Compiles the code of a program. The device reports errors. */
  shader({ key: label, code, params, scalars, reads, writes }: Program): Shader {
    const layout = this.#device.createBindGroupLayout({
      entries: [
        {
          binding: 0,
          visibility: computeStage,
          buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: 16 * ceilDiv(params.byteLength, 16) },
        },
        ...Array.from({ length: scalars + reads + writes }, (_, i) => ({
          binding: i + 1,
          visibility: computeStage,
          buffer:
            i < scalars
              ? { type: 'uniform' as const, minBindingSize: scalarBytes }
              : { type: i < scalars + reads ? ('read-only-storage' as const) : ('storage' as const) },
        })),
      ],
    })
    const pipeline = this.#device.createComputePipeline({
      label,
      layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: this.#device.createShaderModule({ label, code: code() }) },
    })
    return { label, id: this.#shaders++, pipeline, layout, scalars }
  }

  /** Appends a dispatch of `program`, compiled as `shader`, whose uniform block has at most 256 bytes. */
  dispatch(shader: Shader, { params, workgroups }: Program, buffers: readonly PooledBuffer[]): void {
    if (this.#used === batchSize) this.flush()
    this.#commands ??= this.#device.createCommandEncoder()
    const offset = this.#used++ * blockBytes
    this.#blocks.set(params, offset / 4)
    for (const buffer of buffers) buffer.batch = this.batch
    const timed = this.#timer?.begin(shader.label)
    if (timed !== undefined || this.#pass === null) this.#pass = this.#commands.beginComputePass(timed)
    const pass = this.#pass
    pass.setPipeline(shader.pipeline)
    pass.setBindGroup(0, this.#group(shader, buffers), [offset])
    pass.dispatchWorkgroups(...gridOf(workgroups))
    if (timed !== undefined) this.#endPass()
    this.dispatches++
  }

  /** Appends a copy of `bytes` bytes. */
  copy(from: PooledBuffer, to: GPUBuffer, toOffset: number, bytes: number): void {
    this.#endPass()
    this.#commands ??= this.#device.createCommandEncoder()
    from.batch = this.batch
    this.#commands.copyBufferToBuffer(from.gpu, 0, to, toOffset, bytes)
  }

  /** Submits the recorded commands. */
  flush(): void {
    if (this.#commands === null) return
    this.#endPass()
    if (this.#used > 0)
      this.#device.queue.writeBuffer(this.#uniforms, 0, this.#blocks, 0, (this.#used * blockBytes) / 4)
    this.#timer?.resolve(this.#commands)
    this.#device.queue.submit([this.#commands.finish()])
    this.#timer?.submitted()
    this.#commands = null
    this.#used = 0
    this.batch++
    this.submits++
  }

  /** Starts timing every dispatch on the device, each in its own pass. Needs the feature timestamp-query. */
  startTiming(): void {
    this.flush()
    this.#timer = new Timer(this.#device)
  }

  /** Stops timing and returns milliseconds on the device by shader. */
  async stopTiming(): Promise<Map<string, { ms: number; calls: number }>> {
    this.flush()
    const timer = this.#timer
    this.#timer = null
    return timer === null ? new Map() : timer.finish()
  }

  destroy(): void {
    this.#commands = null
    this.#pass = null
    this.#groups.clear()
    this.#uniforms.destroy()
  }

  #endPass(): void {
    this.#pass?.end()
    this.#pass = null
  }

  #group(shader: Shader, buffers: readonly PooledBuffer[]): GPUBindGroup {
    let hash = shader.id
    for (let i = 0; i < buffers.length; i++) hash = (Math.imul(hash, hashFactor) + buffers[i].id) | 0
    const groups = this.#groups.get(hash)
    if (groups !== undefined) for (const each of groups) if (isOf(each, shader, buffers)) return each.group
    const uniforms = { binding: 0, resource: { buffer: this.#uniforms, size: blockBytes } }
    const others = buffers.map(({ gpu }, i) => ({
      binding: i + 1,
      resource: i < shader.scalars ? { buffer: gpu, size: scalarBytes } : { buffer: gpu },
    }))
    const group = this.#device.createBindGroup({ layout: shader.layout, entries: [uniforms, ...others] })
    const made = { shader, buffers, group }
    if (groups === undefined) this.#groups.set(hash, [made])
    else groups.push(made)
    if (++this.#made < mostGroups) return group
    this.#groups.clear()
    this.#made = 0
    return group
  }
}

/** A bind group and what it was made of. */
interface Group {
  readonly shader: Shader
  readonly buffers: readonly PooledBuffer[]
  readonly group: GPUBindGroup
}

function isOf({ shader, buffers }: Group, wanted: Shader, among: readonly PooledBuffer[]): boolean {
  if (shader !== wanted) return false
  for (let i = 0; i < buffers.length; i++) if (buffers[i] !== among[i]) return false
  return true
}

/** Time stamps around dispatches, read batch by batch. */
class Timer {
  readonly #device: GPUDevice
  readonly #set: GPUQuerySet
  readonly #resolved: GPUBuffer
  readonly #totals = new Map<string, { ms: number; calls: number }>()
  readonly #reading: Promise<void>[] = []
  #labels: string[] = []
  #staging: GPUBuffer | null = null

  constructor(device: GPUDevice) {
    this.#device = device
    this.#set = device.createQuerySet({ type: 'timestamp', count: 2 * mostTimed })
    this.#resolved = device.createBuffer({
      size: 16 * mostTimed,
      usage: usage.queryResolve | usage.copySource,
    })
  }

  begin(label: string): GPUComputePassDescriptor {
    const at = 2 * this.#labels.length
    this.#labels.push(label)
    const timestampWrites = { querySet: this.#set, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 }
    return { timestampWrites }
  }

  resolve(commands: GPUCommandEncoder): void {
    const count = 2 * this.#labels.length
    if (count === 0) return
    this.#staging = this.#device.createBuffer({
      size: 8 * count,
      usage: usage.copyTarget | usage.mapRead,
    })
    commands.resolveQuerySet(this.#set, 0, count, this.#resolved, 0)
    commands.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, 8 * count)
  }

  submitted(): void {
    const [staging, labels] = [this.#staging, this.#labels]
    this.#staging = null
    this.#labels = []
    if (staging === null) return
    this.#reading.push(
      staging.mapAsync(mapRead).then(() => {
        const stamps = new BigUint64Array(staging.getMappedRange())
        labels.forEach((label, i) => {
          const row = this.#totals.get(label) ?? { ms: 0, calls: 0 }
          row.ms += Number(stamps[2 * i + 1] - stamps[2 * i]) / 1e6
          row.calls++
          this.#totals.set(label, row)
        })
        staging.destroy()
      }),
    )
  }

  async finish(): Promise<Map<string, { ms: number; calls: number }>> {
    await Promise.all(this.#reading)
    this.#set.destroy()
    this.#resolved.destroy()
    return this.#totals
  }
}

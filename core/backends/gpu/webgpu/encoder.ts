/**
 * Records commands for a GPUDevice and submits them in batches: dispatches share one compute pass until a copy needs
 * their results or the batch is full. The uniform blocks of a batch share a buffer, written once before the submit.
 * Bind groups are cached by their buffers, so a repeated step creates none.
 */

import { ceilDiv } from '../../../shape.ts'
import { gridOf, type Program } from '../program.ts'
import { computeStage, mapRead, usage } from './flags.ts'
import type { PooledBuffer } from './pool.ts'

/** A compiled shader: its uniform block at binding 0 of group 0, then storage buffers. */
export interface Shader {
  readonly label: string
  readonly id: number
  readonly pipeline: GPUComputePipeline
  readonly layout: GPUBindGroupLayout
}

/** Distance between uniform blocks: an alignment that every device accepts. */
const blockBytes = 256
/** Most dispatches of a batch. */
const batchSize = 256
/** Most cached bind groups; beyond it the cache is cleared. */
const mostGroups = 20_000
const mostTimed = 2048

export class Encoder {
  dispatches = 0
  submits = 0
  /** Number of the current batch. A buffer with this `batch` is used by commands not yet submitted. */
  batch = 0
  readonly #device: GPUDevice
  readonly #groups = new Map<number, Groups>()
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
  shader({ key: label, code, params, reads, writes }: Program): Shader {
    const layout = this.#device.createBindGroupLayout({
      entries: [
        {
          binding: 0,
          visibility: computeStage,
          buffer: { type: 'uniform', hasDynamicOffset: true, minBindingSize: 16 * ceilDiv(params.byteLength, 16) },
        },
        ...Array.from({ length: reads + writes }, (_, i) => ({
          binding: i + 1,
          visibility: computeStage,
          buffer: { type: i < reads ? ('read-only-storage' as const) : ('storage' as const) },
        })),
      ],
    })
    const pipeline = this.#device.createComputePipeline({
      label,
      layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: this.#device.createShaderModule({ label, code: code() }) },
    })
    return { label, id: this.#shaders++, pipeline, layout }
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

  #group({ id, layout }: Shader, buffers: readonly PooledBuffer[]): GPUBindGroup {
    let groups = groupsAt(this.#groups, id)
    for (const buffer of buffers) groups = groupsAt(groups.next, buffer.id)
    if (groups.group !== null) return groups.group
    const uniforms = { binding: 0, resource: { buffer: this.#uniforms, size: blockBytes } }
    const storages = buffers.map(({ gpu }, i) => ({ binding: i + 1, resource: { buffer: gpu } }))
    const group = this.#device.createBindGroup({ layout, entries: [uniforms, ...storages] })
    groups.group = group
    if (++this.#made < mostGroups) return group
    this.#groups.clear()
    this.#made = 0
    return group
  }
}

/** Bind groups whose shader and first buffers are the same, by the next buffer. */
interface Groups {
  /** The group of no further buffer. */
  group: GPUBindGroup | null
  readonly next: Map<number, Groups>
}

function groupsAt(map: Map<number, Groups>, id: number): Groups {
  let found = map.get(id)
  if (found === undefined) {
    found = { group: null, next: new Map() }
    map.set(id, found)
  }
  return found
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

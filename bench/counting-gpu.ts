/**
 * A GPUDevice that computes nothing and counts: dispatches, bytes of the buffers that they read and write, bytes uploaded and
 * submits. What JavaScript takes for a step is then the backend's own time, without an adapter's. Results are zeros.
 */

/** Bytes and dispatches of the programs with one label. */
export interface Counted {
  dispatches: number
  /** Sizes of the bound buffers, each once a dispatch. */
  bytes: number
}

/** Counts since the last `reset`. */
export class GpuCounts {
  readonly kernels = new Map<string, Counted>()
  dispatches = 0
  bytes = 0
  uploaded = 0
  submits = 0

  reset(): void {
    this.kernels.clear()
    this.dispatches = this.bytes = this.uploaded = this.submits = 0
  }

  add(label: string, bytes: number): void {
    const [name] = label.replace('gpu.js ', '').split(' ')
    const row = this.kernels.get(name) ?? { dispatches: 0, bytes: 0 }
    row.dispatches++
    row.bytes += bytes
    this.kernels.set(name, row)
    this.dispatches++
    this.bytes += bytes
  }
}

/** Limits that every WebGPU device has, with the buffers of a card of 80 GiB. */
const limits = {
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 16_384,
  maxStorageBufferBindingSize: 2 ** 34,
  maxBufferSize: 2 ** 34,
}

/** Makes `navigator.gpu` an entry to devices that count in `counts`. */
export function installCountingGpu(counts: GpuCounts): void {
  const adapter = {
    limits,
    features: new Set<string>(),
    info: { vendor: 'none', architecture: '', device: 'an adapter that counts', description: '' },
    requestDevice: async () => countingDevice(counts),
  }
  const gpu = { requestAdapter: async () => adapter }
  Object.defineProperty(globalThis, 'navigator', { value: { gpu }, configurable: true })
}

interface Sized {
  readonly size: number
}
interface Group {
  readonly bytes: number
}

function countingDevice(counts: GpuCounts): object {
  function pass() {
    let [label, bytes] = ['', 0]
    return {
      setPipeline: (pipeline: { readonly label: string }) => {
        label = pipeline.label
      },
      setBindGroup: (_: number, group: Group) => {
        bytes = group.bytes
      },
      dispatchWorkgroups: () => counts.add(label, bytes),
      end: () => {},
    }
  }
  return {
    limits,
    features: new Set<string>(),
    lost: new Promise(() => {}),
    createBuffer: ({ size }: Sized) => ({
      size,
      destroy: () => {},
      mapAsync: async () => {},
      getMappedRange: () => new ArrayBuffer(size),
    }),
    createBindGroupLayout: () => ({}),
    createPipelineLayout: () => ({}),
    createShaderModule: () => ({}),
    createComputePipeline: ({ label }: { readonly label: string }) => ({ label }),
    // The first entry is the uniform block.
    createBindGroup: ({
      entries,
    }: {
      readonly entries: readonly { readonly resource: { readonly buffer: Sized } }[]
    }) => ({
      bytes: entries.slice(1).reduce((sum, { resource }) => sum + resource.buffer.size, 0),
    }),
    createCommandEncoder: () => ({
      beginComputePass: pass,
      copyBufferToBuffer: () => {},
      finish: () => ({}),
    }),
    queue: {
      writeBuffer: (_: Sized, __: number, data: ArrayBufferView, from = 0, length?: number) => {
        const each = (data as Float32Array).BYTES_PER_ELEMENT
        counts.uploaded += length === undefined ? data.byteLength - from * each : length * each
      },
      submit: () => {
        counts.submits++
      },
      onSubmittedWorkDone: async () => {},
    },
    pushErrorScope: () => {},
    popErrorScope: async () => null,
    destroy: () => {},
  }
}

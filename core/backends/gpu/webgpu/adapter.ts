/**
 * Opens a GPUDevice: the browser's, or in Node that of Dawn, from the optional npm package `webgpu`. It requests the
 * largest buffers and a timer, which gpu.js does not for its own device.
 */

export interface Opened {
  readonly device: GPUDevice
  /** Name of the adapter. */
  readonly name: string
  /** True if it computes on the CPU. */
  readonly software: boolean
}

// Dawn destroys an instance that nothing refers to.
let dawn: GPU | null = null

/** Returns the entry to WebGPU, installed as the global that gpu.js reads. Throws if there is none. */
async function entry(): Promise<GPU> {
  const scope = globalThis as { navigator?: { gpu?: GPU }; process?: { versions?: { node?: string } } }
  if (scope.navigator?.gpu !== undefined) return scope.navigator.gpu
  if (scope.process?.versions?.node === undefined) throw new Error('this browser has no WebGPU')
  if (dawn === null) {
    const name = 'webgpu' // a variable keeps it out of bundles for browsers
    const { create, globals } = (await import(name).catch(error => {
      throw new Error(`the package webgpu is missing: npm install webgpu@0.6.2 (${firstLine(error)})`)
    })) as { create(options: string[]): GPU; globals: object }
    Object.assign(globalThis, globals)
    dawn = create([])
  }
  // The navigator of Node 21 and later has no gpu.
  if (scope.navigator === undefined) Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true })
  Object.defineProperty(scope.navigator, 'gpu', { value: dawn, configurable: true })
  return dawn
}

const limits = [
  'maxStorageBufferBindingSize',
  'maxBufferSize',
  'maxComputeWorkgroupStorageSize',
  'maxStorageBuffersPerShaderStage',
] as const

/** Opens the fastest adapter with its largest buffers. Throws, in one line, what is missing. */
export async function openAdapter(): Promise<Opened> {
  try {
    return await request(await entry())
  } catch (error) {
    closeAdapter()
    throw error
  }
}

async function request(gpu: GPU): Promise<Opened> {
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' }).catch(error => {
    throw new Error(`no adapter (${firstLine(error)})`)
  })
  if (adapter === null) throw new Error('no adapter: no driver for Vulkan, Metal or Direct3D 12 was found')
  const device = await adapter.requestDevice({
    requiredLimits: Object.fromEntries(limits.map(name => [name, adapter.limits[name]])),
    requiredFeatures: adapter.features.has('timestamp-query') ? ['timestamp-query'] : [],
  })
  const { vendor, architecture, device: model, description } = adapter.info
  const software = adapter.info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe/i.test(`${architecture} ${model}`)
  const name = [model || architecture, description].filter(Boolean).join(', ') || vendor || 'an unnamed adapter'
  return { device, name, software }
}

/** Releases Dawn's instance, which would keep Node alive. A browser's own entry stays. */
export function closeAdapter(): void {
  if (dawn === null) return
  dawn = null
  Reflect.deleteProperty((globalThis as unknown as { navigator: object }).navigator, 'gpu')
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]
}

/**
 * Chooses and opens a device: WebGPU if there is an adapter, else gpu.js on WebGL 2 or headless WebGL, else gpu.js on
 * the CPU, which is meant for tests. Only this file loads gpu.js.
 */

import { openGpuJs } from './gpujs/device.ts'
import { createTranslator, gpuJsVersion } from './gpujs/translate.ts'
import type { Device, DeviceMode } from './program.ts'
import { closeAdapter, openAdapter } from './webgpu/adapter.ts'
import { openWebGpu } from './webgpu/device.ts'

export const deviceModes: readonly DeviceMode[] = ['webgpu', 'webgl2', 'cpu']

/** Opens `wanted`, or the first device available. Throws, in one line, why none opens. */
export async function openDevice(wanted?: DeviceMode): Promise<Device> {
  const missing: string[] = []
  for (const mode of wanted === undefined ? deviceModes : [wanted]) {
    try {
      return await open(mode, missing)
    } catch (error) {
      missing.push(`${mode}: ${(error as Error).message}`)
    }
  }
  throw new Error(`gpu: ${missing.join('; ')}`)
}

async function open(mode: DeviceMode, missing: readonly string[]): Promise<Device> {
  const why = missing.length === 0 ? '' : ` (${missing.join('; ')})`
  if (mode === 'webgpu') {
    const opened = await openAdapter()
    try {
      const { GPU } = await loadGpuJs()
      const kind = opened.software ? ', which computes on the CPU: right, but slow' : ''
      const translate = createTranslator(new GPU({ mode: 'webgpu' as 'gpu' }))
      return openWebGpu(translate, opened, `gpu: webgpu on ${opened.name}${kind}${why}`)
    } catch (error) {
      opened.device.destroy()
      closeAdapter()
      throw error
    }
  }
  const { GPU } = await loadGpuJs()
  if (mode === 'cpu') return openGpuJs(new GPU({ mode: 'cpu' }), 'cpu', `gpu: gpu.js on the CPU, for tests${why}`)
  const own = (['webgl2', 'headlessgl'] as const).find(name =>
    name === 'webgl2' ? GPU.isWebGL2Supported : GPU.isHeadlessGLSupported,
  )
  if (own === undefined) throw new Error('neither WebGL 2 nor headless WebGL is here')
  return openGpuJs(new GPU({ mode: own }), 'webgl2', `gpu: gpu.js on ${own}${why}`)
}

async function loadGpuJs(): Promise<typeof import('gpu.js')> {
  try {
    // Bundlers take an import inside `try` as optional, so a program builds without gpu.js.
    const loaded = await import('gpu.js')
    // A bundle for browsers has the module in `default`.
    return 'GPU' in loaded ? loaded : (loaded as { default: typeof import('gpu.js') }).default
  } catch (error) {
    throw new Error(`the package gpu.js is missing: npm install gpu.js@${gpuJsVersion} (${(error as Error).message})`)
  }
}

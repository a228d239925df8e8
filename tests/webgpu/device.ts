/**
 * A WebGPU device for tests: the machine's own, else Chromium's software adapter where that is installed. Without either
 * the tests here are skipped. Needs Node.
 */

import { existsSync } from 'node:fs'
import { type GpuBackend, type GpuOptions, gpu } from '../../core/backends/gpu/index.ts'

const software = '/usr/lib/chromium/vk_swiftshader_icd.json'

/** Null, and a line that says why, where there is no adapter. */
export async function openWebGpu(options: GpuOptions = {}): Promise<GpuBackend | null> {
  try {
    return await gpu({ ...options, device: 'webgpu' })
  } catch (error) {
    if (existsSync(software) && process.env.VK_DRIVER_FILES === undefined) {
      process.env.VK_DRIVER_FILES = software
      process.env.VK_ICD_FILENAMES = software
      return openWebGpu(options)
    }
    console.log(`SKIPPED: ${(error as Error).message}`)
    return null
  }
}
